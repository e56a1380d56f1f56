"""How Dynamic Group Scaling behaved in a study's runs: a figure over the drawn steps and a table, from cells only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sync_r1.report.plots import BLUE, GREEN, INK, ORANGE, QUIET, smooth, step_axis, style
from sync_r1.study.estimates import CellData
from sync_r1.study.study_file import START

SAVED = "dgs/nfe_saved"  # logged at steps that filter, and nowhere else
COLUMNS = {
    "acceptance": "dgs/acceptance_rate",
    "threshold τ": "dgs/threshold",
    "NFE spent": "dgs/nfe",
    "NFE saved": SAVED,
    "preview–final correlation": "dgs/preview_corr",
    "reward variance, kept": "dgs/reward_var_kept",
    "reward variance, all": "dgs/reward_var_all",
}


def filtered(cell: CellData) -> list[dict[str, float]]:
    """Rows of the cell's curve at which candidates were filtered: drawn steps with DGS on."""
    return [row for row in cell["curve"] if SAVED in row]


def dgs_summary(arms: Mapping[str, Mapping[str, CellData]]) -> dict[str, Any]:
    """Per arm that filters: cells, filtered rollouts, and the mean over cells of each cell's mean over its filtered
    rollouts.
    """
    found: dict[str, Any] = {}
    for arm, group in arms.items():
        runs = [rows for cell in group.values() if (rows := filtered(cell))]
        if arm == START or not runs:
            continue
        means = {}
        for key in COLUMNS.values():
            means[key] = run_means(runs, key)
        found[arm] = {
            "cells": len(runs),
            "rollouts": sum(map(len, runs)),
            **{key: float(np.mean(values)) for key, values in means.items() if values},
        }
    return found


def run_means(runs: Sequence[Sequence[Mapping[str, float]]], key: str) -> list[float]:
    """The mean of `key` over the rows of each run that has it."""
    means = []
    for rows in runs:
        values = [row[key] for row in rows if key in row]
        if values:
            means.append(float(np.mean(values)))
    return means


