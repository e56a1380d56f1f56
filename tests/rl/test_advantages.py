"""Hand-computed advantages."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from sync_r1.rl.advantages import EPSILON, advantages, centre, group_std, pool_same

NAN = math.nan


def test_centre_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]])
    assert_close(centre(values), torch.tensor([[-1.0, 0.0, 1.0], [-2.0, -2.0, 4.0]]))
    std = torch.tensor([1.0, math.sqrt(12)])
    assert_close(group_std(values), std)
    assert_close(centre(values, "group"), centre(values) / (std + EPSILON).unsqueeze(1))
    assert_close(centre(values, "batch"), centre(values) / (math.sqrt(26 / 4) + EPSILON))
    assert_close(
        centre(values + torch.tensor([[0.0], [50.0]]), "batch"), centre(values, "batch")
    )  # another kind of prompt


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
    assert_close(
        advantages(text, image, torch.zeros(1, 3, dtype=torch.long)).text, text - 2 / 3
    )  # one prompt for all: noise alone
    assert_close(pool_same(torch.tensor([[NAN, 0.6, 0.1]]), same), torch.tensor([[0.6, 0.6, 0.1]]))
    assert_close(advantages(text, image, same, credit="shared").text, advantages(text, image, credit="shared").text)
