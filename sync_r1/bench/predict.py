"""Let the model answer and draw every item, through the session's batched methods. Nothing is scored here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from sync_r1.bench.result import UNDERSTANDING
from sync_r1.bench.tasks import EvalItem, item_seed
from sync_r1.data import load_image
from sync_r1.session import Session, save_picture, to_images
from sync_r1.types import TextContext

Progress = Callable[[str, int, int], None]  # task, items done, items in all

REWRITING = ("rea", "dense_rea", "rea_gen", "dense_rea_gen")


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
    session: Session, items: Sequence[EvalItem], out: Path | str, phase: str = "after", progress: Progress = silent
) -> list[Prediction]:
    """Predictions in the order of `items`; pictures go to `<out>/images/<phase>/`, those that were asked about to `<out>/images/seen/`.

    Rewrites are made once and serve rea as well as rea_gen (dense_rea and dense_rea_gen likewise).
    """
    folder = Path(out) / "images"
    texts = _rewrites(session, items, progress)
    questions = [item for item in items if item.task in UNDERSTANDING and item.task not in REWRITING]
    drawings = [item for item in items if item.task not in UNDERSTANDING]
    answered = {**_answers(session, questions, folder / "seen", progress), **_drawn(session, drawings, texts, folder / phase, progress)}
    for item in items:
        if item.task in REWRITING and item.task in UNDERSTANDING:
            context = session.rewrite_context(item.prompt)
            answered[item.task, item.id] = Prediction(task=item.task, id=item.id, input=context.text, text=texts[item.prompt])
    return [answered[item.task, item.id] for item in items]


def _batches(session: Session, items: Sequence[EvalItem]) -> list[list[EvalItem]]:
    size = session.options.batch_size
    tasks = {task: [item for item in items if item.task == task] for task in dict.fromkeys(item.task for item in items)}
    return [same[start : start + size] for same in tasks.values() for start in range(0, len(same), size)]


class _Count:
    """Tells `progress` how much of each task is done."""

    def __init__(self, items: Sequence[EvalItem], progress: Progress) -> None:
        self.progress, self.done = progress, dict.fromkeys((item.task for item in items), 0)
        self.total = {task: sum(item.task == task for item in items) for task in self.done}

    def add(self, batch: Sequence[EvalItem]) -> None:
        task = batch[0].task
        self.done[task] += len(batch)
        self.progress(task, self.done[task], self.total[task])


def _rewrites(session: Session, items: Sequence[EvalItem], progress: Progress) -> dict[str, str]:
    """Prompt → the model's rewrite, each distinct prompt once."""
    texts: dict[str, str] = {}
    wanted = [item for item in items if item.task in REWRITING]
    count = _Count([item for item in wanted if item.task in UNDERSTANDING], progress)
    for batch in _batches(session, wanted):
        new = [prompt for prompt in dict.fromkeys(item.prompt for item in batch) if prompt not in texts]
        texts |= dict(zip(new, session.rewrites(new), strict=True))
        if batch[0].task in UNDERSTANDING:
            count.add(batch)
    return texts


def _answers(session: Session, items: Sequence[EvalItem], folder: Path, progress: Progress) -> dict[tuple[str, str], Prediction]:
    codes: dict[Path, Tensor] = {}
    count, found = _Count(items, progress), {}
    for batch in _batches(session, items):
        new = [path for path in dict.fromkeys(item.image for item in batch) if path is not None and path not in codes]
        codes |= dict(zip(new, session.encode(new))) if new else {}
        contexts: list[TextContext] = [
            session.question_context(item.prompt, None if item.image is None else codes[item.image]) for item in batch
        ]
        for item, context, text in zip(batch, contexts, session.answers(contexts), strict=True):
            seen = None if item.image is None else _keep(item.image, folder, session.model.image_size)
            found[item.task, item.id] = Prediction(task=item.task, id=item.id, input=context.text, text=text, seen=seen)
        count.add(batch)
    return found


def _keep(path: Path, folder: Path, size: int) -> Path:
    """A small copy for the report, named by content, so that both phases share it."""
    target = folder / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.png"
    if not target.is_file():
        image = load_image(path)
        image.thumbnail((2 * size, 2 * size), Image.Resampling.BICUBIC)
        save_picture(image, target)
    return target


def _drawn(
    session: Session, items: Sequence[EvalItem], rewrites: dict[str, str], folder: Path, progress: Progress
) -> dict[tuple[str, str], Prediction]:
    count, found, copies = _Count(items, progress), {}, range(session.options.images_per_prompt)
    for batch in _batches(session, items):
        texts = [session.drawn_text(item.prompt, rewrites[item.prompt]) if item.task in REWRITING else item.prompt for item in batch]
        rows = [(item, text, copy) for item, text in zip(batch, texts) for copy in copies]
        seeds = [item.seed if copy == 0 else item_seed(item.seed, copy) for item, _, copy in rows]
        images = to_images(session.pictures([text for _, text, _ in rows], seeds))
        paths: dict[str, list[Path]] = {item.id: [] for item in batch}
        for (item, text, copy), seed, image in zip(rows, seeds, images, strict=True):
            image.info = session.made_from(text, seed)
            name = f"{item.task}_{item.id}" + (f"_{copy}" if copy else "")
            paths[item.id].append(save_picture(image, folder / f"{name}.png"))
        for item, text in zip(batch, texts):
            wrote = rewrites[item.prompt] if item.task in REWRITING else ""
            found[item.task, item.id] = Prediction(task=item.task, id=item.id, input=text, text=wrote, images=tuple(paths[item.id]))
        count.add(batch)
    return found
