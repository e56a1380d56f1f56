"""Percentile intervals of benchmark scores, from items and concepts drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
MACRO_RESAMPLES = 2_000  # of concepts × items, per column of a table
_CELLS = 4_000_000  # indices drawn at once, which bounds memory

Strata = Sequence[np.ndarray]  # per-item values [n] of the parts of a task that count equally


def bootstrap_interval(
    tasks: Sequence[Strata], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over tasks of the mean over strata of per-item values.

    Args:
        tasks: per task its strata, per stratum the values [n] of its items; items are resampled within their stratum.
    """
    rng = np.random.default_rng(seed)
    means = []
    for sides in tasks:
        means.append(np.mean([resampled_means(side, resamples, rng) for side in sides], axis=0))
    total = np.mean(means, axis=0)
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
        means = []
        for name in names:
            means.append(np.mean([resampled_means(side, resamples, rng) for side in concepts[name]], axis=0))
        pool = np.stack(means)
        # A concept drawn twice brings two different draws of its items.
        totals.append(np.mean([pool[row, rng.permutation(resamples)] for row in chosen[names]], axis=0))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.mean(totals, axis=0), [tail, 1 - tail])
    return float(low), float(high)
