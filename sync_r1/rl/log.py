"""What a run leaves to read: metrics.jsonl, trajectories with pictures, a progress bar."""

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
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.files import write_text
from sync_r1.rl.advantage import Advantages
from sync_r1.rl.rewards import Breakdown
from sync_r1.rl.rollout import Candidate, Rollout

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
    before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if math.isfinite(_step_of(line))]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line cut short by a crash


class ProgressBar(TrainerCallback):
    """One line: reward, its two parts, DGS acceptance, evaluations per step, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.progress: Progress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, TextColumn("{task.fields[figures]}"), console=self.console)
        self.progress.start()
        self.task = self.progress.add_task("training", total=state.max_steps, completed=state.global_step, figures="")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self.progress is not None and logs:
            self.progress.update(self.task, completed=state.global_step, figures=figures(logs))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """End the display, however training ended."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def figures(logs: dict[str, Any]) -> str:
    """The figures beside the bar."""
    shown = {"reward": "reward", "text/reward": "und", "image/reward": "gen", "dgs/acceptance_rate": "accept"}
    parts = [f"{label} {logs[name]:.3f}" for name, label in shown.items() if isinstance(logs.get(name), float)]
    if "dgs/nfe" in logs:
        parts.append(f"NFE {logs['dgs/nfe']:.0f}")
    return "  ".join(parts)


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

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def save_trajectories(
    folder: Path, step: int, rollout: Rollout, rewards: Breakdown, advantages: Advantages, *, max_images: int
) -> Path:
    """Write step_*.parquet (a row per candidate, dropped ones too) and the pictures it names, which lie in images/
    beside it.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for candidate in rollout.candidates:
        row = _row(step, candidate, rollout, rewards, advantages)
        stem = f"step_{step:05d}_prompt_{candidate.group}_candidate_{candidate.number:02d}"
        if candidate.row is not None and rollout.images is not None:
            row["image"] = _picture(
                images, f"{stem}.png", rollout.images[candidate.row * rollout.images_per_text], len(rows) < max_images
            )
        if candidate.preview is not None:
            row["preview"] = _picture(images, f"{stem}_preview.png", candidate.preview, len(rows) < max_images)
        rows.append(row)
    path = folder / f"step_{step:05d}.parquet"
    partial = path.with_suffix(".partial")
    parquet.write_table(arrow.Table.from_pylist(rows), partial)
    partial.replace(path)
    return path


def _row(
    step: int, candidate: Candidate, rollout: Rollout, rewards: Breakdown, advantages: Advantages
) -> dict[str, Any]:
    task = rollout.tasks[candidate.group]
    row: dict[str, Any] = {
        "step": step,
        "prompt_index": candidate.group,
        "candidate": candidate.number,
        "concept": task.concept.name,
        "kind": task.kind,
        "prompt": task.prompt,
        "answer": task.answer,
        "completion": candidate.text,
        "kept": candidate.row is not None,
        "preview_score": _number(candidate.score),
        "reward": None,
        "text_reward": None,
        "image_reward": None,
        "text_advantage": None,
        "image_advantage": None,
        "drawing_prompt": None,
        "image": None,
        "preview": None,
        **{f"rewards/{name}": None for name in rewards.scores},
    }
    if candidate.row is None:
        return row
    group, sibling = divmod(candidate.row, rollout.group_size)
    text, image = rewards.text[group, sibling], rewards.image[group, sibling].nanmean()
    return row | {
        "drawing_prompt": rollout.drawing_prompts[candidate.row],
        "reward": _number(text + image),
        "text_reward": _number(text),
        "image_reward": _number(image),
        "text_advantage": _number(advantages.text[group, sibling]),
        "image_advantage": _number(advantages.image[group, sibling].mean()),
        **{f"rewards/{name}": _number(values[group, sibling].nanmean()) for name, values in rewards.scores.items()},
    }


def _number(value: float | Tensor) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _picture(folder: Path, name: str, pixels: Tensor, wanted: bool) -> str | None:
    """Save uint8 [3, H, W]; the name, or None when the step's pictures are used up."""
    if not wanted:
        return None
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(folder / name)
    return name
