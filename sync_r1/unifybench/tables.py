"""Score files → the table of 15 columns, per checkpoint: items → concepts → unweighted mean over concepts, with n and
intervals. And the table of two results beside each other."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sync_r1.files import MANIFEST, read_object
from sync_r1.unifybench.bootstrap import macro_interval
from sync_r1.unifybench.prediction_store import PredictionStore, family_of
from sync_r1.unifybench.protocol import Protocol, digest, read_protocol
from sync_r1.unifybench.results import ALL_COLUMNS, ALL_TASKS, COLUMNS, write_result
from sync_r1.unifybench.score_files import sides_of

if TYPE_CHECKING:
    from rich.table import Table

OVERALL = ("understanding", "generation")
ALIASES = {"gpt": "ds-score", "clip_i": "clip-i", "clip_t": "clip-t"}  # published names written beside ours

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip

Strata = list[np.ndarray]  # values of the parts of one concept's items that count equally


def read_scores(out: Path | str, epoch: int | None = None) -> dict[int, dict[str, dict[str, Any]]]:
    """Model epoch → task → concept → score file.

    ValueError when there are none, or when what they scored was predicted anew since.
    """
    out = Path(out)
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for task in ALL_TASKS:
        for path in sorted((out / "scores" / family_of(task) / task).glob("model_epoch_*/*.json")):
            number = int(path.parent.name.removeprefix("model_epoch_"))
            if path.name != "summary.json" and epoch in (None, number) and (content := read_object(path)) is not None:
                _check_current(out, path, content)
                found.setdefault(number, {}).setdefault(task, {})[content["concept"]] = content
    if not found:
        if epoch is None:
            which = ""
        else:
            which = f" of model epoch {epoch}"
        raise ValueError(
            f"{out} holds no scores{which}; write them with `sync-r1 bench run --out {out}` or `bench score`"
        )
    return found


def _check_current(out: Path, path: Path, content: dict[str, Any]) -> None:
    epochs = {name: content.get(name, 0) for name in ("token_epoch", "model_epoch")}
    store = PredictionStore(out=out, concept=content["concept"], **epochs)
    manifest = read_object(store.folder(content["task"]) / MANIFEST)
    if manifest is None:
        return  # being predicted anew, or only scores were kept
    options = read_protocol(content["protocol"]).prediction_options()
    if manifest["model"] != content["model"] or any(
        manifest["protocol"].get(name) != value for name, value in options.items()
    ):
        raise ValueError(
            f"{path} scores predictions that were replaced since; score the new ones with `sync-r1 bench score {out}`"
        )


def results_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Scored items of one file."""
    return list(content.get("items") or content.get("prompt_results") or [])


def values_of(content: dict[str, Any], metric: str, protocol: Protocol) -> Strata:
    """Scored values of one concept: one part, or for rec.weight the two recalls' sides."""
    if metric == "weight":
        sides = [np.array(side) for side in sides_of(results_of(content), protocol).values()]
        empty = []
        if protocol.empty_side == "zero":
            empty = [np.zeros(1)]
        return [part for side in sides for part in ([side] if len(side) else empty)]
    values = [row["metrics"][metric] for row in results_of(content) if row["metrics"].get(metric) is not None]
    if values:
        return [np.array(values)]
    return []


def metric_names(files: Sequence[dict[str, Any]]) -> list[str]:
    """Metrics in a task's summaries, in order."""
    names = [key for content in files for key in content["summary"] if key != "n" and not key.endswith("_n")]
    return list(dict.fromkeys(names))


