"""The metrics file of a run, the seconds of its phases and its peak memory."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.files import write_text

NOT_METRICS = {
    "epoch",
    "total_flos",
    "train_loss",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
}


class MetricsFile(TrainerCallback):
    """metrics.jsonl: one object per step. A resumed run first drops the lines of steps that it will repeat."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        drop_metrics_after(self.path, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        row = {"step": state.global_step, **{key: value for key, value in logs.items() if key not in NOT_METRICS}}
        append_metrics(self.path, row)


def drop_metrics_after(path: Path, step: int) -> None:
    """Make room for a run that starts, or goes on, at `step`: later lines and those cut short by a crash go."""
    before = ""
    if path.exists():
        before = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line + "\n" for line in before.splitlines() if _step_of(line) <= step)
    if kept != before or not path.exists():
        with or_say_how_to_go_on(path):
            write_text(path, kept)  # whole or not at all: a kill or a full disk must not take the earlier lines


def append_metrics(path: Path, row: dict[str, Any]) -> None:
    """One line, on the disk when this returns; what is no finite number becomes null. OSError says how to go on."""
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
        raise OSError(error.errno, f"{path} was not written ({error}); {kept}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines so far; one cut short by a crash is left out."""
    lines = []
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if math.isfinite(_step_of(line))]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short by a crash


class Phases:
    """Seconds per phase of one step, as perf/{phase}_time_s."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            name = f"perf/{phase}_time_s"
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        """This step's seconds and the peak memory so far; starts the next step."""
        seconds, self.seconds = self.seconds, {}
        return {**seconds, "perf/peak_memory_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """Largest allocation on the GPU so far, or without one the largest resident size of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource  # not on Windows

    # macOS counts bytes, Linux kilobytes
    unit = 1024
    if sys.platform == "darwin":
        unit = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
