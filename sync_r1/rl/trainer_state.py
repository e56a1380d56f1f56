"""The state of a run besides weights, optimizer and schedule: counters, DGS, and what the step at hand works with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.config import Config
from sync_r1.files import read_json
from sync_r1.rl.advantages import Advantages
from sync_r1.rl.rollout import Rollout

STATE_FILE = "sync_state.json"


@dataclass
class SyncState:
    """What a resumed run needs besides weights, optimizer and schedule.

    Sampling seeds derive from (seed, step), so no generator state.
    """

    seed: int
    step: int = 0
    skipped_steps: int = 0  # in all
    skipped_in_a_row: int = 0
    nfe: int = 0  # backbone evaluations spent on images so far
    scaling: dict[str, Any] = field(default_factory=dict)

    def count_update(self, skipped: bool) -> None:
        """Count an update that changed the model or was skipped."""
        if skipped:
            self.skipped_steps += 1
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0

    def save(self, folder: Path) -> None:
        (folder / STATE_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> SyncState:
        """Raises ValueError when the file is not there or is of another version."""
        try:
            state = SyncState(**read_json(folder / STATE_FILE))
            counts = (state.seed, state.step, state.skipped_steps, state.skipped_in_a_row, state.nfe)
            if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(state.scaling, dict):
                raise ValueError(f"{STATE_FILE} holds a value of another kind than a count")
            return state
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{folder} is no checkpoint of this trainer ({error}); resume from a folder like checkpoints/step_00020"
            ) from error

    def check(self, folder: Path, config: Config, scaling: dict[str, Any]) -> None:
        """Whether a run of `config`, with this state of its DGS, can go on from here. Raises ValueError."""
        seed, updates = config.run.seed, config.rl.num_iterations
        if self.seed != seed:
            raise ValueError(f"run.seed is {seed}; {folder} was trained with {self.seed}; set run.seed={self.seed}")
        if self.step % updates:
            limit = f"{folder} is in the middle of a rollout of rl.num_iterations={updates} updates"
            raise ValueError(f"{limit}; set rl.num_iterations as in its config.yaml")
        if self.scaling.keys() != scaling.keys():
            raise ValueError(
                f"{folder} was trained with another rl.dgs_enabled or rl.dgs_keep; set them as in its config.yaml"
            )


@dataclass(frozen=True)
class Experience:
    """One rollout with its advantages; used for `num_iterations` updates."""

    rollout: Rollout
    advantages: Advantages


@dataclass(frozen=True)
class BeforeStep:
    """What a step changes before it updates weights, as it was when the step began."""

    counters: SyncState
    scaling: dict[str, Any]
    generators: dict[str, Any]
