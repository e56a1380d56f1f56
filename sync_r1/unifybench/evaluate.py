"""One phase of a run from start to file: build items, predict, score, write."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image

from sync_r1 import __version__
from sync_r1.data import load_image
from sync_r1.distributed import Processes
from sync_r1.drawings import save_picture
from sync_r1.scorers.base import Judge, Score
from sync_r1.scorers.clip import ClipScorer
from sync_r1.session import Session
from sync_r1.unifybench.adapters import Request, TokensAdapter
from sync_r1.unifybench.fingerprint import trained_fingerprint
from sync_r1.unifybench.metrics import BenchmarkJudges, ItemMetrics, phase_metrics_of
from sync_r1.unifybench.predict import Progress, predict, silent, why_predicted, with_rewrites
from sync_r1.unifybench.prediction_store import PhaseStore, read_task, records_of
from sync_r1.unifybench.protocol import Protocol, digest
from sync_r1.unifybench.results import GENERATION, EvalResult, ScoredItem
from sync_r1.unifybench.score import Measured, check_judges, measure_all, unmeasured
from sync_r1.unifybench.tasks import EvalItem, build_items

MAX_NOTES = 20
SEEN_SIDE = 256  # pixels of the copies of pictures that were asked about


def evaluate(
    session: Session,
    out: Path | str,
    phase: str = "after",
    *,
    image_judge: Judge | None = None,
    clip: ClipScorer | None = None,
    judge_name: str = "",
    clip_references: int = 1,
    progress: Progress = silent,
    processes: Processes | None = None,
    drawer: Session | None = None,
) -> EvalResult:
    """Run the tasks of `session.options` and write `<out>/<phase>.json` and `<out>/images/`; the report looks for them
    in `<run>/eval`.

    Items and seeds depend on the concept and options only, never on phase or weights: results of two phases can be
    compared item by item. Several `processes` predict different batches; the main one scores and writes, and all return
    the result. A `drawer` of the same concept draws what `session` wrote. An evaluation that was interrupted goes on
    where it stopped.

    rec: the wanted word occurs; other texts: exact after normalisation, token F1 and character BLEU beside it.
        Drawings: the judge, given the concept's info and the words asked for; without a judge the mean of CLIP-T and
        CLIP-I. Several pictures of one prompt are averaged. CLIP-I compares with the first `clip_references` test
        pictures (train pictures if there are none), CLIP-T reads the class noun for the placeholder.

    Raises:
        ValueError: unknown or empty tasks, or drawings without a judge or CLIP, before anything is predicted; a judge
            that breaks its contract.
        RuntimeError: another process failed.
    """
    processes = processes or Processes()
    protocol = replace(Protocol().with_decoding(session.options), clip_reference_count=clip_references)
    items = items_of(session, session.options.tasks)
    check_judges(any(item.task in GENERATION for item in items), image_judge, clip)
    store = PhaseStore(out=Path(out), concept=session.concept.name, phase=phase)
    notes = _predict(session, drawer or session, items, store, protocol, processes, progress)
    judges = BenchmarkJudges(judge=image_judge, clip=clip)

    def judged() -> EvalResult:
        result = EvalResult(
            items=_score(session, items, store, judges, protocol),
            metrics={item.task: _metric(item.task, judges) for item in items},
            judge=judge_name or _judge_name(judges),
            seed=session.options.seed,
            concept=session.concept.name,
            protocol={"model": session.run, **asdict(protocol)},
            notes=notes,
        )
        result.write(store.out / f"{phase}.json")
        store.clear()
        return result

    return processes.on_main(judged)


def items_of(session: Session, tasks: Sequence[str]) -> list[EvalItem]:
    """What an evaluation of these tasks asks."""
    options = session.options
    protocol = Protocol(seed=options.seed, lookalikes=options.lookalikes)
    return build_items(session.concept, root=session.root, tasks=tasks, max_items=options.max_items, protocol=protocol)


def _predict(
    session: Session,
    drawer: Session,
    items: Sequence[EvalItem],
    store: PhaseStore,
    protocol: Protocol,
    processes: Processes,
    progress: Progress,
) -> list[str]:
    """Predict the items, and the rewrites that they need; return what there is to note."""
    asked = list(dict.fromkeys(item.task for item in items))
    tasks = with_rewrites(asked, protocol)
    more = [task for task in tasks if task not in asked]
    if more:
        items = items_of(session, tasks)

    def fingerprint() -> str:
        store.clear(kept=tasks)  # what an interrupted evaluation left of other tasks
        both = (session, drawer)
        return digest([__version__, *(one.run for one in both), *(trained_fingerprint(one.model) for one in both)])

    def shown(task: str, done: int, total: int) -> None:
        if task in asked:
            progress(task, done, total)

    adapter = _RunAdapter(session, drawer, protocol, processes.on_main(fingerprint))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the store keeps them with the predictions
        predict(adapter, items, store, processes, batch_size=session.options.batch_size, progress=shown)
    return processes.on_main(lambda: _shortened([*map(why_predicted, more), *_notes_of(store, tasks)]))


class _RunAdapter(TokensAdapter):
    """What `session` reads and writes and `drawer` draws. Pictures say what made them."""

    def __init__(self, session: Session, drawer: Session, protocol: Protocol, fingerprint: str) -> None:
        super().__init__(session, protocol)
        self.drawer, self.painter = drawer, TokensAdapter(drawer, protocol)
        self._fingerprint = fingerprint

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        if item.task in GENERATION:
            return self.painter.request(item, rewrite)
        return super().request(item, rewrite)

    def answers(self, requests: Sequence[Request]) -> list[str]:
        if requests and requests[0].item.task == "lookalikes_drawn":  # the one that draws knows how it would look
            return self.painter.answers(requests)
        return super().answers(requests)

    def pictures(self, requests: Sequence[Request]) -> list[list[Image.Image]]:
        drawn = self.painter.pictures(requests)
        for request, images in zip(requests, drawn, strict=True):
            for image, seed in zip(images, request.seeds, strict=True):
                image.info = self.drawer.made_from(request.words, seed)
        return drawn


def _score(
    session: Session, items: Sequence[EvalItem], store: PhaseStore, judges: BenchmarkJudges, protocol: Protocol
) -> list[ScoredItem]:
    """The `items` with their scores."""
    measure = ItemMetrics(session.concept, protocol, judges)
    scored: list[ScoredItem] = []
    for task in dict.fromkeys(item.task for item in items):
        measured = unmeasured(store, task, records_of(read_task(store, task)))
        measure_all(measured, phase_metrics_of(task, judges), measure)
        own = [item for item in items if item.task == task]
        scored += [_scored(*pair, store, judges) for pair in zip(own, measured, strict=True)]
    return scored


def _metric(task: str, judges: BenchmarkJudges) -> str:
    """The metric that is the task's score."""
    if task in GENERATION and judges.judge is None:
        return "clip"
    return phase_metrics_of(task, judges)[0]


