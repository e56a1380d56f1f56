"""What a scorer and a reward look like. Both are plain callables; a class is needed only where a network must be held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from torch import Tensor

Score: TypeAlias = float | None  # None: could not be scored; excluded from means, never a silent 0
TextScorer: TypeAlias = Callable[[str, str], float]  # (prediction, truth) → [0, 1]


class ImageScorer(Protocol):
    """Pictures against reference pictures."""

    def clip_i(self, images: Tensor, references: Tensor) -> Tensor:
        """images uint8 [B,3,H,W], reference features fp32 [R,D] → fp32 [B] in [0, 1]."""
        ...

    def clip_t(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """images uint8 [B,3,H,W], B texts → fp32 [B] in [0, 1]."""
        ...


class Reward(Protocol):
    """TRL's shape: keyword arguments only, one score per completion. Take what you need and let `**extra` swallow the rest."""

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], images: Tensor | None, concept: Any, **extra: Any
    ) -> Sequence[Score]: ...


def is_scored(score: Score) -> bool:
    """Whether a scorer gave a number; NaN and infinities mean it could not."""
    return score is not None and math.isfinite(score)


def mean_ignoring_none(scores: Iterable[Score]) -> Score:
    """Mean of what could be scored; None when nothing could."""
    known = [float(score) for score in scores if score is not None and math.isfinite(score)]
    return sum(known) / len(known) if known else None
