"""The progress bar of a training run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
