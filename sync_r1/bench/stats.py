"""Two evaluations of the same items, compared: differences with 95 % intervals from a paired, stratified bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sync_r1.bench.result import GENERATION, TASKS, UNDERSTANDING, EvalResult, ScoredItem, mean, strata

RESAMPLES = 10_000
MACRO_RESAMPLES = 2_000  # of concepts × items, per column of a table
_CELLS = 4_000_000  # indices drawn at once, which bounds memory

Strata = Sequence[np.ndarray]  # per-item values [n] of the parts of a task that count equally
Pair = tuple[ScoredItem, ScoredItem]


def compare(before: EvalResult, after: EvalResult, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """{"understanding": {before, after, delta, ci95, n}, "generation": …, "tasks": {task: the same and metric,
    unscored}}.

    A half is the plain mean over its tasks; its interval resamples within every task. Items that either phase could not
    score are left out on both sides and counted. A half without tasks is absent.

    Raises:
        ValueError: the two did not evaluate the same items (the first difference is named), or nothing was scored in
            both.
    """
    pairs = match(before, after)
    parts: dict[str, list[list[Pair]]] = {}
    unscored: dict[str, int] = {}
    for task in TASKS:
        own = [pair for pair in pairs if pair[0].task == task]
        known = [pair for pair in own if pair[0].score is not None and pair[1].score is not None]
        unscored[task] = len(own) - len(known)
        if known:
            sides = strata(first for first, _ in known)
            after_of = {first.key: second for first, second in known}
            parts[task] = [[(item, after_of[item.key]) for item in side] for side in sides.values()]
    if not parts:
        raise ValueError("no item was scored both before and after; look at the judge")
    result: dict[str, Any] = {}
    for half, tasks in (("understanding", UNDERSTANDING), ("generation", GENERATION)):
        if chosen := [parts[task] for task in tasks if task in parts]:
            result[half] = _summary(chosen, resamples, seed)
    result["tasks"] = {
        task: {**_summary([sides], resamples, seed), "metric": after.metrics.get(task, ""), "unscored": unscored[task]}
        for task, sides in parts.items()
    }
    return result


def match(before: EvalResult, after: EvalResult) -> list[Pair]:
    """The same items, before and after. ValueError when the sets, judges or metrics differ."""
    first, second = [item.key for item in before.items], [item.key for item in after.items]
    if first != second:
        place = next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))
        sides = [str(keys[place]) if place < len(keys) else "nothing" for keys in (first, second)]
        raise ValueError(
            f"the two evaluations asked different things, first at item {place}: {sides[0]} before, {sides[1]} after; "
            "evaluate both with the same concept, tasks, max_items and seed"
        )
    for name in ("judge", "metrics"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            raise ValueError(
                f"{name} is {old!r} before and {new!r} after; scores of different judges cannot be compared"
            )
    settings = [
        {name: value for name, value in result.protocol.items() if name != "model"} for result in (before, after)
    ]
    if settings[0] != settings[1]:
        changed = [name for name in {**settings[0], **settings[1]} if settings[0].get(name) != settings[1].get(name)]
        raise ValueError(f"{', '.join(changed)} differ before and after; evaluate both with the same options")
    return list(zip(before.items, after.items))


def _summary(tasks: Sequence[Sequence[Sequence[Pair]]], resamples: int, seed: int) -> dict[str, Any]:
    """tasks → strata → pairs, each level averaged with equal weights."""

    def level(which: int) -> float:
        return mean(mean(mean(pair[which].score or 0.0 for pair in side) for side in sides) for sides in tasks)

    differences = [
        [np.array([(b.score or 0.0) - (a.score or 0.0) for a, b in side]) for side in sides] for sides in tasks
    ]
    before, after = level(0), level(1)
    low, high = bootstrap_interval(differences, resamples=resamples, seed=seed)
    count = sum(len(side) for sides in tasks for side in sides)
    return {"before": before, "after": after, "delta": after - before, "ci95": [low, high], "n": count}


def bootstrap_interval(
    tasks: Sequence[Strata], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over tasks of the mean over strata of per-item values.

    Args:
        tasks: per task its strata, per stratum the values [n] of its items; items are resampled within their stratum.
    """
    rng = np.random.default_rng(seed)
    total = np.mean(
        [np.mean([resampled_means(side, resamples, rng) for side in sides], axis=0) for sides in tasks], axis=0
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(total, [tail, 1 - tail])
    return float(low), float(high)


def resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[resamples] means of `values` [n] drawn with replacement."""
    rows = max(1, _CELLS // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes])


def macro_interval(
    tasks: Sequence[Mapping[str, Strata]], *, resamples: int = MACRO_RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over tasks of the mean over concepts of the mean over strata.

    Both levels are resampled: concepts (the same draw for all tasks of the same concepts), and items within concept,
    task and stratum. With one concept only its items are.

    Args:
        tasks: per task, concept → its strata, each the values [n] of its items; concepts without values are left out by
            the caller.
    """
    rng = np.random.default_rng(seed)
    chosen: dict[tuple[str, ...], np.ndarray] = {}
    totals = []
    for concepts in tasks:
        names = tuple(concepts)
        if names not in chosen:
            chosen[names] = rng.integers(len(names), size=(len(names), resamples))
        pool = np.stack(
            [np.mean([resampled_means(side, resamples, rng) for side in concepts[name]], axis=0) for name in names]
        )
        # A concept drawn twice brings two different draws of its items.
        totals.append(np.mean([pool[row, rng.permutation(resamples)] for row in chosen[names]], axis=0))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.mean(totals, axis=0), [tail, 1 - tail])
    return float(low), float(high)
