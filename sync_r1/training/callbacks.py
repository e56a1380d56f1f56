"""Callbacks of a run's start, its global random generators, Ctrl-C and SIGTERM."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.config import Config, save_config
from sync_r1.console import say
from sync_r1.distributed import Processes
from sync_r1.run_folder import CHECKPOINTS, Say
from sync_r1.signals import on_signal, resume_command
from sync_r1.training.checkpoint import move_newer_aside

GENERATORS_FILE = "generators.pt"


def generator_states() -> dict[str, Any]:
    """Python's, NumPy's and PyTorch's global generators.

    Training draws from none of them, but a reward or a model's dropout may.
    """
    numpy: Any = np.random.get_state(legacy=False)
    # torch.load reads plain values without running code, but no NumPy array
    plain_numpy = {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].tolist()}}
    state: dict[str, Any] = {"numpy": plain_numpy, "python": random.getstate(), "torch": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_generator_states(state: dict[str, Any]) -> None:
    """Put the global generators into the states that `generator_states` returned.

    The generators of GPUs stay as they are where the states are of another number of GPUs.
    """
    numpy = state["numpy"]
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": np.array(numpy["state"]["key"], dtype=np.uint32)}})
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


class RunStart(TrainerCallback):
    """When training really begins: later checkpoints step aside, and config.yaml says how the run goes on."""

    def __init__(self, config: Config, say: Say) -> None:
        self.config, self.say = config, say

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            move_newer_aside(self.config.run.folder / CHECKPOINTS, state.global_step, self.say)
            save_config(self.config, self.config.run.folder / "config.yaml")


class RestoreRNG(TrainerCallback):
    """Puts the global generators back before the first step of a resumed run: setting up a trainer draws from them."""

    def __init__(self) -> None:
        self.waiting: dict[str, Any] | None = None

    def save(self, folder: Path, states: list[dict[str, Any]]) -> None:
        """One state per process."""
        torch.save(states, folder / GENERATORS_FILE)

    def load(self, folder: Path, process: int) -> None:
        """Take this process's state; a process that was not there then starts as its seed says."""
        if not (folder / GENERATORS_FILE).is_file():
            return  # written before generators were saved
        states = torch.load(folder / GENERATORS_FILE, weights_only=True)
        self.waiting = None
        if process < len(states):
            self.waiting = states[process]
        if self.waiting is not None:  # tried now, so that a misfit is refused here and not in the first step
            now = generator_states()
            try:
                set_generator_states(self.waiting)
            finally:
                set_generator_states(now)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.waiting is not None:
            set_generator_states(self.waiting)
            self.waiting = None


class StopOnSignal(TrainerCallback):
    """The first Ctrl-C or SIGTERM: finish the step, save, stop, say how to go on. A second one stops at once."""

    def __init__(self, config: Config, console: Console | None, processes: Processes | None = None) -> None:
        self.config, self.console = config, console
        self.asked = self.stopped = 0  # the signal's number: of this process, and as all processes agreed on
        self.processes = processes or Processes()
        self.command = resume_command(config.run.folder)

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.asked = self.stopped = 0
        with on_signal(self._ask):
            yield
        if self.asked and not self.stopped:  # it came after the last step: what comes next stops by it
            signal.raise_signal(self.asked)

    def _ask(self, number: int) -> None:
        self.asked = number
        if self.console is None:
            return
        with suppress(RuntimeError, OSError):  # the signal came while the same stream was written to, or it is closed
            say("stopping after this step; press Ctrl-C again to stop at once", "yellow", console=self.console)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.config.rl.num_iterations == 0 and self.agree():
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.agree():
            self.say_how_to_go_on(f"step {state.global_step}")

    def agree(self) -> int:
        """A signal to one process counts for all: it may reach them in different steps, or only one of them."""
        self.stopped = max(self.processes.gather(self.asked))
        return self.stopped

    def say_how_to_go_on(self, where: str) -> None:
        """One line that is never wrapped, so that the command can be copied from a log."""
        if self.console is not None and self.processes.main:
            say(f"stopped at {where}; go on with: {self.command}", console=self.console)
