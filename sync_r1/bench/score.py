"""Predictions → scores in [0, 1]: texts by the shared text scorers, pictures by a judge and by CLIP."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sync_r1.bench.predict import Prediction
from sync_r1.bench.result import GENERATION, EvalResult, ScoredItem
from sync_r1.bench.tasks import BASE_SEED, EvalItem
from sync_r1.data import Concept, load_image
from sync_r1.data.pictures import natural_key
from sync_r1.scorers.base import Score, is_scored, mean_ignoring_none
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.text import char_bleu, exact, recognition, token_f1

BATCH = 32  # pictures in memory
_WANT_ARTICLE = "of|with|and|or|for|by|near|beside|behind|on|to|from|at|where|while"


class ImageJudge(Protocol):
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

    rec: the wanted word occurs; other texts: exact after normalisation, token F1 and character BLEU beside it. Drawings: the judge,
    told the concept's info and the words asked for; without a judge the mean of CLIP-T and CLIP-I. Several pictures of one prompt
    are averaged. CLIP-I compares with the first `clip_references` test pictures (train pictures if there are none), CLIP-T reads the
    class noun for the placeholder.

    Args:
        out: folder that picture paths in the result are relative to.
    Raises:
        ValueError: drawings but neither judge nor clip, predictions of other items, or a judge that breaks its contract.
    """
    asked, got = [(i.task, i.id) for i in items], [(p.task, p.id) for p in predictions]
    if asked != got:
        wrong = next((pair for pair in zip(asked, got) if pair[0] != pair[1]), (len(asked), len(got)))
        raise ValueError(f"items and predictions differ, first at {wrong[0]} against {wrong[1]}; score the predictions of these items")
    drawn = {(item.task, item.id): (item, prediction) for item, prediction in zip(items, predictions) if item.task in GENERATION}
    check_judges(bool(drawn), image_judge, clip)
    measured = _measure_pictures(list(drawn.values()), concept, image_judge, clip, clip_references)
    scored = []
    for item, prediction in zip(items, predictions):
        values = measured[item.task, item.id] if item.task in GENERATION else _measure_text(item, prediction)
        scored.append(_scored(item, prediction, values, Path(out)))
    drawing_metric = "judge" if image_judge is not None else "clip"
    metrics = {task: drawing_metric if task in GENERATION else "recognition" if task == "rec" else "exact" for task, _ in asked}
    judge = judge_name or (type(image_judge).__name__ if image_judge is not None else "CLIP" if clip is not None else "")
    return EvalResult(items=scored, metrics=metrics, judge=judge, seed=seed, concept=concept.name)


def check_judges(drawings: bool, image_judge: ImageJudge | None, clip: ClipScorer | None) -> None:
    """ValueError when drawings would be made that nobody can score."""
    if drawings and image_judge is None and clip is None:
        raise ValueError("drawings need somebody to score them: give a judge or a CLIP folder, or evaluate understanding tasks only")


def _measure_text(item: EvalItem, prediction: Prediction) -> dict[str, Score]:
    """Metrics of a text, the one that is the score first."""
    if item.task == "rec":
        return {"recognition": recognition(prediction.text, item.truth)}
    scorers = {"exact": exact, "token_f1": token_f1, "char_bleu": char_bleu}
    return {name: scorer(prediction.text, item.truth) for name, scorer in scorers.items()}


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


def _measure_pictures(
    drawn: list[tuple[EvalItem, Prediction]], concept: Concept, judge: ImageJudge | None, clip: ClipScorer | None, references: int
) -> dict[tuple[str, str], dict[str, Score]]:
    """Per item: judge, clip_t, clip_i, averaged over its pictures; "clip" first where there is no judge."""
    rows = [(item, path) for item, prediction in drawn for path in prediction.images]
    features = _reference_features(concept, clip, references) if clip is not None and rows else None
    table: dict[tuple[str, str], dict[str, list[Score]]] = {(item.task, item.id): {} for item, _ in drawn}
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        images = load_pictures([path for _, path in part])
        columns: dict[str, Sequence[Score]] = {}
        if judge is not None:
            columns["judge"] = _judged(judge, images, [f"{concept.info} {item.truth}" for item, _ in part])
        if clip is not None and features is not None:
            text = clip.clip_t(images, [class_text(item.truth, concept) for item, _ in part], truncate=True).tolist()
            image = clip.clip_i(images, features).tolist()
            if judge is None:
                columns["clip"] = [(t + i) / 2 for t, i in zip(text, image)]
            columns |= {"clip_t": text, "clip_i": image}
        for name, values in columns.items():
            for (item, _), value in zip(part, values):
                table[item.task, item.id].setdefault(name, []).append(value)
    return {key: {name: mean_ignoring_none(values) for name, values in columns.items()} for key, columns in table.items()}


def _judged(judge: ImageJudge, images: Tensor, texts: Sequence[str]) -> list[Score]:
    values = list(judge(images, texts))
    if len(values) != len(texts):
        raise ValueError(f"the judge gave {len(values)} scores for {len(texts)} pictures; it must give one each, None if unknown")
    for value in values:
        if value is not None and not math.isnan(value) and not 0 <= value <= 1:
            raise ValueError(f"the judge gave {value}; a score must lie in [0, 1], or be None")
    return [value if is_scored(value) else None for value in values]


def _reference_features(concept: Concept, clip: ClipScorer, count: int) -> Tensor:
    paths = sorted(concept.test_images or concept.train_images, key=natural_key)[:count]
    if not paths:
        raise ValueError(f"concept {concept.name!r} has no pictures to compare drawings with; add some to concept/test/{concept.name}/")
    return clip.image_features([load_image(path) for path in paths])


def load_pictures(paths: Sequence[Path]) -> Tensor:
    """PNG files of one size → uint8 [B, 3, H, W]."""
    return torch.stack([torch.from_numpy(np.array(load_image(path))).permute(2, 0, 1) for path in paths])


def class_text(prompt: str, concept: Concept) -> str:
    """The prompt with the class noun for the placeholder: "a photo of <bo> at sea" → "a photo of a dog at sea", "a <bo>" → "a dog"."""
    noun, mark = concept.class_noun, re.escape(concept.placeholder)
    article = "an" if noun[:1].lower() in "aeiou" else "a"
    named = re.sub(rf"(^|\b(?:{_WANT_ARTICLE}) |, ){mark}", rf"\1{article} {noun}", prompt, flags=re.IGNORECASE)
    return named.replace(concept.placeholder, noun)
