"""Predict: every task of one concept into a prediction store, in fixed batches, shared between processes, going on
where it stopped. Nothing is scored here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sync_r1.distributed import Processes
from sync_r1.files import MANIFEST
from sync_r1.models.batches import batches
from sync_r1.unifybench.adapters import Adapter, Request
from sync_r1.unifybench.prediction_store import (
    PredictionStore,
    clear_partial,
    content_hash,
    find_record,
    read_task,
    records_of,
    unanswered,
    write_answer,
    write_drawing,
    write_manifest,
)
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import ALL_TASKS, GENERATION, REWRITTEN
from sync_r1.unifybench.tasks import EvalItem

Progress = Callable[[str, int, int], None]  # task, items done, items in all
Asked = Sequence[tuple[Request, str]]  # requests, each with the content hash of its record


def silent(task: str, done: int, total: int) -> None:
    """No progress shown."""


def predict(
    adapter: Adapter,
    items: Sequence[EvalItem],
    store: PredictionStore,
    processes: Processes | None = None,
    *,
    model: str = "",
    batch_size: int = 16,
    progress: Progress = silent,
) -> int:
    """Predict `items` task by task in the forced order; return how many got no answer from a chat model. These are
    asked again next time.

    A batch is always made of the same items, whatever is done already, so that an item's neighbours, and with them its
    last float bits, are the same after an interruption. Batches are dealt to the `processes`, which all call this.

    Args:
        model: the model's name, for the record.
    Raises:
        ValueError: a task the adapter cannot do, or *_rea_gen without the rewrites of the same model.
        RuntimeError: another process failed.
    """
    processes = processes or Processes()
    failed = 0
    for task in ALL_TASKS:
        own = [item for item in items if item.task == task]
        if own:
            failed += _predict_task(adapter, own, store, processes, model, batch_size, progress)
    return failed


def with_rewrites(tasks: Sequence[str], protocol: Protocol) -> list[str]:
    """The tasks, and before *_rea_gen the task whose rewrites it draws."""
    needed = {REWRITTEN[task] for task in tasks if reads_rewrites(task, protocol)}
    return [task for task in ALL_TASKS if task in needed or task in tasks]


def why_predicted(task: str) -> str:
    """Why a task that was not asked for is predicted: `with_rewrites` adds it."""
    return f"task {task}_gen draws the model's own rewrites, so task {task} is predicted too"


def reads_rewrites(task: str, protocol: Protocol) -> bool:
    """Whether a task draws what the model wrote in another one."""
    return task in REWRITTEN and protocol.gen_input == "prediction"


def upstream_rewrites(store: PredictionStore, items: Sequence[EvalItem], adapter: Adapter) -> list[str]:
    """The rewrites that *_rea_gen `items` draw, from the understanding manifest of the same concept and epochs.

    Raises ValueError when the manifest is missing, lacks a prompt, or is not what this model would be asked now.
    """
    source = REWRITTEN[items[0].task]
    manifest, path = read_task(store, source), store.folder(source) / MANIFEST
    if manifest["model"]["fingerprint"] != adapter.fingerprint:
        raise ValueError(f"the rewrites in {path} are of other weights; predict task {source} with these first")
    made, options = manifest["protocol"], adapter.protocol.prediction_options()
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


def _predict_task(
    adapter: Adapter,
    items: Sequence[EvalItem],
    store: PredictionStore,
    processes: Processes,
    model: str,
    batch_size: int,
    progress: Progress,
) -> int:
    """Predict one task; all processes return, or raise, together."""
    task = items[0].task
    if task not in adapter.tasks:
        raise ValueError(f"a {adapter.kind} model cannot do task {task}; it can do {', '.join(adapter.tasks)}")
    asked = _asked(adapter, items, store)

    def own_batches() -> None:
        done = 0
        for number, batch in enumerate(batches(asked, batch_size)):
            if number % processes.count == processes.index:
                _predict_batch(store, adapter, batch)
            done += len(batch)
            progress(task, done, len(asked))

    processes.on_main(lambda: _clear_stale(store, task, asked))
    processes.together(own_batches)
    return processes.on_main(lambda: _finish_task(store, task, asked, adapter, model))


def _asked(adapter: Adapter, items: Sequence[EvalItem], store: PredictionStore) -> Asked:
    """What the model is asked for items of one task."""
    if reads_rewrites(items[0].task, adapter.protocol):
        rewrites = upstream_rewrites(store, items, adapter)
        requests = [adapter.request(item, rewrite) for item, rewrite in zip(items, rewrites, strict=True)]
    else:
        requests = [adapter.request(item) for item in items]
    return [(request, content_hash(request, adapter)) for request in requests]


def _clear_stale(store: PredictionStore, task: str, asked: Asked) -> None:
    """Remove a manifest of other predictions, before the first of them is overwritten, and leftovers of a killed
    run."""
    clear_partial(store.folder(task))
    path = store.folder(task) / MANIFEST
    if path.is_file():
        listed = [record["metadata"]["content_hash"] for record in records_of(read_task(store, task))]
        if listed != [wanted for _, wanted in asked]:
            path.unlink()


def _predict_batch(store: PredictionStore, adapter: Adapter, batch: Asked) -> None:
    """Predict a batch unless every record of it is there and answered; only what is missing is written."""
    known = {request.item.id: find_record(store, request, wanted) for request, wanted in batch}
    missing = {item_id for item_id, record in known.items() if record is None or unanswered(record)}
    if not missing:
        return
    requests = [request for request, _ in batch]
    drawing = requests[0].item.task in GENERATION
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs: Sequence[Any] = adapter.pictures(requests) if drawing else adapter.answers(requests)
    notes = list(dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)))
    for (request, wanted), output in zip(batch, outputs, strict=True):
        if request.item.id not in missing:
            continue
        if drawing:
            write_drawing(store, request, wanted, output, adapter, notes)
        else:
            write_answer(store, request, wanted, output, notes)


def _finish_task(store: PredictionStore, task: str, asked: Asked, adapter: Adapter, model: str) -> int:
    """Write the manifest when every record is there; return how many are not there or not answered."""
    records = [find_record(store, request, wanted) for request, wanted in asked]
    known = [record for record in records if record is not None]
    if len(known) == len(records):
        write_manifest(store, task, known, adapter, model)
    return len(records) - sum(not unanswered(record) for record in known)
