"""One resumable training loop for every network of the embedded world."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sync_r1.console import open_console
from sync_r1.progress import WorkProgress

Loss = Callable[[np.random.Generator, int], tuple[Tensor, dict[str, float]]]  # of a batch's generator and the step


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast one network trains.

    Batch n depends on (seed, n) alone, so a resumed run sees the same data.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    final_fraction: float = 0.05  # of the learning rate, at the end of the cosine
    average: float = 0.0  # decay of the exponential moving average that is returned; 0 is off
    seed: int = 0
    save_every: int = 200

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then cosine."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (
            self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + float(np.cos(np.pi * done)))
        )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; vectors (norms, biases) do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def run_stage(name: str, model: nn.Module, loss: Loss, schedule: Schedule, folder: Path) -> dict[str, float]:
    """Train `model` in place and return {steps, minutes, last smoothed metrics}.

    State lives in `folder`, so a stopped run continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file, log_file = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizer = torch.optim.AdamW(
        parameter_groups(model, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.98)
    )
    average = {}
    if schedule.average:
        average = {key: value.clone() for key, value in model.state_dict().items()}
    step, seconds, smooth = 0, 0.0, {}
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=next(model.parameters()).device)
        _check_state(state, model, schedule, state_file)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, seconds, smooth = state["average"], state["step"], state["seconds"], state["metrics"]
    model.train()
    with WorkProgress(open_console(), name, schedule.steps, step) as work:
        while step < schedule.steps:
            started = time.monotonic()
            value, metrics = loss(np.random.default_rng([schedule.seed, step]), step)
            if not torch.isfinite(value):
                raise ValueError(
                    f"{name}: loss is {value.item()} at step {step}; lower the learning rate and delete {state_file} "
                    "to start again"
                )
            _update(model, optimizer, value, schedule, step)
            step += 1
            seconds += time.monotonic() - started
            for key, number in {"loss": value.item(), **metrics}.items():
                if key not in smooth:
                    smooth[key] = number
                else:
                    smooth[key] = 0.98 * smooth[key] + 0.02 * number
            _follow(average, model, schedule.average, step)
            work.update(step, figures=f"loss {smooth['loss']:.3f}")
            if step % 25 == 0:
                figures = {key: round(number, 5) for key, number in smooth.items()}
                with log_file.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"step": step, "seconds": round(seconds, 1), **figures}) + "\n")
            if step % schedule.save_every == 0 or step == schedule.steps:
                _save(
                    state_file,
                    model=model.state_dict(),
                    optimizer=optimizer.state_dict(),
                    average=average,
                    step=step,
                    steps=schedule.steps,
                    seconds=seconds,
                    metrics=smooth,
                )
    if average:
        model.load_state_dict(average)
    model.eval()
    figures = {key: round(number, 4) for key, number in smooth.items()}
    return {"steps": step, "minutes": round(seconds / 60, 1), **figures}


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, value: Tensor, schedule: Schedule, step: int) -> None:
    """One step of the optimizer along the gradient of the loss `value`, at the learning rate of this step."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.max_grad_norm)
    optimizer.step()


def _check_state(state: dict[str, Any], model: nn.Module, schedule: Schedule, file: Path) -> None:
    """Raises ValueError where a state belongs to another network or schedule."""
    shapes = {name: tuple(value.shape) for name, value in state["model"].items()}
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if shapes != own:
        raise ValueError(
            f"{file} holds the training of a network of other sizes; delete it, or train in another folder (--work)"
        )
    if (steps := state.get("steps", schedule.steps)) != schedule.steps:
        raise ValueError(
            f"{file} is from a training of {steps} steps, not {schedule.steps}, and the learning rate follows from "
            "that; use as many, delete it, or train in another folder (--work)"
        )


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    decay = min(decay, step / (step + 10))
    current = model.state_dict()
    for key, value in average.items():
        if value.is_floating_point():
            value.lerp_(current[key], 1 - decay)


def _save(file: Path, **state: object) -> None:
    temporary = file.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, file)
