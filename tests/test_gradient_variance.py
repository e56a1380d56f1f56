"""The benchmark of the gradient's variance measures what it says."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import benchmark

variance = benchmark("gradient_variance")


def test_sketches_keep_inner_products() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5000, generator=generator)
    second += first
    sketches = [variance.CountSketch(5000, 512, seed) for seed in range(60)]
    found = torch.tensor([float(sketch(first) @ sketch(second)) for sketch in sketches])
    assert found.mean() == pytest.approx(float(first @ second), rel=0.02)


def test_the_trace_is_the_covariance_s_by_hand() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    weights = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    estimates = weights @ gradients
    expected = float(torch.cov(estimates.T).trace())
    assert variance.trace_of_covariance(weights, gradients @ gradients.T) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("late", [0, 2])
def test_replayed_steps_weigh_one_on_average(late: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.stack([variance.replay_weights(8, late, generator) for _ in range(3000)])
    torch.testing.assert_close(weights.mean(0), torch.ones(8), atol=0.1, rtol=0)
    assert (weights > 0).sum(1).eq(4).all() and (weights[:, 8 - late :] == 1).all()


def test_previews_that_foretell_the_reward_remove_the_noise_and_blind_ones_change_nothing() -> None:
    """Ten trajectories of two steps, whose last step's preview knows the reward."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(10, generator=generator)
    blind = torch.full((10, 8), 0.5)
    knowing = blind.clone()
    knowing[:, 4:] = rewards[:, None]
    pools = [
        {"rewards": rewards, "previews": previews, "body": torch.randn(10, 8, 16, generator=generator)}
        for previews in (blind, knowing)
    ]
    ratio = [variance.ratios([pool], "body", 300, 2) for pool in pools]
    plain, own = "group mean, all steps", "own previews, all steps"
    assert ratio[0][own]["ratio"] == pytest.approx(ratio[0][plain]["ratio"])
    assert ratio[1][own]["ratio"] < 0.65 * ratio[1][plain]["ratio"]
    assert ratio[0][variance.BASE]["ratio"] == 1.0
