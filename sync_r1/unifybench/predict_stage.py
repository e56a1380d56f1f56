"""The predict stage: every task of one concept to files, in fixed batches, shared between processes, going on where it
stopped.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from sync_r1.data import Concept
from sync_r1.files import MANIFEST
from sync_r1.unifybench.adapters import Adapter, Request
from sync_r1.unifybench.predict import Progress, batches, silent
from sync_r1.unifybench.prediction_store import (
    PredictionStore,
    content_hash,
    find_record,
    forget_partial,
    read_task,
    records_of,
    unanswered,
    write_answer,
    write_drawing,
    write_manifest,
)
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import TASKS, UNDERSTANDING
from sync_r1.unifybench.tasks import EvalItem


def predict_to(
    store: PredictionStore,
    adapter: Adapter,
    items: Sequence[EvalItem],
    concept: Concept,
    protocol: Protocol,
    *,
    model: str = "",
    batch_size: int = 16,
    progress: Progress = silent,
) -> int:
    """Predict `items` task by task in the forced order; return how many got no answer from a chat model. These are
    asked again next time.

    A batch is always made of the same items, whatever is done already, so that an item's neighbours, and with them its
    last float bits, are the same after an interruption. Batches are dealt to the processes of an `accelerate launch`.

    Raises:
        ValueError: a task the adapter cannot do, or *_rea_gen without the rewrites of the same model.
        RuntimeError: another process failed.
    """
    state = PartialState()
    failed = 0
    present = {item.task for item in items}
    for task in filter(present.__contains__, TASKS):
        if task not in adapter.tasks:
            raise ValueError(f"a {adapter.kind} model cannot do task {task}; it can do {', '.join(adapter.tasks)}")
        own = [item for item in items if item.task == task]
        if _reads_rewrites(task, protocol):
            rewrites = upstream_rewrites(store, own, adapter, protocol)
            requests = [adapter.request(item, rewrite) for item, rewrite in zip(own, rewrites, strict=True)]
        else:
            requests = [adapter.request(item) for item in own]
        hashes = [content_hash(request, adapter, protocol) for request in requests]
        _forget_manifest(store, task, hashes, state)
        done, error = 0, None
        for number, batch in enumerate(batches(list(zip(requests, hashes, strict=True)), batch_size)):
            if number % state.num_processes == state.process_index:
                try:
                    _finish(store, adapter, batch, concept, protocol)
                except Exception as caught:  # told to the others first, which would wait for this process
                    error = caught
                    break
            done += len(batch)
            progress(task, done, len(own))
        _raise_together(error, state)
        failed += _vouch(store, task, list(zip(requests, hashes, strict=True)), adapter, protocol, model, state)
    return failed


def upstream_rewrites(
    store: PredictionStore, items: Sequence[EvalItem], adapter: Adapter, protocol: Protocol
) -> list[str]:
    """The rewrites that *_rea_gen `items` draw, from the understanding manifest of the same concept and epochs.

    Raises ValueError when the manifest is missing, lacks a prompt, or is not what this model would be asked now.
    """
    source = items[0].task.removesuffix("_gen")
    manifest, path = read_task(store, source), store.folder(source) / MANIFEST
    if manifest["model"]["fingerprint"] != adapter.fingerprint:
        raise ValueError(f"the rewrites in {path} are of other weights; predict task {source} with these first")
    made, options = manifest["protocol"], protocol.prediction_options()
    if differ := [name for name, value in options.items() if made.get(name) != value]:
        raise ValueError(
            f"the rewrites in {path} were made under another {', '.join(differ)}; predict task {source} again first"
        )
    known = {record["source_prompt"].strip(): record for record in records_of(manifest)}
    rewrites = []
    for item in items:
        record = known.get(item.prompt.strip())
        if record is None:
            raise ValueError(f"{path} has no rewrite of {item.prompt!r}; predict task {source} with the same items")
        if record["model_prompt"] != adapter.request(replace(item, task=source)).text:
            raise ValueError(
                f"{path} holds rewrites of another prompt than {item.prompt!r} leads to now; predict task {source} "
                "again first"
            )
        rewrites.append(record["prediction"])
    return rewrites


def _reads_rewrites(task: str, protocol: Protocol) -> bool:
    return task.endswith("rea_gen") and protocol.gen_input == "prediction"


def _raise_together(error: Exception | None, state: PartialState) -> None:
    """Wait for all processes; when one failed, all of them raise, so that none waits forever."""
    if error is None:
        said = None
    else:
        said = f"{type(error).__name__}: {error}"
    if state.num_processes > 1:
        found = gather_object([said])
    else:
        found = [said]
    if error is not None:
        raise error
    for number, other in enumerate(found):
        if other is not None:
            raise RuntimeError(f"process {number} failed: {other}")


def _forget_manifest(store: PredictionStore, task: str, hashes: Sequence[str], state: PartialState) -> None:
    """A manifest that vouches for other predictions goes before the first of them is overwritten, and so do leftovers
    of a killed run.
    """
    path = store.folder(task) / MANIFEST
    if state.is_main_process:
        forget_partial(store.folder(task))
    if state.is_main_process and path.is_file():
        listed = [record["metadata"]["content_hash"] for record in records_of(read_task(store, task))]
        if listed != list(hashes):
            path.unlink()
    state.wait_for_everyone()


def _finish(
    store: PredictionStore, adapter: Adapter, batch: Sequence[tuple[Request, str]], concept: Concept, protocol: Protocol
) -> None:
    """Predict a batch unless every record of it is there and answered; only what is missing is written."""
    known = {request.item.id: find_record(store, request, wanted) for request, wanted in batch}
    missing = {item_id for item_id, record in known.items() if record is None or unanswered(record)}
    if not missing:
        return
    requests = [request for request, _ in batch]
    drawing = requests[0].item.task not in UNDERSTANDING
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs: Sequence[Any] = adapter.pictures(requests) if drawing else adapter.answers(requests)
    notes = list(dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)))
    for (request, wanted), output in zip(batch, outputs, strict=True):
        if request.item.id not in missing:
            continue
        if drawing:
            write_drawing(store, request, wanted, output, concept, protocol, notes)
        else:
            write_answer(store, request, wanted, output, notes)


def _vouch(
    store: PredictionStore,
    task: str,
    wanted: Sequence[tuple[Request, str]],
    adapter: Adapter,
    protocol: Protocol,
    model: str,
    state: PartialState,
) -> int:
    """Write the manifest when every record is there; return how many are not there or not answered."""
    records = [find_record(store, request, one) for request, one in wanted]
    known = [record for record in records if record is not None]
    if state.is_main_process and len(known) == len(records):
        write_manifest(store, task, known, adapter, protocol, model)
    state.wait_for_everyone()
    return len(records) - sum(not unanswered(record) for record in known)
