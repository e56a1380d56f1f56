"""The ready-made rewards, in TRL's shape: keyword columns in, per trajectory a score in [0, 1] out, or None where it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sync_r1.data.concepts import Concept, load_image
from sync_r1.data.prompts import placeholder
from sync_r1.scorers.base import Score
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.text import exact, token_f1

Judge = Callable[[Tensor, Sequence[str]], Sequence[Score]]  # pictures uint8 [B, 3, H, W] and what each should show → scores


def rewrite(*, completions: Sequence[str], answer: Sequence[str], kind: Sequence[str], **_: Any) -> list[Score]:
    """How close a rewrite is to the explicit prompt; half for being exact. Not for `look`."""
    return [_text_score(said, truth) if which == "reason" else None for said, truth, which in zip(completions, answer, kind, strict=True)]


def answer(*, completions: Sequence[str], answer: Sequence[str], kind: Sequence[str], **_: Any) -> list[Score]:
    """How close an answer about a photo is to the truth; half for being exact. Not for `reason`."""
    return [_text_score(said, truth) if which == "look" else None for said, truth, which in zip(completions, answer, kind, strict=True)]


def _text_score(said: str, truth: str) -> float:
    return 0.5 * exact(said, truth) + 0.5 * token_f1(said, truth)


def wanted_picture(concept: Concept, kind: str, truth: str) -> str:
    """What a right picture shows, in words without the placeholder: the explicit prompt, or for `look` the plain concept."""
    prompt = truth if kind == "reason" else f"a photo of {placeholder(concept.name)}"
    return prompt.replace(placeholder(concept.name), concept.class_noun)


class ClipRewards:
    """CLIP-I to the concept's photos and CLIP-T to the wanted picture. Photos are embedded once per concept."""

    def __init__(self, clip: ClipScorer) -> None:
        self.clip = clip
        self._references: dict[str, Tensor] = {}

    def references(self, concept: Concept) -> Tensor:
        """Features [R, D] of the training photos."""
        if concept.name not in self._references:
            self._references[concept.name] = self.clip.image_features([load_image(path) for path in concept.train_images])
        return self._references[concept.name]

    def identity(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Mean cosine to the photos."""
        features = self.clip.image_features(images)
        return [float((feature @ self.references(who).mean(0)).clamp(0, 1)) for feature, who in zip(features, concept, strict=True)]

    def alignment(self, *, images: Tensor, concept: Sequence[Concept], kind: Sequence[str], answer: Sequence[str], **_: Any) -> list[Score]:
        """Cosine to the wanted picture in words."""
        texts = [wanted_picture(*row) for row in zip(concept, kind, answer, strict=True)]
        return list(self.clip.clip_t(images, texts, truncate=True).tolist())


class JudgeRewards:
    """An image judge asked twice: is it the concept, and does it show what was asked?"""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def likeness(self, *, images: Tensor, concept: Sequence[Concept], **_: Any) -> list[Score]:
        """Against the info line."""
        return list(self.judge(images, [who.info for who in concept]))

    def faithfulness(
        self, *, images: Tensor, concept: Sequence[Concept], kind: Sequence[str], answer: Sequence[str], **_: Any
    ) -> list[Score]:
        """Against the spelled-out prompt, without the concept itself. Not for `look`, which asks for nothing else."""
        texts = [
            truth.replace(placeholder(who.name), "") if which == "reason" else ""
            for who, which, truth in zip(concept, kind, answer, strict=True)
        ]
        return [score if text else None for score, text in zip(self.judge(images, texts), texts, strict=True)]
