"""Files of the predict stage: a benchmark's in the layout of unifybench §2.5, an evaluation's beside its result. A
record counts only if its content hash is the one wanted now, and a drawing only if its pictures have the bytes that
were written."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.drawings import png_bytes
from sync_r1.files import MANIFEST, read_object, sha256, write_bytes
from sync_r1.scorers.chat.endpoint import ChatFailure
from sync_r1.unifybench.adapters import Adapter, Request
from sync_r1.unifybench.metrics import reference_pictures
from sync_r1.unifybench.protocol import digest
from sync_r1.unifybench.results import GENERATION, REWRITTEN, write_result


def family_of(task: str) -> str:
    if task in GENERATION:
        return "generation"
    return "understanding"


@dataclass(frozen=True, kw_only=True)
class PredictionStore:
    """Where one model's predictions for one concept are."""

    out: Path
    concept: str
    token_epoch: int = 0
    model_epoch: int = 0

    def folder(self, task: str) -> Path:
        epochs = (f"token_epoch_{self.token_epoch}", f"model_epoch_{self.model_epoch}")
        return self.out.joinpath("artifacts", family_of(task), task, self.concept, *epochs)

    def record(self, request: Request) -> Path:
        folder = self.folder(request.item.task)
        item = request.item.id
        if request.seeds:
            return folder / item / "prompt.json"
        return folder / f"{item}.json"

    def picture(self, request: Request, number: int) -> Path:
        """Where the `number`-th picture that is drawn for a request lies."""
        return self.record(request).parent / f"image_{number:03d}.png"

    def pictures(self, task: str, record: dict[str, Any]) -> tuple[Path, ...]:
        """The pictures of a drawing's record."""
        return tuple(self.folder(task) / record["prompt_id"] / name for name in record["image_files"])

    def stored(self, task: str, picture: Path) -> str:
        """A picture's path as records hold it: relative to the task's folder."""
        return stored_path(picture, self.folder(task))