def aggregate(tasks: dict[str, dict[str, dict[str, Any]]], concepts: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """ "task.metric" → {mean, ci95, n, concepts, unscored, per_concept} for one checkpoint.

    Args:
        concepts: average over these only; default all that were scored. ValueError names those without scores.
    """
    check_one_setting(tasks)
    rows: dict[str, dict[str, Any]] = {}
    for task, files in tasks.items():
        if concepts:
            chosen = {name: files[name] for name in concepts if name in files}
        else:
            chosen = files
        if absent := [name for name in concepts if name not in files]:
            raise ValueError(
                f"task {task} has no scores of {', '.join(absent)}; run these concepts too, or average over fewer"
            )
        for metric in metric_names(list(chosen.values())):
            rows[f"{task}.{metric}"] = _row(chosen, metric)
    order = {name: number for number, name in enumerate(COLUMNS)}
    return dict(sorted(rows.items(), key=lambda row: order.get(row[0], len(order))))


def check_one_setting(tasks: dict[str, dict[str, dict[str, Any]]]) -> None:
    """ValueError when score files of one table were made under different protocols, or of one concept by different
    weights.
    """
    protocols: dict[str, str] = {}
    weights: dict[str, tuple[str, str]] = {}
    for task, files in tasks.items():
        for concept, content in files.items():
            protocol = read_protocol(content["protocol"])
            protocols.setdefault(
                digest([protocol.prediction_options(), protocol.scoring_options()]), f"{task} of {concept}"
            )
            first, found = weights.setdefault(concept, (task, content["model"]["fingerprint"]))
            if found != content["model"]["fingerprint"]:
                raise ValueError(
                    f"{first} and {task} of {concept} are of different weights; run `sync-r1 bench run` for both again"
                )
    if len(protocols) > 1:
        raise ValueError(
            f"{' and '.join(protocols.values())} were scored under different protocols; score all of them with one"
        )


def _row(files: dict[str, dict[str, Any]], metric: str) -> dict[str, Any]:
    means = {name: content["summary"].get(metric) for name, content in files.items()}
    known = {name: value for name, value in means.items() if value is not None}
    values = {name: values_of(files[name], metric, read_protocol(files[name]["protocol"])) for name in known}
    scored = sum(len(results_of(files[name])) for name in files)
    hits = {name: content["summary"].get(f"{metric}_n", content["summary"]["n"]) for name, content in files.items()}
    # these three are parts of the weight and get no interval of their own
    exact = metric not in ("accuracy", "recall", "no_recall")
    return {
        "mean": sum(known.values()) / len(known) if known else None,
        "ci95": macro_interval([values]) if known and exact else None,
        "n": sum(hits.values()),
        "unscored": scored - sum(hits.values()),
        "concepts": len(known),
        "complete": scored == sum(hits.values()),
        "per_concept": means,
    }


def write_summaries(out: Path | str, concepts: Sequence[str] = ()) -> dict[int, dict[str, dict[str, Any]]]:
    """Write scores/<family>/<task>/…/summary.json, all_epochs_summary.json and scores/_aggregates.

    Return epoch → table rows.
    """
    out = Path(out)
    tables: dict[int, dict[str, dict[str, Any]]] = {}
    per_task: dict[str, dict[str, Any]] = {}
    for epoch, tasks in sorted(read_scores(out).items()):
        tables[epoch] = aggregate(tasks, concepts)
        for task, files in tasks.items():
            rows = {name.split(".")[1]: row for name, row in tables[epoch].items() if name.startswith(f"{task}.")}
            summary = {
                "task": task,
                "model_epoch": epoch,
                "concepts": sorted(files),
                "metrics": rows,
                **_published(rows),
            }
            per_task.setdefault(task, {})[str(epoch)] = summary
            write_result(out / "scores" / family_of(task) / task / f"model_epoch_{epoch}" / "summary.json", summary)
        write_result(
            out / "scores" / "_aggregates" / f"model_epoch_{epoch}" / "summary.json",
            {"model_epoch": epoch, "columns": tables[epoch]},
        )
    for task, epochs in per_task.items():
        write_result(out / "scores" / family_of(task) / task / "all_epochs_summary.json", epochs)
    write_result(
        out / "scores" / "_aggregates" / "all_epochs_summary.json", {str(epoch): rows for epoch, rows in tables.items()}
    )
    return tables


def _published(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {ALIASES[name]: row["mean"] for name, row in rows.items() if name in ALIASES}


def comparison_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What `compare` or `compare_scores` found, as cells: name, counts, both scores, difference, 95 % interval.

    The overall scores come first, then the tasks of an evaluation or the columns of a benchmark; the counts are
    concepts, where there are several, and items.
    """
    if "columns" in found:
        parts, first, second, counts = found["columns"], "first", "second", ["concepts", "n"]
    else:
        parts, first, second, counts = found["tasks"], "before", "after", ["n"]
    overall = {name: found[name] for name in OVERALL if name in found}
    rows = []
    for name, row in {**overall, **parts}.items():
        low, high = row["ci95"]
        numbers = [f"{row[first]:.3f}", f"{row[second]:.3f}", f"{row['delta']:+.3f}", f"[{low:+.3f}, {high:+.3f}]"]
        rows.append((name, *(str(row[count]) for count in counts), *numbers))
    return rows


def comparison_table(found: Mapping[str, Any], *headings: str) -> Table:
    """The same for the terminal, the overall scores bold, below `headings` and that of the interval."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(*headings, "95 % interval", box=SIMPLE)
    for row in comparison_rows(found):
        table.add_row(*row, style="bold" if row[0] in OVERALL else "")
    return table


def as_text(tables: dict[str, dict[str, dict[str, Any]]], style: str = "markdown") -> str:
    """Label → table rows, as text. Models are rows, the 15 columns (those that were measured) columns, then those
    of look-alikes and of `unasked` where the protocol asks for them.

    Raises ValueError for a style other than markdown, csv, json and latex.
    """
    if style == "json":
        return json.dumps(tables, indent=1, ensure_ascii=False) + "\n"
    columns = []
    for name in ALL_COLUMNS:
        if any(name in rows for rows in tables.values()):
            columns.append(name)
    if style == "csv":
        return _csv(tables, columns)
    if style not in ("markdown", "latex"):
        raise ValueError(f"table style is {style!r}; allowed are markdown, csv, json and latex")
    cells = [["model", *columns]]
    for label, scores in tables.items():
        cells.append([label, *(_cell(scores.get(name)) for name in columns)])
    if style == "latex":
        lines = []
        for row in cells:
            lines.append(" & ".join(_in_latex(text) for text in row) + r" \\")
        head = r"\begin{tabular}{l" + "r" * len(columns) + "}"
        return "\n".join([head, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"]) + "\n"
    lines = []
    for row in cells:
        lines.append("| " + " | ".join(_in_markdown(text) for text in row) + " |")
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]) + "\n"


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _in_markdown(text: str) -> str:
    """Fit for a cell: on one line, and nothing that ends the cell or starts a tag."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", r"\|").replace("<", r"\<")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["mean"] is None:
        return "–"
    return f"{row['mean']:.3f}" + ("" if row["complete"] else "*")


def _csv(tables: dict[str, dict[str, dict[str, Any]]], columns: Sequence[str]) -> str:
    """One line per model and column, with interval and n."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "family", "column", "mean", "low", "high", "n", "unscored", "concepts", "complete"])
    for label, rows in tables.items():
        for name in [name for name in columns if name in rows]:
            row, family = rows[name], family_of(name.split(".")[0])
            low, high = row["ci95"] or ("", "")
            writer.writerow(
                [
                    label,
                    family,
                    name,
                    row["mean"],
                    low,
                    high,
                    row["n"],
                    row["unscored"],
                    row["concepts"],
                    row["complete"],
                ]
            )
    return buffer.getvalue()
