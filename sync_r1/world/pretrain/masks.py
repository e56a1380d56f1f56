"""Regions of the grid of image tokens that pretraining hides: what an edit leaves open."""

from __future__ import annotations

import numpy as np

from sync_r1.data.regions import Square
from sync_r1.world.regions import seen_mask
from sync_r1.world.render import SIZE


def rectangle(rng: np.random.Generator, side: int) -> np.ndarray:
    """bool [side, side]: one rectangle of two to `side` cells each way."""
    height, width = (int(size) for size in rng.integers(2, side + 1, size=2))
    top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
    region = np.zeros((side, side), dtype=bool)
    region[top : top + height, left : left + width] = True
    return region


def stroke(rng: np.random.Generator, side: int) -> np.ndarray:
    """bool [side, side]: the cells that a brush of two cells' width touches on a random walk."""
    region = np.zeros((side, side), dtype=bool)
    row, column = (int(place) for place in rng.integers(0, side - 1, size=2))
    for _ in range(int(rng.integers(1, side + 1))):
        region[row : row + 2, column : column + 2] = True
        row = int(np.clip(row + rng.integers(-1, 2), 0, side - 2))
        column = int(np.clip(column + rng.integers(-1, 2), 0, side - 2))
    return region


def attribute_cells(name: str, side: int) -> np.ndarray:
    """bool [side · side]: the cells where an attribute is seen."""
    return Square(SIZE, SIZE, side).cells(seen_mask(name))


def hidden_cells(rng: np.random.Generator, cells: int, regions: float, inside: np.ndarray | None = None) -> np.ndarray:
    """bool [cells]: what is masked of one picture, at least one cell, and only `inside` where that is given.

    A share cos(u·π/2), u uniform, of all cells (MaskGIT, arXiv 2202.04200, §3.1), or, with probability `regions`, of
    the cells in a rectangle or under a stroke, while everything else is known.
    """
    side = int(cells**0.5)
    if inside is None and rng.random() < regions:
        inside = (rectangle if rng.random() < 0.5 else stroke)(rng, side)
    elif inside is None:
        inside = np.ones(cells, dtype=bool)
    share = np.cos(rng.random() * np.pi / 2)
    order = rng.permutation(np.flatnonzero(inside))
    hidden = np.zeros(cells, dtype=bool)
    hidden[order[: max(1, round(share * len(order)))]] = True
    return hidden
