"""How long what is left of a study will take, from what its finished cells took and from the dry run of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sync_r1.config import Config
from sync_r1.costs.estimate import estimate
from sync_r1.costs.model_sizes import read_sizes
from sync_r1.costs.throughput import Throughput
from sync_r1.study.estimates import CellData
from sync_r1.study.study_file import Study

# only the ratio counts: what is decoded token by token takes three times as long per FLOP as the rest
THROUGHPUT = Throughput(wide=3.0, narrow=1.0, device="")
JOINED_S = 60.0  # two models are opened, and evaluated once
# Measured on one core of two, both busy, with the shipped weights (docs/study.md):
LOOKALIKES_S = 60.0  # per run: before and after, in words and by drawing
TEST_PROMPTS_S = 14.0  # per measurement of 24 test prompts with four drawings each


@dataclass(frozen=True)
class ArmPlan:
    """What one arm still takes."""

    arm: str
    cells: int  # left
    minutes: float  # per cell, on one thread
    known_from: str  # "its cells" or the arm whose time was scaled


def plan(study: Study, left: Mapping[str, int], cells: Sequence[CellData]) -> list[ArmPlan]:
    """Arms with cells left, in the order of the study.

    Args:
        left: arm → number of cells that are not finished. cells: all that are known, also of other options.
    Raises:
        ValueError: no cell of an arm that trains by reinforcement is known to scale from.
    """
    seconds: dict[str, list[float]] = {}
    for cell in cells:
        seconds.setdefault(cell["arm"], []).append(cell["wall_time_s"])
    found = []
    for arm, count in left.items():
        if count:
            taken, known_from = _seconds(study, arm, seconds)
            found.append(ArmPlan(arm, count, taken / 60, known_from))
    return found


def _seconds(study: Study, arm: str, seconds: Mapping[str, Sequence[float]]) -> tuple[float, str]:
    """Seconds of one cell of `arm` on one thread, and which cells they are known from.

    Args:
        seconds: arm → seconds of each of its finished cells.
    """
    if arm in seconds:
        return float(np.mean(seconds[arm])), "its cells"
    if study.arms[arm].joined:
        return JOINED_S, "an evaluation"
    command = study.arms[arm].command
    alike = [name for name, other in study.arms.items() if name in seconds and other.command == command]
    alike = [name for name in alike if not study.arms[name].joined]
    if not alike:
        raise ValueError(f"no cell of study {study.name!r} with command {command!r} is known; finish one first")
    own, reference = _config(study, arm), _config(study, alike[0])
    if command == "sft":
        share = (own.sft.epochs or 1) / (reference.sft.epochs or 1)
    else:
        share = _work(own) / _work(reference)
    return share * float(np.mean(seconds[alike[0]])) + _extras(own), f"{alike[0]}, scaled"


def _config(study: Study, arm: str) -> Config:
    return study.config(arm, *study.cells[0], Path("runs"))


def _work(config: Config) -> float:
    """How much computing a whole run takes, in a unit that only serves to compare runs with each other."""
    return estimate(config, read_sizes(config.model), THROUGHPUT).seconds["run"]


def _extras(config: Config) -> float:
    """Seconds that a run takes on top: to draw look-alikes of other things, and to measure the test prompts."""
    extra = LOOKALIKES_S * config.eval.lookalikes
    if config.rl.test_prompts:
        extra += TEST_PROMPTS_S * (config.rl.max_steps // config.rl.validation_steps)
    return extra
