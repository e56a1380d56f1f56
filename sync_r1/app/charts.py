"""Curves as SVG with their description in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, EDGE = 640, 220, 36
COLOURS = ("#0d9488", "#d97706", "#7c3aed", "#dc2626")
Points = Sequence[tuple[float, float]]


def chart(series: Mapping[str, Points], title: str) -> str:
    """A line for every name. Nothing where there is no point yet."""
    known = {name: points for name, points in series.items() if points}
    if not known:
        return ""
    values = [value for points in known.values() for _, value in points]
    steps = [step for points in known.values() for step, _ in points]
    low, high = min(0.0, *values), max(1.0, *values)
    first, last = min(steps), max(max(steps), min(steps) + 1)
    lines, names = [], []
    for (name, points), colour in zip(known.items(), COLOURS, strict=False):
        path = " ".join(
            f"{EDGE + (step - first) / (last - first) * (WIDTH - 2 * EDGE):.1f},"
            f"{HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2 * EDGE):.1f}"
            for step, value in points
        )
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        names.append(f'<li class="chip"><span style="color:{colour}" aria-hidden="true">●</span> {escape(name)}</li>')
    said = "; ".join(f"{name} from {points[0][1]:.2f} to {points[-1][1]:.2f}" for name, points in known.items())
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(said)}">'
        f"{_axes(low, high, first, last)}{''.join(lines)}</svg><ul class='chips'>{''.join(names)}</ul>"
    )


def _axes(low: float, high: float, first: float, last: float) -> str:
    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE)
        drawn.append(f'<line x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{y}" y2="{y}" stroke="currentColor" opacity=".25"/>')
        drawn.append(
            f'<text x="4" y="{y + 4}" font-size="12" fill="currentColor">{low + share * (high - low):.1f}</text>'
        )
    bottom = HEIGHT - 12
    drawn.append(f'<text x="{EDGE}" y="{bottom}" font-size="12" fill="currentColor">step {first:.0f}</text>')
    drawn.append(
        f'<text x="{WIDTH - EDGE}" y="{bottom}" font-size="12" fill="currentColor" text-anchor="end">{last:.0f}</text>'
    )
    return "".join(drawn)
