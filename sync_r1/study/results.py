"""What a study found: results.json, a Markdown page and figures, from finished cells only."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sync_r1.files import read_json, write_bytes, write_text
from sync_r1.report.plots import BLUE, GREEN, INK, PARTS, QUIET, RED, style
from sync_r1.report.run_files import read_run
from sync_r1.rl.hacking_monitor import WINDOW, diverged
from sync_r1.study.claims import judge
from sync_r1.study.curves import measured
from sync_r1.study.dgs_summary import dgs_figure, dgs_section, dgs_summary, tree_section, tree_summary
from sync_r1.study.estimates import OVERALL, CellData, by_arm, item_values, score
from sync_r1.study.markdown import fill_paragraphs
from sync_r1.study.rewrite_examples import examples, rewrites_figure, rewrites_section, rewrites_summary
from sync_r1.study.study_file import START, Claim, Study
from sync_r1.study.variance import read_variance
from sync_r1.unifybench.results import ALL_TASKS

MARKS = {True: "holds", False: "**does not hold**", None: "too few cells yet"}
MISSING = "not measured"


def write_results(
    study: Study, cells: Sequence[CellData], out: Path, command: str, folder: Path, stale: Sequence[CellData] = ()
) -> dict[str, Any]:
    """Write `<out>.json`, `<out>.md`, `<out>_cells.json` (every cell's raw scores) and `<out>_*.png`; returns what the
    JSON holds.

    Args:
        out: path without suffix, for example docs/results.
        folder: of the run folders <arm>/<concept>-<seed>/, for single pictures; without any, what an earlier report
            says of them stays.
        stale: cells that do not count but are kept in `<out>_cells.json`.
    Raises:
        ValueError: nothing is finished, or `<out>.json` holds another study.
    """
    earlier = read_earlier(study, out)
    cells = [cell for cell in cells if cell["arm"] in study.arms]
    if not cells:
        raise ValueError(f"no cell of study {study.name!r} is finished; run it first")
    variance = read_variance(out)
    result = {
        "study": study.name,
        "command": command,
        "ran_with": ran_with(cells),
        "evaluator": cells[0]["judge"],
        "arms": {name: arm_means(group, name) for name, group in by_arm(cells).items()},
        "claims": [judge(claim, cells, variance) for claim in study.claims],
    }
    drew = {cell["arm"] for cell in cells if cell["nfe"]}
    shown = next((name for name in study.arms if name in drew), None)
    chosen = [cell for cell in cells if cell["arm"] == shown]
    runs = [
        read_run(place) for cell in chosen if ((place := run_folder(folder, cell)) / "eval" / "after.json").is_file()
    ]
    if runs or "loop" not in earlier:
        loop = {"arm": shown, **rewrites_summary(runs)}
    else:
        loop = earlier["loop"]
    result |= {"alarm": hacking_summary(by_arm(cells)), "dgs": dgs_summary(by_arm(cells)), "loop": loop}
    if trees := tree_summary(by_arm(cells)):
        result["trees"] = trees
    write_text(out.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    write_text(out.with_name(f"{out.name}_cells.json"), json.dumps([*cells, *stale]) + "\n")
    figures = {
        "claims": claims_figure(result["claims"]),
        "settings": settings_figure(study.claims, by_arm(cells)),
        "curves": curves_figure(by_arm(cells), curve_shown(cells)),
        "dgs": dgs_figure(chosen),
    }
    names = {kind: _save(figure, out.with_name(f"{out.name}_{kind}.png")) for kind, figure in figures.items()}
    sheet = out.with_name(f"{out.name}_loop.png")
    if runs:
        names["loop"] = _save(rewrites_figure(examples(runs)), sheet)
    else:
        names["loop"] = None
        if sheet.is_file() and loop["runs"]:
            names["loop"] = sheet.name
    write_text(out.with_suffix(".md"), fill_paragraphs(page(result, names)))
    return result


def read_earlier(study: Study, out: Path) -> dict[str, Any]:
    """What an earlier report wrote to `<out>.json`; empty without one. ValueError when it is another study's."""
    path = out.with_suffix(".json")
    earlier: dict[str, Any] = {}
    if path.is_file():
        earlier = read_json(path)
    if earlier.get("study", study.name) != study.name:
        raise ValueError(f"{path} holds the study {earlier['study']!r}; give {study.name!r} a place of its own (--out)")
    return earlier


def ran_with(cells: Sequence[CellData]) -> dict[str, str]:
    """Version of PyTorch and device → the arms whose cells they made, with the number of cells."""
    places: dict[str, Counter[str]] = {}
    for cell in cells:
        place = f"torch {cell['versions']['torch']}, {cell.get('device', 'device not recorded')}"
        places.setdefault(place, Counter())[cell["arm"]] += 1
    listed = {}
    for made, arms in places.items():
        listed[made] = ", ".join(f"{arm} ({count})" for arm, count in arms.items())
    return listed


def run_folder(folder: Path, cell: CellData) -> Path:
    return folder / cell["arm"] / f"{cell['concept']}-{cell['seed']}"


def _save(figure: Figure | Image.Image | None, path: Path) -> str | None:
    """Write a figure and return its name; without one, remove what an earlier report left there."""
    if figure is None:
        path.unlink(missing_ok=True)
        return None
    buffer = io.BytesIO()
    if isinstance(figure, Figure):
        figure.savefig(buffer, format="png", dpi=130)
    else:
        figure.save(buffer, "PNG", optimize=True)
    return write_bytes(path, buffer.getvalue()).name


def arm_means(group: Mapping[str, CellData], arm: str) -> dict[str, Any]:
    """Mean over cells of both overall scores and of every task, with the number of cells, steps, image evaluations and
    seconds."""
    phase = "after"
    if arm == START:
        phase = "before"
    means = {}
    for measure in (*OVERALL, *ALL_TASKS):
        values = [score(found) for cell in group.values() if (found := item_values(cell, measure, phase))]
        if values:
            means[measure] = float(np.mean(values))
    spent = {}
    for key in ("steps", "nfe", "wall_time_s"):
        spent[key] = 0.0 if arm == START else float(np.mean([cell[key] for cell in group.values()]))
    return {"cells": len(group), **spent, "scores": means}


def page(result: Mapping[str, Any], figures: Mapping[str, str | None]) -> str:
    """The Markdown page.

    Args:
        figures: file names by kind; None where there is nothing to draw.
    """
    lines = [
        "# Results",
        "",
        f"Study `{result['study']}`, made by `{result['command']}`. Scores are of held-out prompts, pictures judged by",
        (
            f"*{result['evaluator']}*, a network that no reward uses. Intervals are 95 %, from a bootstrap over "
            "(concept, seed) cells"
        ),
        (
            "and over the items inside each, paired between arms. The verdict is computed by the rule beside it. Raw "
            "scores of every"
        ),
        "cell lie beside this page.",
        "",
        f"Where the arms' cells ran: {'; '.join(f'{place}: {arms}' for place, arms in result['ran_with'].items())}.",
        "",
        *[f"![{name}]({name})" for kind in ("claims", "settings", "curves") if (name := figures[kind])],
        "",
        "## Claims",
        "",
        "| claim | goal | measure | against | value | 95 % interval | cells | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in result["claims"]:
        head = f"{claim['statement']} | {claim['goal']} (rule `{claim['rule']}`)"
        for row in claim["measures"]:
            low, high = row["ci95"]
            cells = f"{row['value']:+.3f} | [{low:+.3f}, {high:+.3f}] | {len(row['cells'])}"
            lines.append(f"| {head} | {row['measure']} | {row['against']} | {cells} | {MARKS[row['holds']]} |")
            head = " | "
        for measure, other in claim.get("missing", []):
            lines.append(f"| {head} | {measure} | {other} | | | 0 | {MISSING} |")
            head = " | "
        if not claim["measures"]:
            lines.append(f"| {head} | | | | | 0 | {MISSING} |")
    lines += ["", "## Arms", "", _arms_table(result["arms"]), ""]
    lines += [
        *hacking_section(result["alarm"]),
        *dgs_section(result["dgs"], figures["dgs"]),
        *tree_section(result.get("trees", {})),
        *rewrites_section(result["loop"], figures["loop"]),
    ]
    return "\n".join(lines)


def hacking_summary(arms: Mapping[str, Mapping[str, CellData]]) -> dict[str, dict[str, int]]:
    """Arm → how many runs measured the validation prompts often enough for the reward-hacking monitor, and in how many
    of them it would have warned (`set_off`)."""
    summary = {}
    for name, group in arms.items():
        pairs = []
        for cell in group.values():
            pairs.append(
                [
                    (row["val/reward"], row["val/evaluator"])
                    for row in cell["curve"]
                    if {"val/reward", "val/evaluator"} <= set(row)
                ]
            )
        measured = [list(zip(*found, strict=True)) for found in pairs if len(found) >= 2 * WINDOW]
        set_off = 0
        for rewards, seen in measured:
            set_off += any(diverged(rewards[:end], seen[:end]) for end in range(2 * WINDOW, len(seen) + 1))
        if name != START and measured:
            summary[name] = {"runs": len(measured), "set_off": set_off}
    return summary


def hacking_section(summary: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of the page."""
    lines = ["## Reward-hacking alarm", ""]
    if not summary:
        return [*lines, f"No run looked at its validation prompts {2 * WINDOW} times, which the alarm needs.", ""]
    counted = ", ".join(f"{arm} {found['set_off']} of {found['runs']}" for arm, found in summary.items())
    return [
        *lines,
        (
            "Runs in which the reward on validation prompts rose while the independent evaluator fell "
            f"(`rl/hacking_monitor.py`): {counted}."
        ),
        "",
    ]


def _arms_table(arms: Mapping[str, Any]) -> str:
    scored = {name for arm in arms.values() for name in arm["scores"]}
    measures = [name for name in (*OVERALL, *ALL_TASKS) if name in scored]
    lines = ["| arm | cells | steps | NFE | " + " | ".join(measures) + " |", "|---" * (4 + len(measures)) + "|"]
    for name, arm in arms.items():
        scores = " | ".join(f"{arm['scores'][measure]:.3f}" if measure in arm["scores"] else "" for measure in measures)
        lines.append(f"| {name} | {arm['cells']} | {arm['steps']:.0f} | {arm['nfe']:.0f} | {scores} |")
    return "\n".join(lines)


SCALES = {  # what is drawn on one scale: rules, and the value of "no difference"
    "difference in score": ({"higher", "not-beaten"}, 0),
    "relative gain": ({"gain"}, 0),
    "share": ({"share", "cheaper", "cheaper-than-best", "less-noise"}, 1),
}


def claims_figure(claims: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Every comparison as a point with its 95 % interval, a panel per scale; green where the claim's rule is met, red
    where not, grey with too few cells. None without comparisons."""
    panels = []
    for label, (rules, neutral) in SCALES.items():
        if rows := [(claim, row) for claim in claims if claim["rule"] in rules for row in claim["measures"]]:
            panels.append((label, neutral, rows))
    if not panels:
        return None
    counts = [len(rows) + 1 for _, _, rows in panels]
    figure = Figure(figsize=(9, 0.5 * len(panels) + 0.32 * sum(counts)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axes, (label, neutral, rows) in zip(grid, panels, strict=True):
        style(axes)
        for place, (_, row) in enumerate(reversed(rows)):
            color = {True: GREEN, False: RED, None: QUIET}[row["holds"]]
            axes.plot(row["ci95"], [place, place], color=color, linewidth=2.5, solid_capstyle="round")
            axes.plot([row["value"]], [place], "o", color=color)
        axes.axvline(neutral, color=QUIET, linewidth=1)
        axes.set_yticks(
            range(len(rows)), [f"{claim['id']}: {row['measure']} vs {row['against']}" for claim, row in reversed(rows)]
        )
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel(f"{label}, with 95 % interval", color=INK)
    return figure


def settings_figure(claims: Sequence[Claim], arms: Mapping[str, Mapping[str, CellData]]) -> Figure | None:
    """A panel per `not-beaten` claim: both overall scores of the default, then of the settings that must not beat it,
    on the cells that all of them share. Points are means, thin lines single cells."""
    panels: list[tuple[str, list[str], list[str]]] = []
    for claim in claims:
        compared = [claim.arm, *claim.against]
        shared = sorted(set.intersection(*(set(arms.get(name, {})) for name in compared)))
        if claim.rule == "not-beaten" and shared:
            panels.append((claim.id, compared, shared))
    if not panels:
        return None
    figure = Figure(figsize=(max(4.0 * len(panels), 5.0), 3.6), layout="constrained")
    for axes, (name, compared, shared) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        style(axes)
        for measure, color in zip(OVERALL, (BLUE, GREEN), strict=True):
            rows = []
            for cell in shared:
                rows.append([score(item_values(arms[arm][cell], measure, "after")) for arm in compared])
            table = np.array(rows)
            axes.plot(table.T, color=color, linewidth=0.7, alpha=0.5)
            axes.plot(table.mean(axis=0), "o-", color=color, linewidth=2, label=measure)
        axes.set_xticks(range(len(compared)), [arm.replace("-", "\n") for arm in compared], fontsize=8)
        axes.set_title(f"{name}, {len(shared)} cells", fontsize=9, color=INK)
    figure.axes[0].set_ylabel("score after training", color=INK)
    figure.axes[0].legend(fontsize=8, frameon=False)
    return figure


def curve_shown(cells: Sequence[CellData]) -> str:
    """What the figure of curves shows: the score of test prompts where a run followed it, else of validation."""
    if any(measured(cell, "test/evaluator") for cell in cells):
        return "test/evaluator"
    return "val/evaluator"


def curves_figure(arms: Mapping[str, Mapping[str, CellData]], key: str) -> Figure | None:
    """The independent evaluator along the runs against image evaluations spent, one line per arm (mean over cells)."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    drawn = 0
    for name, group in arms.items():
        curves = []
        for cell in group.values():
            curves.append([(row["nfe_total"], row[key]) for row in cell["curve"] if row.get(key) is not None])
        curves = [curve for curve in curves if len(curve) > 1 and curve[-1][0] > 0]
        if name == START or not curves:
            continue
        length = min(map(len, curves))
        table = np.array([curve[:length] for curve in curves]).mean(axis=0)
        turn, colour = divmod(drawn, 1 + len(PARTS))  # colours start over with another dash
        axes.plot(
            table[:, 0],
            table[:, 1],
            ("-", "--", ":")[turn % 3],
            color=(BLUE, *PARTS)[colour],
            label=name,
            linewidth=1.6,
        )
        drawn += 1
    if not drawn:
        return None
    axes.set_xlabel("image evaluations of the backbone (NFE)", color=INK)
    prompts = {"test/evaluator": "test prompts", "val/evaluator": "validation prompts"}[key]
    axes.set_ylabel(f"independent evaluator, {prompts}", color=INK)
    axes.legend(fontsize=8, frameon=False, ncols=2)
    return figure
