"""The reward-hacking monitor."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_r1.rl.dgs import NoScaling
from sync_r1.rl.hacking_monitor import RewardHackingMonitor, diverged, split_validation
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.rollout import Sampler
from sync_r1.training.prompts import training_prompts
from sync_r1.types import Sampling
from tests.rl.toys import bright, concept, model_with_concept


def test_it_rings_when_reward_and_evaluator_part() -> None:
    up, down, flat = [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], [0.6, 0.6, 0.6, 0.5, 0.5, 0.5], [0.5] * 6
    assert diverged(up, down)
    assert not diverged(up, up) and not diverged(down, down) and not diverged(up, flat) and not diverged(flat, down)
    assert not diverged(up[:3], down[:3])  # too early to say
    assert not diverged([0.1, 0.1, 0.1, 0.11, 0.11, 0.11], down)  # within the noise


class Measured(RewardHackingMonitor):
    """With prepared measurements."""

    def __init__(self, path: Path, values: list[tuple[float, float]]) -> None:
        self.said: list[str] = []
        self.noted: dict[str, float] = {}
        self.values = list(values)
        watching = {"every": 2, "seed": 0, "metrics": path, "note": self.noted.update, "warn": self.said.append}
        super().__init__(None, [], None, [], **watching)  # type: ignore[arg-type]

    def draw(self) -> Any:
        return None

    def measure(self, rollout: Any) -> tuple[float, float]:
        return self.values.pop(0)

    def steps(self, first: int, last: int) -> None:
        arguments = SimpleNamespace()
        self.on_train_begin(arguments, self.state(first - 1), SimpleNamespace())  # type: ignore[arg-type]
        for step in range(first, last + 1):
            self.on_step_end(arguments, self.state(step), SimpleNamespace())  # type: ignore[arg-type]

    @staticmethod
    def state(step: int) -> SimpleNamespace:
        return SimpleNamespace(global_step=step, max_steps=100, is_world_process_zero=True)


def test_it_warns_once_and_survives_an_outage_and_a_resume(tmp_path: Path) -> None:
    nan = math.nan
    values = [(0.1, 0.6), (nan, nan), (0.1, 0.6), (0.1, 0.6), (0.3, 0.5), (0.3, 0.5)]
    monitor = Measured(tmp_path / "metrics.jsonl", values)
    monitor.steps(1, 12)
    assert len(monitor.said) == 1 and "step 10" in monitor.said[0] and monitor.noted["val/diverged"] == 1.0

    rows = [
        {"step": 2 * i + 2, "val/reward": r if r == r else None, "val/evaluator": e if e == e else None}
        for i, (r, e) in enumerate(values)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 14, "val')
    resumed = Measured(tmp_path / "metrics.jsonl", [(0.3, 0.5)])
    resumed.steps(13, 14)
    assert len(resumed.history) == len(monitor.history) + 1 and resumed.said == []  # it was said before


def test_it_measures_without_touching_the_run(tmp_path: Path) -> None:
    """Rewards and an evaluator on the toy model: the same figures every time, and the policy's text stays as it was."""
    model, noted = model_with_concept(), {}
    sampler = Sampler(
        model=model,
        sampling=Sampling(max_completion_length=4, generation_timesteps=2),
        scaling=NoScaling(),
        group_size=2,
    )
    prompts = training_prompts(concept(tmp_path))[:1]
    rewards = RewardEnsemble([Reward("bright", bright, "image", 2.0)])
    model.train()
    monitor = RewardHackingMonitor(
        sampler,
        prompts,
        rewards,
        [bright],
        every=1,
        seed=0,
        metrics=tmp_path / "none.jsonl",
        note=noted.update,
        warn=lambda text: None,
    )
    first, second = monitor.measure(monitor.draw()), monitor.measure(monitor.draw())
    assert first == second and first[0] == pytest.approx(first[1], abs=1e-6) and model.training
    unscored = RewardHackingMonitor(
        sampler, prompts, RewardEnsemble([]), [lambda images, **_: [None] * len(images)],
        every=1, seed=0, metrics=tmp_path / "none.jsonl", note=noted.update, warn=lambda text: None,
    )  # fmt: skip
    assert all(math.isnan(value) for value in unscored.measure(unscored.draw()))


def test_validation_prompts_are_not_trained_on(tmp_path: Path) -> None:
    prompts = training_prompts(concept(tmp_path))
    training, held = split_validation(prompts, 1)
    assert [prompt.prompt for prompt in held] == ["<bo> with its mug"]
    assert [prompt for prompt in prompts if prompt not in held] == training and len(training) == len(prompts) - 1
    assert split_validation(prompts, 0) == (prompts, [])
    with pytest.raises(ValueError, match="hold out fewer"):
        split_validation(prompts, 2)
    training, held = split_validation([*prompts, *prompts], 1)  # the same prompt twice
    assert len(held) == 1 and held[0] not in training
