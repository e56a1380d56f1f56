"""The progress of a training run: which step, how long the rest takes, what the last step was rewarded with."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.progress import WorkProgress


class ProgressBar(TrainerCallback):
    """Shows the step, the time left and the figures of the last step: rewards, DGS acceptance, evaluations."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.work: WorkProgress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.work = WorkProgress(self.console, "training", state.max_steps, state.global_step)
            self.work.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self.work is not None and logs and "loss" in logs:
            self.work.update(state.global_step, figures=figures(logs))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """End the display, however training ended."""
        if self.work is not None:
            self.work.stop()


def figures(logs: dict[str, Any]) -> str:
    """The figures beside the bar."""
    shown = {"reward": "reward", "text/reward": "und", "image/reward": "gen", "dgs/acceptance_rate": "accept"}
    parts = [f"{label} {logs[name]:.3f}" for name, label in shown.items() if isinstance(logs.get(name), float)]
    if "dgs/nfe" in logs:
        parts.append(f"NFE {logs['dgs/nfe']:.0f}")
    return "  ".join(parts)
