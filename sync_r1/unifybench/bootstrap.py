"""Percentile intervals of scores, from items drawn again, and from the concepts or runs that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
MACRO_RESAMPLES = 2_000  # of concepts × items, per column of a table
_CELLS = 4_000_000  # indices drawn at once, which bounds memory

# Per-item values of the parts of a task that count equally: each [n], or [2, n] of a pair that is drawn together.
Strata = Sequence[np.ndarray]
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # means of one and of the other [R] → [R]


def bootstrap_interval(
    tasks: Sequence[Strata], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over tasks of the mean over strata of per-item values.

    Args:
        tasks: per task its strata, per stratum the values [n] of its items; items are resampled within their stratum.
    """
    return interval(resampled_score(tasks, resamples, np.random.default_rng(seed)), (1 - confidence) / 2)


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
        pool = np.stack([resampled_score([concepts[name]], resamples, rng) for name in names])
        # A concept drawn twice brings two different draws of its items.
        totals.append(np.mean([pool[row, rng.permutation(resamples)] for row in chosen[names]], axis=0))
    return interval(np.mean(totals, axis=0), (1 - confidence) / 2)


def paired_interval(
    runs: Sequence[Sequence[Strata]], statistic: Statistic, *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of two means over runs of the mean over tasks of the mean over strata.

    Both levels are resampled and paired: a resample takes the same runs, and in each the same items, on both sides.

    Args:
        runs: per run its tasks, per task its strata, each the values [2, n] of both sides' items.
    """
    rng = np.random.default_rng(seed)
    pool = np.stack([resampled_score(tasks, resamples, rng) for tasks in runs])  # [runs, 2, R]
    chosen = drawn_again(len(runs), resamples, rng)
    means = pool[chosen, :, np.arange(resamples)[:, None]].mean(axis=1)  # [R, 2]
    return interval(statistic(means[:, 0], means[:, 1]))


def drawn_again(count: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R, count] indices below `count`, drawn with replacement: a row is one resample."""
    return rng.integers(count, size=(resamples, count))


def resampled_score(tasks: Sequence[Strata], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R], or [2, R] of pairs: the mean over tasks of the mean over strata, with items drawn again in each stratum."""
    means = []
    for sides in tasks:
        means.append(np.mean([resampled_means(side, resamples, rng) for side in sides], axis=0))
    return np.asarray(np.mean(means, axis=0))


def resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R] means of `values` [n] drawn with replacement; of pairs [2, n] → [2, R], both sides by the same draws."""
    sides = np.atleast_2d(values)
    count = sides.shape[1]
    rows = max(1, _CELLS // count)
    parts = []
    for start in range(0, resamples, rows):
        index = rng.integers(count, size=(min(rows, resamples - start), count))
        parts.append(np.stack([side[index].mean(axis=1) for side in sides]))
    means = np.concatenate(parts, axis=1)
    if values.ndim == 1:
        return np.asarray(means[0])
    return means


def interval(samples: np.ndarray, tail: float = 0.025) -> tuple[float, float]:
    """The samples' quantiles `tail` and 1 − `tail`."""
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)
