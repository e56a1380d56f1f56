"""How much processor time the first answer takes: `--help`, `doctor`, `ask` and `draw` beside a bare import.

    OMP_NUM_THREADS=1 python benchmarks/import_time.py --before 424525b --out docs/import_time.json

Every command runs in a process of its own. What counts is its user and system time, which a busy machine disturbs less
than the clock; of several runs, in turns, the smallest. `--before` names a commit to compare with, which is checked out
into a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = "import torch; from transformers import PhiModel"
PACKAGES = ("torch", "transformers", "typer")


def commands(place: str) -> dict[str, list[str]]:
    """Name → arguments of Python. Drawings go below `place`."""
    program = ["-m", "sync_r1.cli"]
    return {
        "--help": [*program, "--help"],
        "doctor": [*program, "doctor"],
        "ask": [*program, "ask", "What colour is <bo>?", "--concept", "bo"],
        "draw": [*program, "draw", "a photo of <bo>", "--concept", "bo", "--out", f"{place}/drawings"],
    }


def processor_seconds(arguments: list[str], source: Path, place: str) -> float:
    """User and system time of one Python process that finds the package in `source`."""
    environment = {**os.environ, "PYTHONPATH": str(source), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(
            f"{' '.join(arguments)} ended with {process.returncode} in {source}; run it by hand to see why"
        )
    return usage.ru_utime + usage.ru_stime


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--force", str(folder), commit], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


def measure(sources: dict[str, Path], runs: int) -> dict[str, dict[str, float]]:
    """Smallest seconds per command for each of the sources, and those of the bare import."""
    seconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        jobs = [(name, command, found) for name in sources for command, found in commands(place).items()]
        jobs.append(("reference", REFERENCE, ["-c", REFERENCE]))
        for run in range(runs + 1):  # the first round writes byte code and fills the disk cache
            for name, command, arguments in jobs:
                used = processor_seconds(arguments, sources.get(name, ROOT), place)
                best = seconds.setdefault(name, {})
                if run:
                    best[command] = round(min(used, best.get(command, used)), 2)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="commit to compare with")
    parser.add_argument("--runs", type=int, default=5, help="of each command; the smallest counts")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    if options.before:
        with checked_out(options.before) as tree:
            seconds = measure({"before": tree, "now": ROOT}, options.runs)
    else:
        seconds = measure({"now": ROOT}, options.runs)
    reference = seconds["reference"][REFERENCE]
    result = {
        "unit": "seconds of processor time, user and system; the smallest of the runs",
        "runs": options.runs,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "packages": {name: version(name) for name in PACKAGES},
        "before_commit": options.before,
        "seconds": seconds,
        "ask_over_reference": round(seconds["now"]["ask"] / reference, 2),
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