@dataclass(frozen=True, kw_only=True)
class PhaseStore(PredictionStore):
    """What is predicted for one phase of a run, with `out` its folder eval/.

    Pictures lie in images/<phase>/ and stay. The records lie in predictions/<phase>/ until the phase's result, which
    holds all they say, is written.
    """

    phase: str

    def folder(self, task: str) -> Path:
        return self.out / "predictions" / self.phase / task

    def picture(self, request: Request, number: int) -> Path:
        name = f"{request.item.task}_{request.item.id}"
        if number:
            name += f"_{number}"
        return self.out / "images" / self.phase / f"{name}.png"

    def pictures(self, task: str, record: dict[str, Any]) -> tuple[Path, ...]:
        return tuple(Path(os.path.normpath(path)) for path in super().pictures(task, record))

    def clear(self, kept: Sequence[str] = ()) -> None:
        """Remove the records of all tasks but those `kept`."""
        folder = self.folder("").resolve()
        for path in folder.glob("*"):
            if path.name not in kept:
                shutil.rmtree(path)
        for empty in (folder, folder.parent):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def stored_path(path: Path, folder: Path) -> str:
    """A path as files in `folder` hold it: relative to it, so that both may move together."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def clear_partial(folder: Path) -> None:
    """Remove what a killed run left half written. Only while no process writes there."""
    for path in folder.rglob("*.tmp"):
        path.unlink(missing_ok=True)


def content_hash(request: Request, adapter: Adapter) -> str:
    """SHA-256 of everything the prediction follows from: model, adapter, prompt, pictures, seeds and the protocol's
    prediction options."""
    return digest(
        {
            "model": adapter.fingerprint,
            "adapter": adapter.kind,
            "protocol": adapter.protocol.prediction_options(),
            "task": request.item.task,
            "text": request.text,
            "image": None if request.image is None else _hash_of(request.image),
            "photos": [_hash_of(photo) for photo in request.photos],
            "flip": request.flip,
            "seeds": request.seeds,
        }
    )


def _hash_of(path: Path) -> str:
    stat = path.stat()
    return _cached_hash(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=65536)
def _cached_hash(path: Path, _modified: int, _size: int) -> str:
    return sha256(path)


def find_record(store: PredictionStore, request: Request, wanted: str) -> dict[str, Any] | None:
    """The record of a request, answered or not, or None when it is missing, was made from something else, or lost a
    picture.
    """
    path = store.record(request)
    record = read_object(path)
    if record is None or record.get("metadata", {}).get("content_hash") != wanted:
        return None
    hashes = record["metadata"].get("image_sha256", [])
    if len(hashes) != len(request.seeds):
        return None
    pictures = [path.parent / name for name in record.get("image_files", [])]
    whole = all(picture.is_file() and sha256(picture) == one for picture, one in zip(pictures, hashes, strict=True))
    if whole:
        return record
    return None


def unanswered(record: dict[str, Any]) -> bool:
    """Whether the model was asked in vain."""
    return record.get("prediction", "") is None


def write_answer(
    store: PredictionStore, request: Request, wanted: str, answer: str | ChatFailure, notes: Sequence[str]
) -> None:
    """Without an answer the prediction is null and `metadata.failure` says why."""
    item = request.item
    failure = {}
    if isinstance(answer, ChatFailure):
        failure = {"failure": answer.message}
    record = {
        "item_id": item.id,
        "source_prompt": item.prompt,
        "model_prompt": request.text,
        "scoring_query": item.prompt,
        "ground_truth": item.truth,
        "reference": request.reference,
        "image_path": None if request.image is None else store.stored(item.task, request.image),
        "prediction": None if isinstance(answer, ChatFailure) else answer,
        **_shared(store, request),
        "prepend_system_prompt": False,
        "metadata": {"content_hash": wanted, "seed": item.seed, "flip": request.flip, "notes": list(notes), **failure},
    }
    write_result(store.record(request), record)


def write_drawing(
    store: PredictionStore,
    request: Request,
    wanted: str,
    images: Sequence[Image.Image],
    adapter: Adapter,
    notes: Sequence[str],
) -> None:
    """Pictures first, the record of them last."""
    path, item = store.record(request), request.item
    names, hashes = [], []
    for number, image in enumerate(images):
        content, place = png_bytes(image), store.picture(request, number)
        write_bytes(place, content)
        names.append(stored_path(place, path.parent))
        hashes.append(hashlib.sha256(content).hexdigest())
    upstream = None
    if item.task in REWRITTEN and adapter.protocol.gen_input == "prediction":
        upstream = REWRITTEN[item.task]
    metadata = {
        "content_hash": wanted,
        "image_sha256": hashes,
        "seeds": list(request.seeds),
        "notes": list(notes),
        "clip_i_reference_image_paths": [
            store.stored(item.task, picture) for picture in reference_pictures(adapter.concept, adapter.protocol)
        ],
        "gpt_scoring_clauses": [clause.strip() for clause in item.truth.split(",") if clause.strip()],
        "upstream_manifest": None
        if upstream is None
        else (store.folder(upstream) / MANIFEST).relative_to(store.out).as_posix(),
        "upstream_prediction": request.rewrite if upstream else None,
    }
    record = {
        "prompt_id": item.id,
        "source_prompt": item.prompt,
        "generation_prompt": request.text,
        "drawn_words": request.words,
        "scoring_prompt": item.truth,
        **_shared(store, request),
        "image_files": names,
        "metadata": metadata,
    }
    write_result(path, record)


def _shared(store: PredictionStore, request: Request) -> dict[str, Any]:
    return {
        "baseline_prompt": request.item.prompt,
        "tp_prefix_text": request.prefix,
        "conditioning_text": request.conditioning,
        "reference_image_paths": [store.stored(request.item.task, photo) for photo in request.photos],
    }


def write_manifest(
    store: PredictionStore, task: str, records: Sequence[dict[str, Any]], adapter: Adapter, model: str
) -> None:
    """The task's manifest: written last, when every record in it is there."""
    notes = list(dict.fromkeys(note for record in records for note in record["metadata"]["notes"]))
    write_result(
        store.folder(task) / MANIFEST,
        {
            "task": task,
            "family": family_of(task),
            "concept": store.concept,
            "token_epoch": store.token_epoch,
            "model_epoch": store.model_epoch,
            "adapter": adapter.kind,
            "model": {"name": model, "fingerprint": adapter.fingerprint},
            "protocol": asdict(adapter.protocol),
            "notes": notes,
            "prompt_artifacts" if task in GENERATION else "items": list(records),
        },
    )


def read_task(store: PredictionStore, task: str) -> dict[str, Any]:
    """The manifest of a predicted task. ValueError when there is none."""
    manifest = read_object(store.folder(task) / MANIFEST)
    if manifest is None:
        raise ValueError(
            f"{store.folder(task) / MANIFEST} is missing: task {task} of {store.concept} is not (completely) "
            f"predicted; run `sync-r1 bench run` with --tasks {task} first"
        )
    return manifest


def records_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of either family."""
    return list(manifest.get("items") or manifest.get("prompt_artifacts") or [])
