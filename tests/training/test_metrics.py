"""Metrics file, progress figures, phases and the parquet of trajectories."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from sync_r1.training.metrics import MetricsFile, Phases
from sync_r1.training.progress import ProgressBar, figures


def state(step: int, main: bool = True) -> Any:
    return SimpleNamespace(is_world_process_zero=main, global_step=step, max_steps=4)


def test_metrics_of_repeated_steps_are_dropped_and_nan_is_null(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    file: Any = MetricsFile(path)
    file.on_train_begin(None, state(0), None)
    for step in (1, 2, 3):
        file.on_log(None, state(step), None, logs={"loss": 0.5, "reward": math.nan, "epoch": 1.0})
    file.on_log(None, state(3), None, logs={"train_runtime": 3.0})
    with path.open("a") as out:
        out.write('{"step": 4, "lo')  # cut short
    file.on_train_begin(None, state(2), None)
    file.on_log(None, state(9, main=False), None, logs={"loss": 0.5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": step, "loss": 0.5, "reward": None} for step in (1, 2)
    ]


def test_the_bar_shows_reward_parts_acceptance_and_evaluations() -> None:
    logs = {
        "reward": 0.5,
        "text/reward": 0.25,
        "image/reward": 0.75,
        "dgs/acceptance_rate": 0.4,
        "dgs/nfe": 196.0,
        "loss": 1.0,
    }
    assert figures(logs) == "reward 0.500  und 0.250  gen 0.750  accept 0.400  NFE 196"
    assert figures({}) == ""
    out = io.StringIO()
    bar: Any = ProgressBar(Console(file=out, force_terminal=True, width=200))
    bar.on_train_begin(None, state(1), None)
    bar.on_log(None, state(2), None, logs=logs)
    bar.on_train_end(None, state(4), None)
    bar.stop()
    assert "2/4" in out.getvalue() and "reward 0.500" in out.getvalue()


def test_phases_add_up_within_a_step_and_start_again() -> None:
    phases = Phases()
    for _ in range(2):
        with phases.time("loss"):
            pass
    first = phases.metrics()
    assert set(first) == {"perf/loss_time_s", "perf/peak_memory_mb"} and first["perf/peak_memory_mb"] > 10
    assert set(phases.metrics()) == {"perf/peak_memory_mb"}
