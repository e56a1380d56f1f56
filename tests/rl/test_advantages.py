"""Hand-computed advantages."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from sync_r1.rl.advantages import EPSILON, advantages, centre, group_std, pool_same, step_advantages

NAN = math.nan


def test_centre_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]])
    assert_close(centre(values), torch.tensor([[-1.0, 0.0, 1.0], [-2.0, -2.0, 4.0]]))
    std = torch.tensor([1.0, math.sqrt(12)])
    assert_close(group_std(values), std)
    assert_close(centre(values, "group"), centre(values) / (std + EPSILON).unsqueeze(1))
    assert_close(centre(values, "batch"), centre(values) / (math.sqrt(26 / 4) + EPSILON))
    # another kind of prompt
    assert_close(centre(values + torch.tensor([[0.0], [50.0]]), "batch"), centre(values, "batch"))


def test_unscored_trajectories_are_left_out() -> None:
    values = torch.tensor([[1.0, NAN, 3.0], [NAN, 5.0, NAN], [NAN, NAN, NAN]])
    expected = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for scale in ("none", "group", "batch"):
        found = centre(values, scale)
        assert_close(found.sign(), expected)
        assert found.isfinite().all()
    assert_close(centre(values), expected)


def test_identical_rewards_give_exactly_zero() -> None:
    values = torch.full((2, 5), 0.3)
    for scale in ("none", "group", "batch"):
        assert centre(values, scale).abs().max() < 1e-6


def test_shared_credit_by_hand() -> None:
    text = torch.tensor([[0.0, 1.0]])
    image = torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])
    found = advantages(text, image, credit="shared")
    assert_close(found.text, torch.tensor([[-0.5, 0.5]]))  # totals 1 and 2
    assert_close(found.image, torch.tensor([[[-1.5, 0.5], [0.5, 0.5]]]))  # totals 0, 2, 2, 2 with mean 1.5


def test_routed_credit_by_hand() -> None:
    text = torch.tensor([[0.0, 1.0]])
    tree = torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])
    found = advantages(text, tree, credit="routed")
    assert_close(found.text, torch.tensor([[-0.5, 0.5]]))  # a text is credited with its images' mean too
    assert_close(found.image, torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]))  # images of the same text are compared
    single = advantages(text, tree[:, :, :1], credit="routed")
    assert_close(single.text, torch.tensor([[-1.0, 1.0]]))
    assert_close(single.image, torch.tensor([[[-0.5], [0.5]]]))  # the text's reward is none of the image's business


def test_routed_equals_shared_when_no_text_is_judged() -> None:
    image = torch.rand(3, 4, 1, generator=torch.Generator().manual_seed(0))
    for scale in ("none", "group", "batch"):
        shared = advantages(torch.zeros(3, 4), image, credit="shared", scale_rewards=scale)
        routed = advantages(torch.zeros(3, 4), image, credit="routed", scale_rewards=scale)
        assert_close(shared.text, routed.text)
        assert_close(shared.image, routed.image)


def test_an_unscored_image_does_not_silence_its_text() -> None:
    found = advantages(torch.tensor([[0.0, 1.0]]), torch.tensor([[[1.0, NAN], [NAN, 3.0]]]), credit="shared")
    assert_close(found.text, torch.tensor([[-1.5, 1.5]]))
    assert_close(found.image, torch.tensor([[[-1.5, 0.0], [0.0, 1.5]]]))


def test_metrics() -> None:
    text = torch.tensor([[0.0, 1.0], [0.5, 0.5], [NAN, NAN]])
    found = advantages(text, torch.ones(3, 2, 1)).metrics
    assert found["reward"] == pytest.approx(1.5)
    assert found["reward_std"] == pytest.approx(math.sqrt(0.5) / 3)
    assert found["frac_reward_zero_std"] == pytest.approx(2 / 3)
    assert found["frac_unscored"] == pytest.approx(1 / 3)


def test_shapes_must_belong_together() -> None:
    with pytest.raises(ValueError, match="must be \\[P, G, M\\]"):
        advantages(torch.zeros(2, 3), torch.zeros(2, 4, 1))


def test_twins_share_what_their_pictures_earned() -> None:
    """Three siblings, two of which wrote the same: by hand."""
    text, image = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[[0.2], [0.6], [0.1]]])
    same = torch.tensor([[0, 0, 2]])
    assert_close(pool_same(image[..., 0], same), torch.tensor([[0.4, 0.4, 0.1]]))
    found = advantages(text, image, same)
    assert_close(found.text, torch.tensor([[1.4, 1.4, 0.1]]) - 2.9 / 3)
    assert_close(found.image, (image[..., 0] - 0.3).unsqueeze(2))  # the pictures themselves still differ
    # one prompt for all: noise alone
    assert_close(advantages(text, image, torch.zeros(1, 3, dtype=torch.long)).text, text - 2 / 3)
    assert_close(pool_same(torch.tensor([[NAN, 0.6, 0.1]]), same), torch.tensor([[0.6, 0.6, 0.1]]))
    assert_close(advantages(text, image, same, credit="shared").text, advantages(text, image, credit="shared").text)


def test_step_advantages_by_hand() -> None:
    rewards = torch.tensor([[[1.0], [0.0], [0.5]]])
    previews = torch.tensor([[[0.8], [0.2], [0.5]]])
    found = step_advantages(rewards, previews, torch.tensor([0.5]))
    surprise = [0.2, -0.2, 0.0]  # each minus the mean of the other two, over the scale
    expected = [(value - (sum(surprise) - value) / 2) / 0.5 for value in surprise]
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    same = step_advantages(rewards, torch.full_like(rewards, 0.3), torch.ones(1))
    torch.testing.assert_close(same, centre(rewards[..., 0]).unsqueeze(2) * 3 / 2)
    blind = torch.tensor([[[0.8], [torch.nan], [0.2]]])
    assert step_advantages(rewards, blind, torch.ones(1)).flatten().tolist() == pytest.approx(
        [0.3, -0.75, 0.45], abs=1e-6
    )
    unscored = torch.tensor([[[1.0], [torch.nan], [0.0]]])
    assert step_advantages(unscored, previews, torch.ones(1)).flatten().tolist() == pytest.approx(
        [0.7, 0.0, -0.7], abs=1e-6
    )


def test_the_preview_baseline_is_unbiased_and_lowers_the_variance() -> None:
    """Two binary decisions, two siblings, every group enumerated.

    The mean of the estimated gradient over all groups is the true one, with and without the baseline.
    """
    logits = torch.tensor([0.3, -0.4, 0.8], dtype=torch.float64)  # of the first, and of the second after 0 or 1
    reward = torch.tensor([[0.0, 0.2], [0.9, 1.0]], dtype=torch.float64)
    ends = [(first, second) for first in range(2) for second in range(2)]
    chances, scores = [], []
    for first, second in ends:
        grades = torch.zeros(2, 3, dtype=torch.float64)  # ∂ log π of each step
        grades[0, 0] = first - logits[0].sigmoid()
        grades[1, 1 + first] = second - logits[1 + first].sigmoid()
        one, two = logits[0].sigmoid(), logits[1 + first].sigmoid()
        chances.append((one if first else 1 - one) * (two if second else 1 - two))
        scores.append(grades)
    true = sum(p * reward[end] * g.sum(0) for p, end, g in zip(chances, ends, scores))
    promised = [torch.tensor([0.5, reward[first].mean()]) for first, _ in ends]  # V before each step
    moments = {}
    for kind in ("group", "previews"):
        mean, square = torch.zeros(3, dtype=torch.float64), 0.0
        for i, j in itertools.product(range(4), repeat=2):
            found = torch.stack([reward[ends[i]], reward[ends[j]]]).reshape(1, 2, 1)
            gradient = torch.zeros(3, dtype=torch.float64)
            for step in range(2):
                before = torch.stack([promised[i][step], promised[j][step]]).reshape(1, 2, 1).double()
                before = torch.zeros_like(before) if kind == "group" else before
                told = step_advantages(found, before, torch.ones(1, dtype=torch.float64))[0, :, 0]
                gradient += (told[0] * scores[i][step] + told[1] * scores[j][step]) / 2
            mean += chances[i] * chances[j] * gradient
            square += float(chances[i] * chances[j] * gradient.square().sum())
        torch.testing.assert_close(mean, true)
        moments[kind] = square
    assert moments["previews"] < 0.75 * moments["group"]


def test_several_images_per_text_are_compared_with_each_other() -> None:
    rewards = torch.tensor([[[1.0, 0.0], [0.4, 0.6]]])
    previews = torch.tensor([[[0.9, 0.3], [0.1, 0.2]]])
    found = step_advantages(rewards, previews, torch.ones(1))
    assert found.flatten().tolist() == pytest.approx([0.4, -0.4, -0.1, 0.1])
