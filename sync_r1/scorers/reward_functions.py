"""The ready-made rewards, in TRL's shape: keyword columns in, per trajectory a score in [0, 1] out, or None where it
does not apply."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from sync_r1.config import Weight
from sync_r1.data.concepts import Concept, load_image
from sync_r1.data.prompts import placeholder
from sync_r1.scorers.base import Judge, RewardFunction, Score
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.dino import DinoScorer
from sync_r1.scorers.face import FaceScorer
from sync_r1.scorers.text import DECISIONS, exact, split_decision, token_f1


def rewrite(*, completions: Sequence[str], answer: Sequence[str], kind: Sequence[str], **_: Any) -> list[Score]:
    """How close a rewrite is to the explicit prompt; half for being exact. Not for `look`."""
    return [
        _text_score(written, truth) if which == "reason" else None
        for written, truth, which in zip(completions, answer, kind, strict=True)
    ]


def answer(*, completions: Sequence[str], answer: Sequence[str], kind: Sequence[str], **_: Any) -> list[Score]:
    """How close an answer about a photo is to the truth; half for being exact. Not for `reason`.

    Where the question is whether the concept is there, only the decision counts, not what was written before it.
    """
    scores: list[Score] = []
    for written, truth, which in zip(completions, answer, kind, strict=True):
        if which == "recognize":
            decided, right = (split_decision(text, DECISIONS)[1] for text in (written, truth))
            scores.append(float(decided is not None and decided == right))
        else:
            scores.append(_text_score(written, truth) if which == "look" else None)
    return scores


def _text_score(written: str, truth: str) -> float:
    return 0.5 * exact(written, truth) + 0.5 * token_f1(written, truth)


def wanted_picture(concept: Concept, kind: str, truth: str) -> str:
    """What a right picture shows, in words without the placeholder: the explicit prompt, or for `look` the plain
    concept."""
    if kind == "reason":
        prompt = truth
    else:
        prompt = f"a photo of {placeholder(concept.name)}"
    return prompt.replace(placeholder(concept.name), concept.class_noun)


class References:
    """Features of a concept's training photos, computed once.

    `embed`: PIL pictures → unit-norm features [R, D] of those it can read.
    """

    def __init__(self, embed: Callable[[Sequence[Image.Image]], Tensor]) -> None:
        self.embed = embed
        self._known: dict[str, Tensor] = {}

    def __call__(self, concept: Concept) -> Tensor:
        """Features [R, D]. ValueError for a concept without training photos."""
        if concept.name not in self._known:
            if not concept.train_images:
                raise ValueError(f"concept {concept.name!r} has no training photos to compare drawings with; add some")
            self._known[concept.name] = self.embed([load_image(path) for path in concept.train_images])
        return self._known[concept.name]

    def cosines(self, features: Tensor, concepts: Sequence[Concept]) -> list[Score]:
        """Mean cosine of each row of [B, D] to its concept's photos, never below 0.

        None where no photo could be embedded.
        """
        return [self._cosine(feature, self(who)) for feature, who in zip(features, concepts, strict=True)]

    def _cosine(self, feature: Tensor, photos: Tensor) -> Score:
        if len(photos):
            return float((feature @ photos.mean(0)).clamp(0, 1))
        return None


class ClipRewards:
    """CLIP-I to the concept's photos and CLIP-T to the wanted picture."""

    def __init__(self, clip: ClipScorer) -> None:
        self.clip = clip
        self.references = References(clip.image_features)

    def identity(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Mean cosine to the photos."""
        return self.references.cosines(self.clip.image_features(images), concept)

    def alignment(
        self, *, images: Tensor, concept: Sequence[Concept], kind: Sequence[str], answer: Sequence[str], **_: Any
    ) -> list[Score]:
        """Cosine to the wanted picture in words."""
        texts = [wanted_picture(*row) for row in zip(concept, kind, answer, strict=True)]
        return list(self.clip.clip_t(images, texts, truncate=True).tolist())


class DinoRewards:
    """DINOv2 similarity to the concept's photos."""

    def __init__(self, scorer: DinoScorer) -> None:
        self.scorer = scorer
        self.references = References(scorer.image_features)

    def dino(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Mean cosine to the photos."""
        return self.references.cosines(self.scorer.image_features(images), concept)


class FaceRewards:
    """ArcFace similarity to the faces on the concept's photos."""

    def __init__(self, scorer: FaceScorer) -> None:
        self.scorer = scorer
        self.references = References(self._faces)

    def face(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Mean cosine of the largest face to those of the photos; None for a picture without a face."""
        features, found = self.scorer.embed(images)
        scores = self.references.cosines(features, concept)
        return [score if seen else None for score, seen in zip(scores, found.tolist(), strict=True)]

    def _faces(self, photos: Sequence[Image.Image]) -> Tensor:
        features, found = self.scorer.embed(photos)
        return features[found]


class JudgeRewards:
    """An image judge asked twice: is it the concept, and does it show what was asked?

    `photos`: the judge looks at the concept's training photos for likeness; else it reads the info line alone.
    """

    def __init__(self, judge: Judge, photos: bool = False) -> None:
        self.judge = judge
        self.photos = photos

    def likeness(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Against the info line, and the photos for a judge that compares."""
        references = None
        if self.photos:
            references = [who.train_images for who in concept]
        return list(self.judge(images, [who.info for who in concept], references=references))

    def faithfulness(
        self, *, images: Tensor, concept: Sequence[Concept], kind: Sequence[str], answer: Sequence[str], **_: Any
    ) -> list[Score]:
        """Against the spelled-out prompt, without the concept itself. Not for `look`, which asks for nothing else."""
        texts = []
        for who, which, truth in zip(concept, kind, answer, strict=True):
            if which != "reason":
                texts.append("")
            elif self.photos:
                texts.append(truth.replace(placeholder(who.name), who.class_noun))
            else:
                texts.append(truth.replace(placeholder(who.name), ""))
        return [score if text else None for score, text in zip(self.judge(images, texts), texts, strict=True)]


class RestraintRewards:
    """A judge that counts what a drawing shows and neither its prompt nor the concept's description names.

    `count`: pictures and texts → how many such things, None where a text asks for nothing it can see.
    """

    def __init__(self, count: Callable[[Tensor, Sequence[str]], Sequence[int | None]]) -> None:
        self.count = count

    def unasked(
        self, *, images: Tensor, concept: Sequence[Concept], drawing_prompts: Sequence[str], **_: Any
    ) -> list[Score]:
        """1 when nothing was added, half for one thing, 0 for two or more."""
        texts = [f"{who.info} {prompt}" for who, prompt in zip(concept, drawing_prompts, strict=True)]
        return [None if number is None else max(0.0, 1 - number / 2) for number in self.count(images, texts)]


def blend(identity: RewardFunction, alignment: RewardFunction, weight: float) -> RewardFunction:
    """The preview score of DGS: weight·identity + (1 − weight)·alignment; one alone where the other could not score."""

    def score(**columns: Any) -> list[Score]:
        return [
            _mix(first, second, weight) for first, second in zip(identity(**columns), alignment(**columns), strict=True)
        ]

    return score


def _mix(first: Score, second: Score, weight: float) -> Score:
    if first is None or math.isnan(first):
        return second
    if second is None or math.isnan(second):
        return first
    return weight * first + (1 - weight) * second


def weighted_mean(rewards: Mapping[str, tuple[RewardFunction, Weight]]) -> RewardFunction:
    """One score per trajectory from several rewards: the mean, by weight for the concept's category, of those that
    could score."""

    def score(**columns: Any) -> list[Score]:
        found = [function(**columns) for function, _ in rewards.values()]
        weights = [weight for _, weight in rewards.values()]
        rows: list[Score] = []
        for who, *row in zip(columns["concept"], *found, strict=True):
            rows.append(_mean(row, [_of(weight, who.category) for weight in weights]))
        return rows

    return score


def _of(weight: Weight, category: str) -> float:
    if isinstance(weight, dict):
        return weight.get(category, 0.0)
    return weight


def _mean(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    known = [
        (value, weight)
        for value, weight in zip(scores, weights, strict=True)
        if value is not None and math.isfinite(value)
    ]
    total = sum(weight for _, weight in known)
    if total:
        return sum(value * weight for value, weight in known) / total
    return None
