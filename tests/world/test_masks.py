"""What pretraining hides of a picture: a share of everything, or of one region while the rest is known."""

from __future__ import annotations

import numpy as np

from sync_r1.world.pretrain.masks import hidden_cells, rectangle, stroke


def test_shapes_are_inside_the_grid_and_of_every_size() -> None:
    sizes = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        box, line = rectangle(rng, 8), stroke(rng, 8)
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        assert box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and min(len(rows), len(columns)) >= 2
        assert box.sum() == len(rows) * len(columns) and line.shape == (8, 8) and line.sum() >= 4
        sizes.add(int(box.sum()))
    assert min(sizes) == 4 and max(sizes) == 64


def test_without_regions_every_cell_may_be_hidden_and_one_always_is() -> None:
    hidden = np.stack([hidden_cells(np.random.default_rng(seed), 64, 0.0) for seed in range(400)])
    assert hidden.any(1).all() and (hidden.mean(0) > 0.5).all()
    assert 0.6 < hidden.mean() < 0.68  # the mean of cos(u·π/2) is 2/π


def test_regions_leave_the_rest_known() -> None:
    hidden = np.stack([hidden_cells(np.random.default_rng(seed), 64, 1.0) for seed in range(200)])
    assert hidden.any(1).all() and hidden.mean() < 0.35
    assert (hidden_cells(np.random.default_rng(3), 64, 1.0) == hidden[3]).all()
