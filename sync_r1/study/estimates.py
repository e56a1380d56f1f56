"""Statistics of an arm's cells against another's: paired differences with 95 % bootstrap intervals.

Pure functions on the dictionaries of cell.json; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sync_r1.study.study_file import START
from sync_r1.unifybench.bootstrap import Statistic, paired_interval
from sync_r1.unifybench.results import GENERATION, UNDERSTANDING

RESAMPLES = 4000
OVERALL = {"understanding": UNDERSTANDING, "generation": GENERATION}

CellData = Mapping[str, Any]
Cells = Mapping[str, CellData]  # "concept-seed" → cell


@dataclass(frozen=True)
class PairedEstimate:
    """A statistic over paired cells."""

    value: float
    low: float  # 95 % interval
    high: float
    arm: float  # mean of the arm
    other: float  # mean of what it is compared with
    cells: list[str]  # "concept-seed"
    above: int = 0  # cells in which the arm's score is above the other's


def difference(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm - other


def relative(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm / other - 1


def ratio(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm / other


def level(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm


def item_values(
    cell: CellData, measure: str, phase: str, among: Collection[tuple[str, str]] | None = None
) -> list[list[np.ndarray]]:
    """tasks → strata → item scores [n] of one overall score or task; `phase` is "before" or "after". Tasks that the
    cell lacks are absent.

    Args:
        among: (task, item) to keep; None keeps all.
    """
    column = {"before": 2, "after": 3}[phase]
    tasks: dict[str, dict[str, list[float]]] = {}
    for row in cell["items"]:
        if row[0] in OVERALL.get(measure, (measure,)) and (among is None or (row[0], row[4]) in among):
            tasks.setdefault(row[0], {}).setdefault(row[1], []).append(row[column])
    found: list[list[np.ndarray]] = []
    for strata in tasks.values():
        found.append([np.array(values) for values in strata.values()])
    return found


def score(values: Sequence[Sequence[np.ndarray]]) -> float:
    """Mean over tasks of the mean over strata of the mean over items."""
    per_task = []
    for task in values:
        per_task.append(np.mean([side.mean() for side in task]))
    return float(np.mean(per_task))


def compare(
    arm: Cells,
    other: Cells,
    measure: str,
    statistic: Statistic = difference,
    *,
    start: bool = False,
    seed: int = 0,
) -> PairedEstimate:
    """Compare two arms on the cells they share, with a bootstrap over cells and over the items inside each cell.

    Both levels are paired: a resample takes the same cells and the same items of both arms, so what varies is the
    difference.

    Args:
        arm, other: "concept-seed" → cell. start: compare with the scores before training instead of after.
    Raises:
        ValueError: no cell in common, or no item in one. Items that one of them could not score are left out of both.
    """
    names = sorted(set(arm) & set(other))
    if not names:
        raise ValueError("the two arms have no finished cell in common")
    points: list[tuple[float, float]] = []
    runs: list[list[list[np.ndarray]]] = []
    phase = "before" if start else "after"
    for name in names:
        both = {(row[0], row[4]) for row in arm[name]["items"]} & {(row[0], row[4]) for row in other[name]["items"]}
        first, second = item_values(arm[name], measure, "after", both), item_values(other[name], measure, phase, both)
        if not first:
            raise ValueError(f"cell {name}: the two arms have no item of {measure!r} in common")
        points.append((score(first), score(second)))
        runs.append([_paired(*sides) for sides in zip(first, second, strict=True)])
    low, high = paired_interval(runs, statistic, resamples=RESAMPLES, seed=seed)
    centre = np.mean(points, axis=0)
    value = float(statistic(centre[:1], centre[1:])[0])
    above = sum(mine > theirs for mine, theirs in points)
    return PairedEstimate(value, low, high, float(centre[0]), float(centre[1]), names, above)


def _paired(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The strata of one task: [n] of both arms → [2, n]."""
    return [np.stack(pair) for pair in zip(first, second, strict=True)]


def with_task_renamed(cells: Cells, task: str, name: str) -> Cells:
    """The cells with the items of `task` under the name of another one, whose own items are left out: so that two
    measures of the same items can be compared."""
    renamed: dict[str, CellData] = {}
    for key, cell in cells.items():
        rows = [[name, *row[1:]] for row in cell["items"] if row[0] == task]
        renamed[key] = {**cell, "items": rows}
    return renamed


def by_arm(cells: Sequence[CellData]) -> dict[str, dict[str, CellData]]:
    """arm → "concept-seed" → cell; START holds every pair once, with its scores before training."""
    arms: dict[str, dict[str, CellData]] = {START: {}}
    for cell in cells:
        name = f"{cell['concept']}-{cell['seed']}"
        arms.setdefault(cell["arm"], {})[name] = cell
        arms[START].setdefault(name, cell)
    return arms
