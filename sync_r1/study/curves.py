"""How many image evaluations an arm needs for a score, from the curves of its cells.

Pure functions on the rows that cells keep of metrics.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sync_r1.unifybench.bootstrap import drawn_again, interval

Curve = Sequence[Mapping[str, float]]  # rows with nfe_total and, where it was measured, the key
LAST = 3  # points at the end of a curve whose mean is its final value


def measured(cell: Mapping[str, Any], key: str) -> bool:
    """Whether the curve of a cell has `key` anywhere."""
    return any(row.get(key) is not None for row in cell["curve"])


def nfe_share(arm: Curve, other: Curve, key: str) -> float:
    """Image evaluations with which `arm` first reaches the other's final value of `key` (mean of its last three
    points), as a share of those with which the other first reached it: 1 for an arm against itself. Never reached
    counts as all the arm spent, at least 1."""
    mine, theirs = _points(arm, key), _points(other, key)
    goal = final_value(other, key)
    reached, needed = _first(mine, goal), _first(theirs, goal)
    assert needed is not None, "a curve reaches the mean of its own points"
    if reached is not None:
        return reached / needed
    return max(mine[-1][0] / needed, 1.0)


def final_value(curve: Curve, key: str) -> float:
    """Mean of the last three points of `key`."""
    return float(np.mean([value for _, value in _points(curve, key)[-LAST:]]))


def share_of_best(
    arm: Sequence[Curve], others: Sequence[Sequence[Curve]], key: str, resamples: int, seed: int = 0
) -> tuple[float, float, float, int]:
    """`nfe_share` against the best of several arms: the mean over cells, its 95 % interval, and which arm is the best.

    The best arm is the one whose mean final value over the cells is the largest. A resample takes the same cells of
    all arms, and chooses the best arm anew: who is best is noise as well.

    Args:
        arm: C curves, one per cell. others: A arms, each the curves of the same C cells.
    """
    finals = np.array([[final_value(curve, key) for curve in curves] for curves in others])  # [A, C]
    shares = []
    for curves in others:
        shares.append([nfe_share(mine, theirs, key) for mine, theirs in zip(arm, curves, strict=True)])
    table = np.array(shares)  # [A, C]
    cells = drawn_again(table.shape[1], resamples, np.random.default_rng(seed))
    best = finals[:, cells].mean(axis=2).argmax(axis=0)  # [R]
    samples = table[:, cells].mean(axis=2)[best, np.arange(resamples)]
    chosen = int(finals.mean(axis=1).argmax())
    return float(table[chosen].mean()), *interval(samples), chosen


def _points(curve: Curve, key: str) -> list[tuple[float, float]]:
    return [(row["nfe_total"], row[key]) for row in curve if row.get(key) is not None]


def _first(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    """Where a curve of (x, value) first reaches `goal`, straight lines between its points; None where it never does."""
    for place, (x, value) in enumerate(curve):
        if value >= goal - 1e-9:  # the mean of equal numbers may round up
            if place:
                before, low = curve[place - 1]
            else:
                before, low = (x, value)
            if value == low:
                return x
            return before + (x - before) * (goal - low) / (value - low)
    return None
