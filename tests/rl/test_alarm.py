"""The reward-hacking alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.rl.alarm import diverged, split_validation
from sync_r1.rl.rollout import tasks_of
from tests.rl.toys import concept


def test_it_rings_when_reward_and_evaluator_part() -> None:
    up, down, flat = [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], [0.6, 0.6, 0.6, 0.5, 0.5, 0.5], [0.5] * 6
    assert diverged(up, down)
    assert not diverged(up, up) and not diverged(down, down) and not diverged(up, flat) and not diverged(flat, down)
    assert not diverged(up[:5], down[:5])  # too early to say
    assert not diverged([0.1, 0.1, 0.1, 0.11, 0.11, 0.11], down)  # within the noise


def test_validation_prompts_are_not_trained_on(tmp_path: Path) -> None:
    tasks = tasks_of(concept(tmp_path))
    training, held = split_validation(tasks, 1)
    assert [task.prompt for task in held] == ["<bo> with its mug"]
    assert [task for task in tasks if task not in held] == training and len(training) == len(tasks) - 1
    assert split_validation(tasks, 0) == (tasks, [])
    with pytest.raises(ValueError, match="hold out fewer"):
        split_validation(tasks, 2)
