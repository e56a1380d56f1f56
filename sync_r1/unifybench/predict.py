"""Let a session answer and draw every item of one phase, for `evaluate`. Nothing is scored here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.data import load_image
from sync_r1.distributed import Processes
from sync_r1.drawings import save_picture
from sync_r1.session import Session
from sync_r1.unifybench.adapters import Request, TokensAdapter
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import TASKS, UNDERSTANDING
from sync_r1.unifybench.tasks import REWRITING, EvalItem

Progress = Callable[[str, int, int], None]  # task, items done, items in all


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model made of one item."""

    task: str
    id: str
    input: str  # the text it read, or the words it drew
    text: str = ""  # what it wrote; of *_rea_gen the rewrite it then drew
    images: tuple[Path, ...] = ()  # what it drew
    seen: Path | None = None  # a copy of the picture it was asked about


def silent(task: str, done: int, total: int) -> None:
    """No progress shown."""


def predict(
    session: Session,
    items: Sequence[EvalItem],
    out: Path | str,
    phase: str = "after",
    progress: Progress = silent,
    processes: Processes | None = None,
    drawer: Session | None = None,
) -> list[Prediction]:
    """Predictions in the order of `items`; pictures go to `<out>/images/<phase>/`, those that were asked about to
    `<out>/images/seen/`.

    Rewrites are made once and serve rea as well as rea_gen (dense_rea and dense_rea_gen likewise). Batches are dealt to
    `processes`, which all make all rewrites and return all predictions. A `drawer` draws what `session` wrote; without
    one, `session` draws too.

    Raises:
        RuntimeError: another process failed.
    """
    processes = processes or Processes()
    painter = drawer or session
    parts = processes.gather(
        processes.together(lambda: _own_predictions(session, painter, items, Path(out), phase, progress, processes))
    )
    found = {key: prediction for part in parts for key, prediction in part.items()}
    return [found[item.task, item.id] for item in items]


def _own_predictions(
    session: Session,
    drawer: Session,
    items: Sequence[EvalItem],
    out: Path,
    phase: str,
    progress: Progress,
    processes: Processes,
) -> dict[tuple[str, str], Prediction]:
    """(task, id) → prediction, of this process's batches."""
    protocol = Protocol().with_decoding(session.options)
    reader, painter = TokensAdapter(session, protocol), TokensAdapter(drawer, protocol)
    folder = out / "images"
    found: dict[tuple[str, str], Prediction] = {}
    rewrites: dict[str, str] = {}
    present = {item.task for item in items}
    for task in filter(present.__contains__, TASKS):
        own = [item for item in items if item.task == task]
        if task in REWRITING or task.endswith("rea_gen"):
            rewrites |= _rewritten(reader, own, rewrites)
        for number, batch in enumerate(batches(own, session.options.batch_size)):
            if number % processes.count != processes.index:
                continue
            if task in UNDERSTANDING:
                adapter = reader
            else:
                adapter = painter
            requests = [adapter.request(item, rewrites.get(item.prompt)) for item in batch]
            if task in REWRITING:
                texts: Sequence[str] = [rewrites[item.prompt] for item in batch]
            elif task in UNDERSTANDING:
                texts = reader.answers(requests)
            if task in UNDERSTANDING:
                made = _read(requests, texts, folder / "seen")
            else:
                made = _drawn(drawer, painter, requests, folder / phase)
            found |= {(task, prediction.id): prediction for prediction in made}
            progress(task, min(len(own), (number + 1) * session.options.batch_size), len(own))
    return found


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _rewritten(adapter: TokensAdapter, items: Sequence[EvalItem], known: dict[str, str]) -> dict[str, str]:
    """Prompt → the model's rewrite of prompts that are not known yet, each once."""
    task = items[0].task.removesuffix("_gen")
    new = {item.prompt: item for item in items if item.prompt not in known}
    asked = [
        EvalItem(task=task, id=item.id, prompt=item.prompt, truth=item.truth, seed=item.seed) for item in new.values()
    ]
    return dict(zip(new, adapter.answers([adapter.request(item) for item in asked]), strict=True))


def _read(requests: Sequence[Request], texts: Sequence[str], folder: Path) -> list[Prediction]:
    rows = zip(requests, texts, strict=True)
    return [
        Prediction(
            task=request.item.task,
            id=request.item.id,
            input=request.text,
            text=text,
            seen=None if request.item.image is None else _keep(request.item.image, folder),
        )
        for request, text in rows
    ]


def _keep(path: Path, folder: Path, side: int = 256) -> Path:
    """A small copy for the report, named by content, so that both phases, and all processes, share it."""
    target = folder / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.png"
    if not target.is_file():
        image = load_image(path)
        image.thumbnail((side, side), Image.Resampling.BICUBIC)
        save_picture(image, target)
    return target


def _drawn(session: Session, adapter: TokensAdapter, requests: Sequence[Request], folder: Path) -> list[Prediction]:
    made = []
    for request, images in zip(requests, adapter.pictures(requests), strict=True):
        paths = []
        for copy, (image, seed) in enumerate(zip(images, request.seeds, strict=True)):
            image.info = session.made_from(request.words, seed)
            name = f"{request.item.task}_{request.item.id}" + (f"_{copy}" if copy else "")
            paths.append(save_picture(image, folder / f"{name}.png"))
        made.append(
            Prediction(
                task=request.item.task,
                id=request.item.id,
                input=request.words,
                text=request.rewrite,
                images=tuple(paths),
            )
        )
    return made
