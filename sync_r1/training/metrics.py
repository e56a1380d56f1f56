"""Writing the metrics of a run, the seconds of its phases and its peak memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.metrics_file import append_metrics, drop_metrics_after

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
