"""Predictions of one phase → an `EvalResult`: texts by the shared text scorers, pictures by a judge and by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol as Interface

from torch import Tensor

from sync_r1.data import Concept
from sync_r1.scorers.base import Score
from sync_r1.scorers.clip import ClipScorer
from sync_r1.unifybench.metrics import Evaluators, ItemMetrics, Row
from sync_r1.unifybench.predict import Prediction
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import GENERATION, EvalResult, ScoredItem
from sync_r1.unifybench.tasks import BASE_SEED, EvalItem

BATCH = 32  # rows, and so about as many pictures, in memory


class ImageJudge(Interface):
    """Says how well pictures show what the texts ask for."""

    def __call__(self, images: Tensor, texts: Sequence[str]) -> Sequence[Score]:
        """images uint8 [B, 3, H, W], B texts → B scores in [0, 1]; None (or NaN) = could not score."""
        ...


def score(
    items: Sequence[EvalItem],
    predictions: Sequence[Prediction],
    concept: Concept,
    image_judge: ImageJudge | None = None,
    clip: ClipScorer | None = None,
    *,
    out: Path | str,
    judge_name: str = "",
    clip_references: int = 1,
    seed: int = BASE_SEED,
) -> EvalResult:
    """Score every item.

    rec: the wanted word occurs; other texts: exact after normalisation, token F1 and character BLEU beside it.
        Drawings: the judge, told the concept's info and the words asked for; without a judge the mean of CLIP-T and
        CLIP-I. Several pictures of one prompt are averaged. CLIP-I compares with the first `clip_references` test
        pictures (train pictures if there are none), CLIP-T reads the class noun for the placeholder.

    Args:
        out: folder that picture paths in the result are relative to.
    Raises:
        ValueError: drawings but neither judge nor clip, predictions of other items, or a judge that breaks its
            contract.
    """
    asked, got = [(i.task, i.id) for i in items], [(p.task, p.id) for p in predictions]
    if asked != got:
        wrong = next((pair for pair in zip(asked, got) if pair[0] != pair[1]), (len(asked), len(got)))
        raise ValueError(
            f"items and predictions differ, first at {wrong[0]} against {wrong[1]}; score the predictions of these "
            "items"
        )
    check_judges(any(item.task in GENERATION for item in items), image_judge, clip)
    judges = Evaluators(judge=image_judge, clip=clip)
    measure = ItemMetrics(concept, Protocol(clip_reference_count=clip_references), judges)
    names = {task: _metrics(task, judges) for task, _ in asked}
    values: list[dict[str, Score]] = [{} for _ in items]
    for task in names:
        numbers = [number for number, item in enumerate(items) if item.task == task]
        for start in range(0, len(numbers), BATCH):
            part = numbers[start : start + BATCH]
            rows = [_row(items[number], predictions[number]) for number in part]
            for name in names[task]:
                for number, value in zip(part, measure(name, rows), strict=True):
                    values[number][name] = value
    if image_judge is None and clip is not None:
        values = [_with_clip(row) for row in values]
    scored = [_scored(*row, Path(out)) for row in zip(items, predictions, values, strict=True)]
    drawing_metric = "clip"
    if image_judge is not None:
        drawing_metric = "judge"
    metrics = {task: drawing_metric if task in GENERATION else names[task][0] for task, _ in asked}
    judge = judge_name or (
        type(image_judge).__name__ if image_judge is not None else "CLIP" if clip is not None else ""
    )
    return EvalResult(items=scored, metrics=metrics, judge=judge, seed=seed, concept=concept.name)


def check_judges(drawings: bool, image_judge: ImageJudge | None, clip: ClipScorer | None) -> None:
    """ValueError when drawings would be made that neither a judge nor CLIP can score."""
    if drawings and image_judge is None and clip is None:
        raise ValueError(
            "drawings need a scorer: give a judge (eval.judge.url) or a CLIP (eval.clip), "
            "or name understanding tasks only"
        )


def _metrics(task: str, judges: Evaluators) -> list[str]:
    """What is measured, the score's own metric first."""
    if task in GENERATION:
        return [
            *(["judge"] if judges.judge is not None else []),
            *(["clip_t", "clip_i"] if judges.clip is not None else []),
        ]
    if task == "rec":
        return ["recognition"]
    return ["exact", "token_f1", "bleu"]


def _row(item: EvalItem, prediction: Prediction) -> Row:
    return Row(task=item.task, prompt=item.prompt, truth=item.truth, text=prediction.text, images=prediction.images)


def _with_clip(values: dict[str, Score]) -> dict[str, Score]:
    """The mean of both CLIP scores first, where they stand in for a judge."""
    text, image = values.get("clip_t"), values.get("clip_i")
    if text is None or image is None:
        return values
    return {"clip": (text + image) / 2, **values}


def _scored(item: EvalItem, prediction: Prediction, values: dict[str, Score], out: Path) -> ScoredItem:
    first = next(iter(values.values()))
    picture = prediction.images[0] if prediction.images else prediction.seen
    return ScoredItem(
        task=item.task,
        id=item.id,
        prompt=item.prompt,
        input=prediction.input,
        prediction=prediction.text,
        truth=item.truth,
        score=float(first) if first is not None else None,
        metrics={name: float(value) for name, value in values.items() if value is not None},
        image=picture.relative_to(out).as_posix() if picture is not None else None,
        seed=item.seed,
    )
