"""From the values of finished cells to claims: means with 95 % bootstrap intervals, and verdicts by declared bars.

Pure functions; no model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from application_claims.declared import Bar, Claim
from sync_r1.study.claims import MIN_CELLS
from sync_r1.study.estimates import RESAMPLES
from sync_r1.unifybench.bootstrap import macro_interval

Cell = Mapping[str, Any]  # {concept, seed, values: measure → value per case}
Row = dict[str, Any]
RULES: dict[str, Callable[[float, float, float], bool]] = {  # value, lower end of its interval, bar → met?
    "at least": lambda value, low, bar: value >= bar,
    "at most": lambda value, low, bar: value <= bar,
    "gain of at least": lambda value, low, bar: value >= bar and low > 0,
    "always": lambda value, low, bar: value == 1,
}


def judge(claim: Claim, cells: Sequence[Cell], command: str) -> Row:
    """One entry of `claims` in docs/applications.json.

    `value`, `ci95`, `n`, `n_concepts` and `n_seeds` are those of the bar that decides: the first that is not met, else
    the first that is undecided, else the first of all.
    """
    rows = [_row(bar, cells) for bar in claim.bars]
    return _entry(claim, rows, command)


def judge_elsewhere(claim: Claim, measured: Iterable[Row], command: str) -> Row:
    """The same for a claim that another command measures, whose bar every one of its rows must meet."""
    (bar,) = claim.bars
    rows = []
    for found in measured:
        met = RULES[bar.rule](found["value"], found["ci95"][0], bar.bar or 0.0)
        rows.append({**found, "goal": bar.text, "n_concepts": 0, "n_seeds": 1, "cells": 1, "holds": met})
    return _entry(claim, rows, command)


def _entry(claim: Claim, rows: Sequence[Row], command: str) -> Row:
    deciding = [row for row in rows if row["goal"] != "shown"]
    verdicts = [row["holds"] for row in deciding]
    shown = deciding[0]
    holds: bool | None = True
    for verdict in (False, None):
        if verdict in verdicts:
            shown, holds = deciding[verdicts.index(verdict)], verdict
            break
    figures = {name: shown[name] for name in ("value", "ci95", "n", "n_concepts", "n_seeds")}
    head = {"id": claim.id, "statement": claim.statement, "goal": claim.goal}
    return {**head, **figures, "holds": holds, "command": command, "measures": list(rows)}


def _row(bar: Bar, cells: Sequence[Cell]) -> Row:
    """One measure over the cells that have values of it."""
    own = [cell for cell in cells if cell["values"].get(bar.measure)]
    row: Row = {"measure": bar.measure, "goal": bar.text, "value": None, "ci95": None, "n": 0}
    row |= {"n_concepts": len({cell["concept"] for cell in own}), "n_seeds": len({cell["seed"] for cell in own})}
    row |= {"cells": len(own), "holds": None}
    if not own:
        return row
    value, low, high = estimate(bar.measure, own)
    row |= {"value": round(value, 4), "ci95": [round(low, 4), round(high, 4)]}
    row["n"] = sum(len(cell["values"][bar.measure]) for cell in own)
    if bar.rule != "shown" and len(own) >= MIN_CELLS:
        row["holds"] = RULES[bar.rule](value, low, bar.bar or 0.0)
    return row


def estimate(measure: str, cells: Iterable[Cell]) -> tuple[float, float, float]:
    """The mean over concepts of the mean over seeds of the mean over cases, and its 95 % interval.

    Concepts are drawn again, and the cases of each of their seeds; of one concept only the cases are.
    """
    concepts: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        concepts.setdefault(cell["concept"], []).append(np.array(cell["values"][measure], dtype=float))
    means = [np.mean([side.mean() for side in sides]) for sides in concepts.values()]
    low, high = macro_interval([concepts], resamples=RESAMPLES)
    return _exact(float(np.mean(means))), low, high


def _exact(value: float) -> float:
    """A mean of equal numbers may be off in the last bit, which "always" and a bar that is just met must not see."""
    nearest = round(value, 12)
    return nearest if math.isclose(value, nearest, abs_tol=1e-12) else value


def waited(cells: Sequence[Cell]) -> dict[str, Row]:
    """What people wait for → median seconds, the shortest and the longest, and how often it was timed."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for what, seconds in cell["values"].items():
            found.setdefault(what, []).extend(seconds)
    rows = {}
    for what, seconds in found.items():
        ends = [round(min(seconds), 3), round(max(seconds), 3)]
        rows[what] = {"median": round(float(np.median(seconds)), 3), "range": ends, "n": len(seconds)}
    return rows