def _scored(item: EvalItem, measured: Measured, store: PhaseStore, judges: BenchmarkJudges) -> ScoredItem:
    values = measured.metrics
    if judges.judge is None:
        values = _with_clip(values)
    first = next(iter(values.values()))
    picture = None
    if measured.row.images:
        picture = measured.row.images[0]
    elif item.image is not None:
        picture = _keep(item.image, store.out / "images" / "seen")
    return ScoredItem(
        task=item.task,
        id=measured.id,
        prompt=measured.row.prompt,
        input=measured.input,
        prediction=measured.row.text,
        truth=measured.row.truth,
        score=None if first is None else float(first),
        metrics={name: float(value) for name, value in values.items() if value is not None},
        image=None if picture is None else picture.relative_to(store.out).as_posix(),
        seed=measured.seed,
    )


def _with_clip(values: dict[str, Score]) -> dict[str, Score]:
    """The mean of both CLIP scores first, where they take a judge's place."""
    text, image = values.get("clip_t"), values.get("clip_i")
    if text is None or image is None:
        return values
    return {"clip": (text + image) / 2, **values}


def _keep(path: Path, folder: Path) -> Path:
    """A small copy for the report, named by content, so that both phases share it."""
    target = folder / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.png"
    if not target.is_file():
        image = load_image(path)
        image.thumbnail((SEEN_SIDE, SEEN_SIDE), Image.Resampling.BICUBIC)
        save_picture(image, target)
    return target


def _judge_name(judges: BenchmarkJudges) -> str:
    if judges.judge is not None:
        return type(judges.judge).__name__
    if judges.clip is not None:
        return "CLIP"
    return ""


def _notes_of(store: PhaseStore, tasks: Sequence[str]) -> list[str]:
    """What was noted while the tasks were predicted, in their order."""
    notes: list[str] = []
    for task in tasks:
        for record in records_of(read_task(store, task)):
            notes += record["metadata"]["notes"]
    return notes


def _shortened(messages: Sequence[str]) -> list[str]:
    """Distinct notes in order, the last line counting those left out."""
    distinct = list(dict.fromkeys(messages))
    more = len(distinct) - MAX_NOTES
    if more <= 0:
        return distinct
    return [*distinct[:MAX_NOTES], f"and {more} more of the kind"]
