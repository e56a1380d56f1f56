"""UnifyBench++ on the embedded world for five models: base, TP and IP, and SFT and Sync-R1 where a study has trained
them.

The first three run on every concept. SFT and Sync-R1 take a training per concept: they run on the concepts for which
both arms of the study are finished, and all five are compared on these alone. What is done already is not done again.
Run it alone on the machine: it notes the time each model took.

Run: python benchmarks/unifybench_models.py --study runs/study/claims --out docs/benchmark_models.json --page
    docs/benchmark.md
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sync_r1.files import write_text
from sync_r1.unifybench.compare import compare_scores, open_scores
from sync_r1.unifybench.prediction_store import read_object
from sync_r1.unifybench.results import COLUMNS
from sync_r1.unifybench.tables import aggregate

UNTRAINED = {"base": "tokens", "TP": "text-prompt", "IP": "image-prompt"}
TRAINED = {"SFT": "sft", "Sync-R1": "joint"}  # name → arm of the study
OVERALL = ("understanding", "generation")
JUDGED = ("dense_gen.gpt", "dense_rea_gen.gpt")  # drawings scored by a network that gave no reward; CLIP gave some
HEADING = "## Numbers of the embedded world"
TIMES = "times.json"

Table = dict[str, dict[str, Any]]  # column → {mean, ci95, n, …}


def finished_cells(study: Path) -> dict[str, dict[str, str]]:
    """Arm → concept → name of its cell, such as bo-0, for the concepts that all trained arms have."""
    found: dict[str, dict[str, str]] = {}
    for arm in TRAINED.values():
        cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((study / arm).glob("*/cell.json"))]
        found[arm] = {}
        for cell in cells:
            found[arm].setdefault(cell["concept"], f"{cell['concept']}-{cell['seed']}")
    both = set.intersection(*(set(cells) for cells in found.values()))
    return {arm: {concept: name for concept, name in cells.items() if concept in both} for arm, cells in found.items()}


def benchmark(folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run `sync-r1 bench run` into a folder unless that is done.

    What all calls took together, null where one was cut off.
    """
    times: list[Any] = (read_object(folder / TIMES) or {"calls": []})["calls"]
    if times and times[-1] is not None and times[-1]["options"] == list(options):
        return _times(times)
    write_text(folder / TIMES, json.dumps({"calls": [*times, None]}) + "\n")
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "sync_r1.cli", "bench", "run", "--out", str(folder), *options]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    call = {
        "options": list(options),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(cpu, 1),
        "load": os.getloadavg()[1],
    }
    write_text(folder / TIMES, json.dumps({"calls": [*times, call]}) + "\n")
    return _times([*times, call])


