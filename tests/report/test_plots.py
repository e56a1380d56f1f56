"""Curves from plain rows."""

from __future__ import annotations

import base64

import pytest

from sync_r1.report import plots

ROWS = [
    {"step": s, "reward": s / 10, "reward_std": 0.1, "rewards/identity/mean": 0.5, "rewards/identity/std": 0.1}
    for s in range(1, 6)
]


def test_series_leaves_out_what_is_missing_or_not_finite() -> None:
    rows = [{"step": 1, "a": 0.5}, {"step": 2}, {"step": 3, "a": float("nan")}, {"step": 4, "a": 0.7}]
    assert plots.series(rows, "a") == ([1, 4], [0.5, 0.7])


def test_smoothing_by_hand() -> None:
    assert plots.smooth([3.0, 3.0, 3.0]) == pytest.approx([3, 3, 3])
    # window 2 keeps half: (1), (0.5·1 + 2)/1.5, (0.5·2.5 + 6)/1.75
    assert plots.smooth([1.0, 2.0, 6.0], window=2) == pytest.approx([1.0, 2.5 / 1.5, 7.25 / 1.75])


def test_part_names_are_the_means_only() -> None:
    assert plots.part_names(ROWS) == ["identity"]


def test_correlation_by_hand() -> None:
    assert plots.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert plots.correlation([1, 2, 3], [3, 1, 2]) == pytest.approx(-0.5)
    assert plots.correlation([1, 1, 1], [1, 2, 3]) is None
    assert plots.correlation([1, 2], [1, 2]) is None


def test_figures_need_data() -> None:
    assert plots.reward_figure([]) is None and plots.parts_figure([{"step": 1.0}]) is None
    assert plots.dgs_figure(ROWS) is None and plots.preview_figure([0.1], [0.2]) is None
    assert plots.tree_figure(ROWS) is None
    assert plots.svg_uri(None) is None


def test_a_trees_evaluations_are_shown_by_kind() -> None:
    rows = [
        {"step": float(step), "dgs/nfe_previews": 5.0, "dgs/nfe_trunks": 12.0, "dgs/nfe_leaves": 8.0} for step in (1, 2)
    ]
    figure = plots.tree_figure(rows)
    assert figure is not None
    assert {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label()[0] != "_"} == {
        "promises": 5.0,
        "trunks": 12.0,
        "leaves": 8.0,
    }


def test_svg_is_reproducible_and_complete() -> None:
    first, second = plots.svg_uri(plots.reward_figure(ROWS)), plots.svg_uri(plots.reward_figure(ROWS))
    assert first is not None and first == second
    svg = base64.b64decode(first.split(",", 1)[1]).decode()
    assert svg.rstrip().endswith("</svg>") and "<dc:date>" not in svg


def test_one_step_is_drawn_as_a_dot() -> None:
    figure = plots.reward_figure(ROWS[:1])
    assert figure is not None and any(line.get_marker() == "o" for line in figure.axes[0].lines)
