"""Curves of a run as self-contained SVG pictures. Reads plain rows of metrics.jsonl."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, QUIET, GRID = "#1d2733", "#6b7885", "#e7ebef"
BLUE, ORANGE, GREEN, RED = "#2563eb", "#ea7317", "#16a34a", "#dc2626"
PARTS = ("#ea7317", "#16a34a", "#9333ea", "#0891b2", "#db2777", "#a16207", "#64748b", "#dc2626")

Metrics = Sequence[dict[str, float]]


def series(metrics: Metrics, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric; steps without it or with a value that is not finite are left out."""
    points = [(row["step"], row[key]) for row in metrics if key in row and math.isfinite(row[key])]
    return [step for step, _ in points], [value for _, value in points]


def smooth(values: Sequence[float], window: float = 5.0) -> list[float]:
    """Exponential moving average over about `window` steps, without the bias towards the first value."""
    keep = 1 - 1 / max(window, 1.0)
    total = weight = 0.0
    result = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        result.append(total / weight)
    return result


def part_names(metrics: Metrics) -> list[str]:
    """Names of the reward's parts: the <name> of rewards/<name>/mean, in order of appearance."""
    keys = dict.fromkeys(key for row in metrics for key in row)
    return [
        key.removeprefix("rewards/").removesuffix("/mean")
        for key in keys
        if key.startswith("rewards/") and key.endswith("/mean")
    ]


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty plot in the report's style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Quiet axes: no box, light horizontal lines."""
    axes.set_facecolor("none")
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def step_axis(axes: Axes) -> None:
    """Label the x axis in whole training steps."""
    axes.set_xlabel("training step", color=QUIET, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def legend(figure: Figure) -> None:
    """Labels above the plot, in as many rows as they need."""
    figure.legend(
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.4,
    )


def draw_line(axes: Axes, metrics: Metrics, key: str, label: str, color: str, width: float = 2.0) -> bool:
    """A smoothed line over its faint raw values; False when there is nothing to draw."""
    steps, values = series(metrics, key)
    if not steps:
        return False
    axes.plot(steps, values, color=color, alpha=0.22, linewidth=1)
    axes.plot(steps, smooth(values), color=color, linewidth=width, label=label, marker="o" if len(steps) == 1 else None)
    return True


def reward_figure(metrics: Metrics) -> Figure | None:
    """Total reward with its spread over the completions of a group."""
    steps, values = series(metrics, "reward")
    if not steps:
        return None
    figure, axes = new_figure(5.8, 2.7)
    spread_of = dict(zip(*series(metrics, "reward_std"), strict=True))
    known = [(step, value, spread_of[step]) for step, value in zip(steps, values, strict=True) if step in spread_of]
    if known:
        at, middle, half = zip(*known, strict=True)
        low = [m - h for m, h in zip(middle, half, strict=True)]
        high = [m + h for m, h in zip(middle, half, strict=True)]
        axes.fill_between(at, low, high, color=BLUE, alpha=0.10, linewidth=0, label="± spread in a group")
    draw_line(axes, metrics, "reward", "reward", BLUE, 2.4)
    step_axis(axes)
    legend(figure)
    return figure


def parts_figure(metrics: Metrics) -> Figure | None:
    """The reward's parts, one line each."""
    names = part_names(metrics)
    if not names:
        return None
    figure, axes = new_figure(5.8, 2.7)
    for number, name in enumerate(names):
        draw_line(axes, metrics, f"rewards/{name}/mean", name.replace("_", " "), PARTS[number % len(PARTS)])
    step_axis(axes)
    legend(figure)
    return figure


def dgs_figure(metrics: Metrics) -> Figure | None:
    """Dynamic Group Scaling: share of previews kept, and the threshold that decides."""
    figure, axes = new_figure(5.8, 2.7)
    drawn = draw_line(axes, metrics, "dgs/acceptance_rate", "previews kept (share)", GREEN)
    drawn |= draw_line(axes, metrics, "dgs/threshold", "threshold on the preview score", ORANGE)
    if not drawn:
        return None
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), max(1.02, axes.get_ylim()[1]))
    step_axis(axes)
    legend(figure)
    return figure


def tree_figure(metrics: Metrics) -> Figure | None:
    """The second version of Dynamic Group Scaling: where its evaluations went."""
    parts = {"nfe_previews": "promises", "nfe_trunks": "trunks", "nfe_leaves": "leaves"}
    figure, axes = new_figure(5.8, 2.7)
    drawn = False
    for (name, title), colour in zip(parts.items(), PARTS, strict=False):
        drawn |= draw_line(axes, metrics, f"dgs/{name}", title, colour)
    if not drawn:
        return None
    axes.set_ylim(bottom=0)
    step_axis(axes)
    legend(figure)
    return figure


def preview_figure(scores: Sequence[float], rewards: Sequence[float]) -> Figure | None:
    """Does a preview foretell the final reward? One dot per finished candidate."""
    if len(scores) < 3:
        return None
    figure, axes = new_figure(5.8, 2.7)
    axes.scatter(scores, rewards, s=14, color=BLUE, alpha=0.45, linewidths=0)
    axes.set_xlabel("preview score (before the image is finished)", color=QUIET, fontsize=9)
    axes.set_ylabel("final reward", color=QUIET, fontsize=9)
    return figure


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r, or None when it is undefined (fewer than 3 pairs, or a constant side)."""
    count = len(first)
    if count < 3:
        return None
    mean_first, mean_second = sum(first) / count, sum(second) / count
    covariance = sum((a - mean_first) * (b - mean_second) for a, b in zip(first, second, strict=True))
    scale = math.sqrt(sum((a - mean_first) ** 2 for a in first) * sum((b - mean_second) ** 2 for b in second))
    if scale > 0:
        return covariance / scale
    return None


def svg_uri(figure: Figure | None) -> str | None:
    """A figure as a data URI for <img>; None stays None. Same input, same bytes: no dates, fixed ids."""
    if figure is None:
        return None
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "sync-r1", "font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
