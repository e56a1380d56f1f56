"""Each half alone learns what it is rewarded for, from nothing but rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from sync_r1.rl.rewards import Reward, RewardEnsemble
from tests.rl.toys import bright, log_of, trainer


def letter(*, completions: Sequence[str], **_: Any) -> list[float]:
    """Share of the letter e."""
    return [text.count("e") / max(len(text), 1) for text in completions]


@pytest.mark.parametrize(("half", "reward", "gain"), [("text", letter, 0.05), ("image", bright, 0.004)])
def test_reward_rises(tmp_path: Path, half: Any, reward: Any, gain: float) -> None:
    settings = [
        f"rl.optimise={half}",
        "rl.max_steps=30",
        "run.save_steps=30",
        "rl.learning_rate=1e-2",
        "rl.scale_rewards=group",
    ]
    settings += ["rl.concept_learning_rate=0.1"]  # pictures learn mostly through the soft tokens
    run = trainer(
        tmp_path,
        *settings,
        "rl.num_generations=16",
        "rl.look_fraction=1",
        rewards=RewardEnsemble([Reward("goal", reward, half)]),
    )
    run.train()
    curve = [row["rewards/goal/mean"] for row in log_of(run)]
    assert mean(curve[-5:]) > mean(curve[:5]) + gain, curve
