"""What a scorer, a judge and a reward look like.

All are plain callables; a class is needed only where a network must be held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from sync_r1.suggestions import did_you_mean

Score: TypeAlias = float | None  # None: could not be scored; excluded from means, never a silent 0
Part: TypeAlias = Literal["text", "image"]  # the part of a trajectory that a reward judges
# keyword columns → one score per row, or a coroutine of that; see rl/rewards.py
RewardFunction: TypeAlias = Callable[..., Any]


class Judge(Protocol):
    """Looks at pictures and says how well each shows what a text asks for."""

    def __call__(
        self, images: Tensor, texts: Sequence[str], *, references: Sequence[Sequence[Path]] | None = None
    ) -> Sequence[Score]:
        """Scores in [0, 1], one per picture; None where it could not score, and where the text is empty.

        Args:
            images: uint8 [B, 3, H, W].
            texts: B descriptions.
            references: photos of the subject, B lists; with them the score also says how much it is the same subject.
        """
        ...


@runtime_checkable
class CountsUnasked(Protocol):
    """A judge that also counts what a picture shows and its text does not name."""

    def unasked(self, images: Tensor, texts: Sequence[str]) -> Sequence[int | None]:
        """How many such things each picture (uint8 [B, 3, H, W]) shows; None where the text names nothing to see."""
        ...


def is_scored(score: Score) -> bool:
    """Whether a scorer gave a number; NaN and infinities mean it could not."""
    return score is not None and math.isfinite(score)


def mean_ignoring_none(scores: Iterable[Score]) -> Score:
    """Mean of what could be scored; None when nothing could."""
    known = [float(score) for score in scores if score is not None and math.isfinite(score)]
    if known:
        return sum(known) / len(known)
    return None


def check_name(name: str, known: Collection[str], option: str) -> None:
    """ValueError with near matches when `option` names an unknown reward."""
    if name in known:
        return
    hint = did_you_mean(name, sorted(known))
    raise ValueError(f"{option} names {name!r}, which is no reward; {hint} (your own go in rl.custom_rewards)")


def check_fallback(fallback: Mapping[str, str], parts: Mapping[str, Part]) -> None:
    """ValueError for a fallback that is unknown, judges the other part, or leads back to where it came from.

    Args:
        fallback: reward → its fallback. parts: part of every known reward.
    """
    option = "scorers.fallback"
    for name, other in fallback.items():
        check_name(name, parts, option)
        check_name(other, parts, f"{option}.{name}")
        if parts[name] != parts[other]:
            raise ValueError(
                f"{option}.{name} is {other!r}, which judges the {parts[other]}; use one that judges the {parts[name]}"
            )
        chain = [name]
        while chain[-1] in fallback:
            chain.append(fallback[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise ValueError(f"{option} goes in a circle: {' → '.join(chain)}; remove one of these entries")
