"""From finished cells to claims: paired differences with 95 % bootstrap intervals, and rules that say whether a claim
holds.

Pure functions on the dictionaries of cell.json; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sync_r1.study.study_file import START, Claim
from sync_r1.unifybench.bootstrap import Statistic, interval, paired_interval, resampled_means
from sync_r1.unifybench.results import GENERATION, UNDERSTANDING

RESAMPLES = 4000
# a bootstrap over fewer has next to no spread between cells, so its interval would be too narrow to decide anything
MIN_CELLS = 3
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


def difference(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm - other


def relative(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm / other - 1


def ratio(arm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return arm / other


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
    arm: Mapping[str, CellData],
    other: Mapping[str, CellData],
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
    return PairedEstimate(value, low, high, float(centre[0]), float(centre[1]), names)


def _paired(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The strata of one task: [n] of both arms → [2, n]."""
    return [np.stack(pair) for pair in zip(first, second, strict=True)]


def by_arm(cells: Sequence[CellData]) -> dict[str, dict[str, CellData]]:
    """arm → "concept-seed" → cell; START holds every pair once, with its scores before training."""
    arms: dict[str, dict[str, CellData]] = {START: {}}
    for cell in cells:
        name = f"{cell['concept']}-{cell['seed']}"
        arms.setdefault(cell["arm"], {})[name] = cell
        arms[START].setdefault(name, cell)
    return arms


def judge(claim: Claim, cells: Sequence[CellData]) -> dict[str, Any]:
    """One entry of results.json: {id, statement, goal, rule, holds, delta, ci95, n_seeds, n_concepts, runs, measures}.

    `delta` and `ci95` are those of the measure that is hardest for the claim; all that can be compared yet are in
    `measures`. A claim `holds` when all comparisons succeed and does not when one fails; None is undecided. Fewer than
    MIN_CELLS cells decide nothing.
    """
    arms = by_arm(cells)
    entry: dict[str, Any] = {"id": claim.id, "statement": claim.statement, "goal": claim.goal, "rule": claim.rule}
    rows = _comparisons(claim, arms)
    if not rows:
        nothing: dict[str, Any] = {
            "holds": None,
            "delta": None,
            "ci95": None,
            "n_seeds": 0,
            "n_concepts": 0,
            "runs": [],
            "measures": [],
        }
        return {**entry, **nothing}
    sign = 1
    if claim.rule == "cheaper":
        sign = -1
    worst = min(rows, key=lambda row: (bool(row["holds"]), sign * row["value"]))
    names = sorted({name for row in rows for name in row["cells"]})
    concepts, seeds = [], []
    for row in rows:
        split = [name.rpartition("-") for name in row["cells"]]
        concepts.append(len({concept for concept, _, _ in split}))
        seeds.append(len({seed for _, _, seed in split}))
    runs = []
    for arm in (claim.arm, *claim.against):
        if arm != START:
            runs += [f"{arm}/{name}" for name in names if name in arms.get(arm, {})]
    return {
        **entry,
        "holds": _verdict(claim, rows),
        "delta": worst["value"],
        "ci95": worst["ci95"],
        "n_seeds": min(seeds),
        "n_concepts": min(concepts),
        "runs": runs,
        "measures": rows,
    }


def _comparisons(claim: Claim, arms: Mapping[str, Cells]) -> list[dict[str, Any]]:
    """The rows `measures` of an entry: the claim's arm against each other one, by each measure that has data yet."""
    mine = arms.get(claim.arm, {})
    rows: list[dict[str, Any]] = []
    for other in claim.against:
        for measure in claim.measures:
            against = arms.get(other, {})
            if other == START:
                against = mine
            try:
                found, holds = RULES[claim.rule](claim, mine, against, measure, other == START)
            except ValueError:
                continue  # nothing to compare yet
            row = {
                "measure": measure,
                "against": other,
                "holds": None,
                "value": found.value,
                "ci95": [found.low, found.high],
                "arm": found.arm,
                "other": found.other,
                "cells": found.cells,
            }
            if len(found.cells) >= MIN_CELLS:
                row["holds"] = holds
            rows.append(row)
    return rows


def _verdict(claim: Claim, rows: Sequence[dict[str, Any]]) -> bool | None:
    """False where one comparison fails, None where one is undecided or missing, else True."""
    verdicts = {row["holds"] for row in rows}
    if False in verdicts:
        return False
    if None in verdicts or len(rows) < len(claim.against) * len(claim.measures):
        return None
    return True


Rule = Callable[[Claim, Cells, Cells, str, bool], tuple[PairedEstimate, bool]]


def _gain(claim: Claim, arm: Cells, other: Cells, measure: str, start: bool) -> tuple[PairedEstimate, bool]:
    """The relative gain is at least `at_least`, and its interval excludes 0."""
    found = compare(arm, other, measure, relative, start=start)
    return found, found.value >= claim.at_least and found.low > 0


def _higher(claim: Claim, arm: Cells, other: Cells, measure: str, start: bool) -> tuple[PairedEstimate, bool]:
    """The difference's interval lies above 0."""
    found = compare(arm, other, measure, difference, start=start)
    return found, found.low > 0


def _share(claim: Claim, arm: Cells, other: Cells, measure: str, start: bool) -> tuple[PairedEstimate, bool]:
    """The arm reaches at least the share `at_least` of the other."""
    found = compare(arm, other, measure, ratio, start=start)
    return found, found.value >= claim.at_least


def _not_beaten(claim: Claim, arm: Cells, other: Cells, measure: str, start: bool) -> tuple[PairedEstimate, bool]:
    """The other is not better: the interval of arm − other does not lie below 0."""
    found = compare(arm, other, measure, difference, start=start)
    return found, found.high >= 0


def _cheaper(claim: Claim, arm: Cells, other: Cells, measure: str, start: bool) -> tuple[PairedEstimate, bool]:
    """The arm reaches the other's final validation score with at most the share `at_most` of the image evaluations the
    other needs.
    """
    names = [
        name
        for name in sorted(set(arm) & set(other))
        if _measured(arm[name], measure) and _measured(other[name], measure)
    ]
    if not names:
        raise ValueError(f"no two cells have a curve of {measure!r}")
    shares = np.array([nfe_share(arm[name]["curve"], other[name]["curve"], measure) for name in names])
    low, high = interval(resampled_means(shares, RESAMPLES, np.random.default_rng(0)))
    found = PairedEstimate(float(shares.mean()), low, high, float(shares.mean()), 1.0, names)
    return found, found.value <= claim.at_most


def _measured(cell: CellData, key: str) -> bool:
    return any(row.get(key) is not None for row in cell["curve"])


def nfe_share(arm: Sequence[Mapping[str, float]], other: Sequence[Mapping[str, float]], key: str) -> float:
    """Image evaluations with which `arm` first reaches the other's final value of `key` (mean of its last three
    points), as a share of those with which the other first reached it: 1 for an arm against itself. Never reached
    counts as all the arm spent, at least 1."""
    mine = [(row["nfe_total"], row[key]) for row in arm if row.get(key) is not None]
    theirs = [(row["nfe_total"], row[key]) for row in other if row.get(key) is not None]
    goal = float(np.mean([value for _, value in theirs[-3:]]))
    reached, needed = _first(mine, goal), _first(theirs, goal)
    assert needed is not None, "a curve reaches the mean of its own points"
    if reached is not None:
        return reached / needed
    return max(mine[-1][0] / needed, 1.0)


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


RULES: dict[str, Rule] = {
    "gain": _gain,
    "higher": _higher,
    "share": _share,
    "not-beaten": _not_beaten,
    "cheaper": _cheaper,
}