def _times(calls: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    whole = [call for call in calls if call is not None]
    cut = len(whole) < len(calls)
    sums = {name: None if cut else round(sum(call[name] for call in whole), 1) for name in ("wall_s", "cpu_s")}
    return {**sums, "load_at_end": whole[-1]["load"]}


def tabulate(folders: dict[str, Path], concepts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The 15 columns per model, and paired differences of overall scores and columns, over the same concepts."""
    scores = {
        label: {task: {c: files[c] for c in concepts} for task, files in open_scores(str(f)).items()}
        for label, f in folders.items()
    }
    keep = ("mean", "ci95", "n", "unscored")
    models = {
        label: {name: {key: row[key] for key in keep} for name, row in aggregate(found).items() if name in COLUMNS}
        for label, found in scores.items()
    }
    differences = [{"first": a, "second": b, **compare_scores(scores[a], scores[b])} for a, b in pairs]
    return {"concepts": list(concepts), "models": models, "differences": differences}


def as_page(result: dict[str, Any], command: str) -> str:
    """The section of docs/benchmark.md."""
    runs, whole, trained = result["runs"], result["all"], result["trained"]
    lines = [
        HEADING,
        "",
        "```bash",
        command,
        "```",
        f"wrote this with {result['versions']}; everything is in `benchmark_models.json`.",
        "",
    ]
    lines += [f"**All {len(whole['concepts'])} concepts**, nothing trained.", "", *_columns(whole["models"]), ""]
    lines += _differences(whole["differences"])
    if trained:
        names = ", ".join(trained["concepts"])
        lines += [
            "",
            (
                f"**The {len(trained['concepts'])} concepts with a training of their own** ({names}): all five models "
                "on these alone."
            ),
            "",
        ]
        lines += [*_columns(trained["models"]), "", *_differences(trained["differences"])]
    lines += [
        "",
        "**Time**, loading and scoring included.",
        "",
        "| model | items | wall | CPU |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {label} | {row['items']} | {_minutes(row['wall_s'])} | {_minutes(row['cpu_s'])} |"
        for label, row in runs.items()
    ]
    return "\n".join(lines) + "\n"


def _columns(models: dict[str, Table]) -> list[str]:
    """A row per column of the published table, a column per model."""
    names = [name for name in COLUMNS if any(name in rows for rows in models.values())]
    lines = ["| | n | " + " | ".join(models) + " |", "|---|---:|" + "---:|" * len(models)]
    for name in names:
        n = max(rows[name]["n"] for rows in models.values() if name in rows)
        lines.append(f"| {name} | {n} | " + " | ".join(_value(rows.get(name)) for rows in models.values()) + " |")
    return lines


def _value(row: dict[str, Any] | None) -> str:
    if row is None or row["mean"] is None:
        return "–"
    low, high = row["ci95"]
    return f"{row['mean']:.3f}{'*' if row['unscored'] else ''} [{low:.2f}, {high:.2f}]"


def _differences(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"| paired difference | understanding | generation | {' | '.join(JUDGED)} |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        cells = [*(row.get(name) for name in OVERALL), *(row["columns"].get(name) for name in JUDGED)]
        lines.append(f"| {row['second']} − {row['first']} | " + " | ".join(_change(cell) for cell in cells) + " |")
    return lines


def _change(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    low, high = row["ci95"]
    return f"{row['delta']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


def put_into(page: Path, section: str) -> None:
    """Replace the section of this heading, up to the next heading of the level; ValueError when the page has none."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if not pattern.search(text):
        raise ValueError(f"{page} has no heading {HEADING!r}; add it where the tables belong")
    write_text(page, pattern.sub(lambda _: section + "\n", text).rstrip("\n") + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study", type=Path, default=Path("runs/study/claims"), help="folder of `sync-r1 study` with the trained runs"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/bench-models"), help="where predictions and scores go"
    )
    parser.add_argument("--concept", nargs="+", default=["all"], help="of the untrained models")
    parser.add_argument("--max-items", type=int, help="per task and concept; default: all")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmark_models.json"))
    parser.add_argument("--page", type=Path, help="Markdown file whose section of the same heading is replaced")
    given = parser.parse_args()
    common = ["--batch-size", "64", *(["--max-items", str(given.max_items)] if given.max_items else [])]
    folders, runs = {}, {}
    for label, kind in UNTRAINED.items():
        folders[label] = given.folder / label
        runs[label] = benchmark(
            folders[label], ["--as", kind, *(f"--concept={name}" for name in given.concept), *common]
        )
    concepts = sorted(open_scores(str(folders["base"]))["rec"])
    cells = finished_cells(given.study)
    chosen = [name for name in concepts if name in cells["joint"]]
    result: dict[str, Any] = {
        "runs": runs,
        "all": tabulate(folders, concepts, [("base", "TP"), ("base", "IP")]),
        "trained": None,
    }
    for label, arm in TRAINED.items() if chosen else []:
        pattern = given.study / arm / "{concept}-*"
        folders[label] = given.folder / label
        runs[label] = benchmark(
            folders[label], ["--run", str(pattern), *(f"--concept={name}" for name in chosen), *common]
        )
        runs[label]["trained"] = [f"{arm}/{cells[arm][concept]}" for concept in chosen]
    if chosen:
        pairs = [(other, label) for label in TRAINED for other in UNTRAINED] + [("SFT", "Sync-R1")]
        result["trained"] = tabulate(folders, chosen, pairs)
    for label, row in runs.items():
        row["items"] = _items(open_scores(str(folders[label])))
    result["versions"] = f"sync-r1 {version('sync-r1')}, PyTorch {version('torch')}, {os.cpu_count()} cores, one thread"
    write_text(given.out, json.dumps(result, indent=1) + "\n")
    command = (
        f"python benchmarks/unifybench_models.py --study {given.study} --out {given.out} \\\n"
        f"        --page {given.page}"
    )
    page = as_page(result, command)
    if given.page:
        put_into(given.page, page)
    print(page)


def _items(scores: dict[str, dict[str, dict[str, Any]]]) -> int:
    return sum(content["progress"]["total"] for files in scores.values() for content in files.values())


if __name__ == "__main__":
    main()
