"""Several runs or checkpoints side by side: the same prompts and seeds, and their scores with intervals."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.files import read_text, write_text
from sync_r1.run_folder import checkpoint_to_use, run_of
from sync_r1.session import Session
from sync_r1.unifybench.compare import compare as compare_results
from sync_r1.unifybench.results import EvalResult

MOST_PROMPTS = 100
AFTER = "after.json"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #bbb; vertical-align: top; }
img { width: 10rem; image-rendering: pixelated; display: block; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if scores %}
<table>
<tr><th>task</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}<th>difference</th></tr>
{% for row in scores %}
<tr><td>{{ row.task }}</td>{% for value in row.scores %}<td>{{ value }}</td>{% endfor %}
<td>{{ row.difference }}</td></tr>
{% endfor %}
</table>
{% endif %}
<table>
{% if not blind %}<tr><th>prompt</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr>{% endif %}
{% for row in rows %}
<tr><td>{{ row.prompt }}<br>seed {{ row.seed }}
{% if blind %}<details><summary>which is which</summary>{{ row.order | join(", ") }}</details>{% endif %}</td>
{% for cell in row.cells %}<td><img src="data:image/png;base64,{{ cell.data }}" alt="{{ cell.alt }}"></td>{% endfor %}
</tr>
{% endfor %}
</table>
</body>
</html>
"""


@dataclass(frozen=True)
class Row:
    """One prompt with one seed, drawn by every run."""

    prompt: str
    seed: int
    images: list[Image.Image]  # in the order of the runs


def open_all(runs: Sequence[Path | str], device: str = "auto") -> dict[str, Session]:
    """Run or checkpoint → its session.

    ValueError for less than two, one named twice, or runs of another model family, size, concept or description.
    """
    names = [str(run) for run in runs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"the runs are {', '.join(names) or 'none'}; name at least two different ones")
    opened = {name: Session.open(checkpoint=name, device=device) for name in names}
    first, *others = names
    for other in others:
        check_alike(first, shared_facts(opened[first]), other, shared_facts(opened[other]))
    return opened


def check_alike(first: str, mine: Mapping[str, Any], other: str, its: Mapping[str, Any]) -> None:
    """ValueError for two runs that differ in what must be the same, with what it is."""
    for what, value in mine.items():
        if value != its[what]:
            raise ValueError(f"{first} and {other} cannot be compared: {what} is {value!r} and {its[what]!r}")


def shared_facts(session: Session) -> dict[str, Any]:
    """What must be the same of two runs."""
    return {
        "the model family": type(session.model).__name__,
        "the size of pictures": session.model.image_size,
        "the concept": session.concept.name,
        "the description": session.concept.info,
        "the private facts": session.concept.facts,
    }


def read_prompts(path: Path | str) -> list[str]:
    """One prompt a line; empty lines count for nothing. ValueError for none or more than 100."""
    prompts = [line.strip() for line in read_text(Path(path)).splitlines() if line.strip()]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise ValueError(f"{path}: {len(prompts)} prompts; write 1 to {MOST_PROMPTS}, one a line")
    return prompts


def grid(sessions: Mapping[str, Session], prompts: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """Every prompt with every seed, drawn by every run."""
    rows = []
    for prompt in prompts:
        for seed in seeds:
            images = [session.draw(prompt, 1, seed)[0] for session in sessions.values()]
            rows.append(Row(prompt, seed, images))
    return rows


def scores(runs: Sequence[Path | str]) -> list[dict[str, Any]]:
    """A row a task with the score of every run's last evaluation; of two runs also the paired difference.

    Empty where a run has no evaluation, or one checkpoint was named, which the evaluation need not be of.
    """
    results = []
    for run in runs:
        path = Path(run) / "eval" / AFTER
        if run_of(checkpoint_to_use(run)) != Path(run) or not path.is_file():
            return []
        results.append(EvalResult.read(path))
    differences: dict[str, Any] = {}
    if len(results) == 2:
        differences = compare_results(*results)["tasks"]
    shared = [task for task in results[0].tasks if all(task in result.tasks for result in results)]
    rows = []
    for task in shared:
        means = [result.tasks[task]["mean"] for result in results]
        shown = ["not scored" if mean is None else f"{mean:.3f}" for mean in means]
        rows.append({"task": task, "scores": shown, "difference": _difference(differences.get(task))})
    return rows


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    low, high = row["ci95"]
    return f"{row['delta']:+.3f} [{low:+.3f}, {high:+.3f}]"


def write_page(
    out: Path | str,
    names: Sequence[str],
    rows: Sequence[Row],
    table: Sequence[Mapping[str, Any]] = (),
    blind: bool = False,
) -> Path:
    """One HTML file with everything inside. `blind`: every row in an order of its own, names only where they are asked
    for, and without scores."""
    from jinja2 import Environment

    orders = [list(range(len(names)))] * len(rows)
    if blind:
        orders = blind_orders(len(rows), len(names))
    shown = []
    for row, order in zip(rows, orders, strict=True):
        alt = row.prompt if blind else ""
        cells = [{"data": _inline(row.images[place]), "alt": alt or f"{names[place]}: {row.prompt}"} for place in order]
        shown.append({"prompt": row.prompt, "seed": row.seed, "cells": cells, "order": [names[one] for one in order]})
    title = "Which picture is better?" if blind else f"{' and '.join(names)}: the same prompts and seeds"
    page = Environment(autoescape=True).from_string(_PAGE)
    text = page.render(title=title, names=names, rows=shown, scores=[] if blind else table, blind=blind)
    return write_text(Path(out), text)


def blind_orders(rows: int, runs: int) -> list[list[int]]:
    """For every row the runs in an order of its own. It follows from the numbers, so a page and its votes agree."""
    shuffle = random.Random(rows)
    orders = []
    for _ in range(rows):
        order = list(range(runs))
        shuffle.shuffle(order)
        orders.append(order)
    return orders


def _inline(image: Image.Image) -> str:
    buffer = io.BytesIO()
    plain = image.copy()
    plain.info = {}  # a recipe inside would name the run
    plain.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
