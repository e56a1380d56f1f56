"""metrics.jsonl of a run: one JSON object per step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sync_r1.file_errors import reason
from sync_r1.files import write_text
from sync_r1.held_folders import check_held


def drop_metrics_after(path: Path, step: int) -> None:
    """Before a run starts, or goes on, at `step`: remove later lines, and a line that a crash cut short."""
    before = ""
    if path.exists():
        before = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line + "\n" for line in before.splitlines() if _step_of(line) <= step)
    if kept != before or not path.exists():
        with or_say_how_to_go_on(path):
            write_text(path, kept)  # whole or not at all: a kill or a full disk must not take the earlier lines


def append_metrics(path: Path, row: dict[str, Any]) -> None:
    """One line, on the disk when this returns; what is no finite number becomes null. OSError says how to go on."""
    check_held()
    row = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
    with or_say_how_to_go_on(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def or_say_how_to_go_on(path: Path) -> Iterator[None]:
    """A file of the run that cannot be written, as on a full disk, ends it: OSError with the file and what to do."""
    try:
        yield
    except OSError as error:
        kept = "earlier checkpoints are as they were; free some space and go on with --resume latest"
        raise OSError(error.errno, f"{path} was not written ({reason(error)}); {kept}") from error


def read_metrics(path: Path, problems: list[str] | None = None) -> list[dict[str, float]]:
    """One dict per step, numbers only, each with its `step`; empty without that file.

    A run resumed from a checkpoint repeats steps: the last line wins. Lines that are no JSON objects, such as one that
    a crash cut short, are left out; `problems` gets a sentence about them.
    """
    if not path.is_file():
        return []
    rows: dict[int, dict[str, float]] = {}
    broken = 0
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            row = json.loads(line)
            values = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
        except (json.JSONDecodeError, AttributeError):
            broken += bool(line.strip())
            continue
        step = int(values.get("step", number + 1))
        rows[step] = {**rows.get(step, {}), **values, "step": step}
    if broken and problems is not None:
        problems.append(f"{path.name}: {broken} of its lines are not JSON objects and were left out")
    return [rows[step] for step in sorted(rows)]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short by a crash
