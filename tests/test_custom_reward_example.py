"""The example of docs/rewards.md trains, by the path a user would write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from examples.custom_reward import brevity, sharpness
from sync_r1.config import load_config
from sync_r1.rl.rewards import build_rewards
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.scorer_factory import build_scorers
from sync_r1.training.prompts import training_prompts
from tests.rl.toys import SMALL, concept, log_of, model_with_concept, weights

EXAMPLE = [
    "rl.custom_rewards.sharp.function=examples.custom_reward.sharpness",
    "rl.custom_rewards.brief.function=examples.custom_reward.brevity",
    "rl.custom_rewards.brief.part=text",
    "rl.reward_weights={sharp: 1.0, brief: 0.5}",
]


def test_sharpness_and_brevity_by_hand() -> None:
    flat = torch.full((1, 3, 5, 5), 200, dtype=torch.uint8)
    dot = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    dot[..., 2, 2] = 255  # edges −4 in the middle and 1 at its four neighbours: 8 over 9 places
    assert sharpness(images=torch.cat([flat, dot])) == [0.0, pytest.approx((8 / 9) / (8 / 9 + 0.25))]
    assert brevity(completions=["red", "a b c d e f g h i j k l m", "", "one two"]) == [
        1.0,
        0.0,
        None,
        pytest.approx(10 / 11),
    ]


def test_two_steps_with_the_example(tmp_path: Path) -> None:
    """No network of ours is loaded, so the guards on the world's scorers have nothing to say about this tiny model."""
    config = load_config(None, [*SMALL, *EXAMPLE, f"run.output_dir={tmp_path}", "model.path=tiny"])
    scorers = build_scorers(config)
    assert scorers.models == [] and scorers.preview is None
    model = model_with_concept()
    before = weights(model)
    rewards = build_rewards(scorers.weights, scorers.library, scorers.fallback)
    trainer = SyncGRPOTrainer(
        model, config, training_prompts(concept(tmp_path), model.concepts[0]), rewards, scorers.preview
    )
    trainer.train()
    rows = log_of(trainer)
    assert len(rows) == 2 and all(0 < row["rewards/sharp/mean"] < 1 and "rewards/brief/missing" in row for row in rows)
    assert any(not torch.equal(before[name], value) for name, value in weights(model).items())
