"""From finished cells to claims: comparisons with 95 % bootstrap intervals, and whether a claim holds.

Pure functions on the dictionaries of cell.json; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sync_r1.study.estimates import CellData, by_arm
from sync_r1.study.rules import RULES, Evidence, opponents
from sync_r1.study.study_file import START, Claim

# a bootstrap over fewer has next to no spread between cells, so its interval would be too narrow to decide anything
MIN_CELLS = 3
SMALLER_IS_BETTER = ("cheaper", "cheaper-than-best", "less-noise")


def judge(claim: Claim, cells: Sequence[CellData], variance: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One entry of results.json: {id, statement, goal, rule, holds, delta, ci95, n_seeds, n_concepts, runs, measures},
    and `missing`, [measure, other] of comparisons that cannot be made yet, where there are some.

    `delta` and `ci95` are those of the measure that is hardest for the claim; all that can be compared yet are in
    `measures`. A claim `holds` when all comparisons succeed and does not when one fails; None is undecided. Fewer than
    MIN_CELLS cells decide nothing.

    Args:
        variance: of gradients, for the rule less-noise; see variance.py.
    """
    arms = by_arm(cells)
    entry: dict[str, Any] = {"id": claim.id, "statement": claim.statement, "goal": claim.goal, "rule": claim.rule}
    rows = _comparisons(claim, Evidence(arms, variance or {}))
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
    sign = -1 if claim.rule in SMALLER_IS_BETTER else 1
    worst = min(rows, key=lambda row: (bool(row["holds"]), sign * row["value"]))
    names = sorted({name for row in rows for name in row["cells"]})
    concepts, seeds = [], []
    for row in rows:
        split = [name.rpartition("-") for name in row["cells"]]
        concepts.append(len({concept for concept, _, _ in split}))
        seeds.append(len({seed for _, _, seed in split}))
    runs = []
    for arm in dict.fromkeys((claim.arm, *claim.against)):
        if arm != START:
            runs += [f"{arm}/{name}" for name in names if name in arms.get(arm, {})]
    missing = _missing(claim, rows)
    return {
        **entry,
        "holds": _verdict(claim, rows),
        "delta": worst["value"],
        "ci95": worst["ci95"],
        "n_seeds": min(seeds),
        "n_concepts": min(concepts),
        "runs": runs,
        "measures": rows,
        **({"missing": missing} if missing else {}),
    }


def _comparisons(claim: Claim, evidence: Evidence) -> list[dict[str, Any]]:
    """The rows `measures` of an entry: the claim's arm against each other one, by each measure that has data yet."""
    rows: list[dict[str, Any]] = []
    for other in opponents(claim):
        for measure in claim.measures:
            try:
                found, holds = RULES[claim.rule](claim, evidence, other, measure)
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
            if claim.in_cells:
                row["above"] = found.above
            if len(found.cells) >= MIN_CELLS:
                row["holds"] = holds
            rows.append(row)
    return rows


def _missing(claim: Claim, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """[measure, other] of the comparisons that are not among the rows."""
    made = [(row["measure"], row["against"]) for row in rows]
    wanted = [(measure, other) for other in opponents(claim) for measure in claim.measures]
    return [list(pair) for pair in wanted if pair not in made]


def _verdict(claim: Claim, rows: Sequence[dict[str, Any]]) -> bool | None:
    """False where one comparison fails, None where one is undecided or missing, else True."""
    verdicts = {row["holds"] for row in rows}
    if False in verdicts:
        return False
    if None in verdicts or _missing(claim, rows):
        return None
    return True