def dgs_section(summary: Mapping[str, Any], figure: str | None) -> list[str]:
    """Lines of the page."""
    lines = ["## Dynamic Group Scaling", ""]
    if not summary:
        return [*lines, "No finished run filters candidates.", ""]
    lines += [
        (
            "Means over filtered rollouts, then over runs. *NFE* are evaluations of the backbone for one rollout's "
            "pictures; *saved* is"
        ),
        (
            "against finishing every candidate, not against drawing only the group. *Reward* is the whole "
            "trajectory's, text and picture."
        ),
        (
            "*Correlation* is between preview score and reward among the kept, so the filter has already narrowed it; "
            "*variance, all* is"
        ),
        (
            "estimated from the kept (`rl/dgs.py`). Correlation by preview step and the gradient's variance: "
            "[dgs.md](dgs.md)."
        ),
        "",
        *([f"![{figure}]({figure})", ""] if figure else []),
        "| arm | runs | rollouts | " + " | ".join(COLUMNS) + " |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]
    for arm, found in summary.items():
        cells = " | ".join(_shown(found.get(key), "nfe" in key) for key in COLUMNS.values())
        lines.append(f"| {arm} | {found['cells']} | {found['rollouts']} | {cells} |")
    return [*lines, ""]


def _shown(value: float | None, whole: bool) -> str:
    """A figure of the table, without decimals where it is a count; a dash where there is none."""
    if value is None:
        return "–"
    if whole:
        return f"{value:.0f}"
    return f"{value:.3f}"


TREE = {
    "NFE": "dgs/nfe",
    "of them previews": "dgs/nfe_previews",
    "trunks": "dgs/nfe_trunks",
    "leaves": "dgs/nfe_leaves",
    "texts drawn": "dgs/texts_drawn",
    "prompts skipped": "dgs/prompts_skipped",
}


def tree_summary(arms: Mapping[str, Mapping[str, CellData]]) -> dict[str, Any]:
    """Per arm that draws few of its texts: cells, drawn rollouts, and where their evaluations went, as means over cells
    of each cell's mean over its rollouts."""
    found: dict[str, Any] = {}
    for arm, group in arms.items():
        runs = []
        for cell in group.values():
            if rows := [row for row in cell["curve"] if TREE["of them previews"] in row]:
                runs.append(rows)
        if arm == START or not runs:
            continue
        found[arm] = {"cells": len(runs), "rollouts": sum(map(len, runs))}
        for key in TREE.values():
            found[arm][key] = float(np.mean(run_means(runs, key)))
    return found


def tree_section(summary: Mapping[str, Any]) -> list[str]:
    """Lines of the page; none without an arm that draws few of its texts."""
    if not summary:
        return []
    lines = [
        "### Where evaluations went, second version",
        "",
        "Means over drawn rollouts, then over runs. A preview is one evaluation of a distinct drawing prompt; trunks",
        "and leaves are explained in [dgs.md](dgs.md).",
        "",
        "| arm | runs | rollouts | " + " | ".join(TREE) + " |",
        "|---" * (3 + len(TREE)) + "|",
    ]
    for arm, found in summary.items():
        cells = " | ".join(f"{found[key]:.1f}" for key in TREE.values())
        lines.append(f"| {arm} | {found['cells']} | {found['rollouts']} | {cells} |")
    return [*lines, ""]


def dgs_figure(cells: Sequence[CellData]) -> Figure | None:
    """Acceptance and threshold, evaluations, preview–final correlation and reward variance over drawn steps; None when
    nothing is filtered.

    Args:
        cells: of one arm. Bold is the mean over them, faint each of them.
    """
    runs = [rows for cell in cells if (rows := filtered(cell))]
    if not runs:
        return None
    figure = Figure(figsize=(10, 6), layout="constrained")
    (control, cost), (foresight, spread) = figure.subplots(2, 2)
    for axes, title in (
        (control, "what the filter lets through"),
        (cost, "evaluations per drawn rollout (NFE)"),
        (foresight, "does the preview score foretell the reward (text + picture)?"),
        (spread, "variance of that reward inside groups"),
    ):
        style(axes)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        step_axis(axes)
    _lines(control, runs, "dgs/acceptance_rate", "acceptance", GREEN)
    _lines(control, runs, "dgs/threshold", "threshold τ", ORANGE)
    steps, spent = mean_series(runs, "dgs/nfe")
    saved = mean_series(runs, SAVED)[1]
    cost.stackplot(
        steps, spent, saved, colors=(BLUE, GREEN), alpha=0.75, labels=("spent", "saved against finishing all")
    )
    foresight.set_ylabel("Pearson's r among the kept", color=QUIET, fontsize=9)
    _lines(foresight, runs, "dgs/preview_corr", "", BLUE)
    foresight.axhline(0, color=QUIET, linewidth=1)
    _lines(spread, runs, "dgs/reward_var_kept", "kept", BLUE)
    _lines(spread, runs, "dgs/reward_var_all", "all candidates (estimate)", ORANGE)
    for axes in (control, cost, spread):
        axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
        if axes.get_legend_handles_labels()[0]:  # filtering by spread has neither a threshold nor an acceptance
            axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    figure.suptitle(
        f"mean of {len(runs)} run{'s' if len(runs) > 1 else ''}, smoothed over about 5 rollouts",
        fontsize=9,
        color=QUIET,
    )
    return figure


def mean_series(runs: Sequence[Sequence[Mapping[str, float]]], key: str) -> tuple[list[float], list[float]]:
    """Steps at which any run has `key`, and the mean there over the runs that have it."""
    at: dict[float, list[float]] = {}
    for rows in runs:
        for row in rows:
            if key in row:
                at.setdefault(row["step"], []).append(row[key])
    steps = sorted(at)
    return steps, [float(np.mean(at[step])) for step in steps]


def _lines(axes: Axes, runs: Sequence[Sequence[Mapping[str, float]]], key: str, label: str, color: str) -> None:
    for rows in runs:
        have = [(row["step"], row[key]) for row in rows if key in row]
        if have:
            axes.plot(*zip(*have, strict=True), color=color, alpha=0.15, linewidth=0.8)
    steps, values = mean_series(runs, key)
    if steps:
        axes.plot(steps, smooth(values), color=color, linewidth=2, label=label, marker="o" if len(steps) == 1 else None)
