"""Schedule, selection and the sampling distribution."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_r1.models.sampling import IMAGE_STREAM, TEXT_STREAM, chosen_logps, draw, guide, log_distribution, uniforms
from sync_r1.models.showo.maskgit import confidence, gumbel, masked_counts, remask
from sync_r1.types import Sampling


def test_counts_by_hand() -> None:
    # N·cos(π/2·(t+1)/4) for N = 16: 14.78, 11.31, 6.12, 0
    assert masked_counts(16, 4) == (16, 14, 11, 6, 0)
    assert masked_counts(16, 1) == (16, 0)


@given(st.integers(1, 1024), st.integers(1, 64))
@settings(deadline=None, max_examples=60)
def test_counts_fall_to_zero_only_at_the_end(size: int, total: int) -> None:
    counts = masked_counts(size, total)
    assert len(counts) == total + 1
    assert counts[0] == size and counts[-1] == 0
    assert all(later <= earlier for earlier, later in pairwise(counts))
    assert all(count >= 1 for count in counts[:-1])


def test_remask_takes_exactly_the_least_confident_even_with_ties() -> None:
    values = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5]])
    chosen = remask(values, 2)
    assert chosen[0].tolist() == [False, True, False, True]
    assert chosen.sum(1).tolist() == [2, 2]
    assert remask(values, 0).sum() == 0


def test_confidence_noise_fades() -> None:
    noise = torch.ones(1)
    assert confidence(torch.zeros(1), noise, 2.0, 0, 4).item() == pytest.approx(1.5)
    assert confidence(torch.zeros(1), noise, 2.0, 3, 4).item() == 0
    assert gumbel(torch.tensor([1e-30, 0.5, 1.0])).isfinite().all()


def test_guidance() -> None:
    assert guide(torch.tensor(2.0), torch.tensor(1.0), 5.0).item() == 7.0


def test_uniforms_depend_on_seed_stream_and_step_only() -> None:
    both = uniforms([3, 4], IMAGE_STREAM, 1, 20)
    assert torch.equal(both[1:], uniforms([4], IMAGE_STREAM, 1, 20))
    others = [uniforms([3], IMAGE_STREAM, 2, 20), uniforms([3], TEXT_STREAM, 1, 20), uniforms([5], IMAGE_STREAM, 1, 20)]
    assert not any(torch.equal(both[:1], other) for other in others)
    assert both.min() > 0 and both.max() <= 1


def test_top_k_and_temperature_by_hand() -> None:
    logps = log_distribution(torch.tensor([2.0, 0.0, 1.0, -1.0]), Sampling(temperature=0.5, top_k=2))
    keep = math.exp(4) + math.exp(2)
    assert logps.exp().tolist() == pytest.approx([math.exp(4) / keep, 0, math.exp(2) / keep, 0])


def test_draw_is_the_inverse_cdf_and_never_names_an_impossible_token() -> None:
    logps = torch.tensor([-torch.inf, math.log(0.25), math.log(0.75), -torch.inf])
    points = torch.tensor([1e-9, 0.2, 0.26, 1.0])
    assert draw(logps.expand(4, -1), points).tolist() == [1, 1, 2, 2]


def test_draw_follows_the_distribution() -> None:
    logps = torch.tensor([0.1, 0.2, 0.7]).log()
    tokens = draw(logps.expand(4000, -1), uniforms([0], 9, 0, 4000)[0])
    assert (torch.bincount(tokens, minlength=3) / 4000 - logps.exp()).abs().max() < 0.03


def test_replay_uses_the_drawing_distribution() -> None:
    torch.manual_seed(0)
    logits, sampling = torch.randn(50, 30) * 3, Sampling(temperature=1.3, top_k=5)
    distribution = log_distribution(logits, sampling)
    tokens = draw(distribution, torch.rand(50).clamp(min=1e-6))
    logps, entropy = chosen_logps(logits, tokens, sampling)
    torch.testing.assert_close(logps, distribution.gather(1, tokens[:, None])[:, 0])
    probs = distribution.exp()
    torch.testing.assert_close(entropy, -(probs * distribution.clamp(min=-1e9)).sum(1))


def test_a_token_that_left_the_top_k_keeps_a_finite_log_probability_and_gradient() -> None:
    logits = torch.tensor([[5.0, 4.0, -3.0]], requires_grad=True)
    logps, entropy = chosen_logps(logits, torch.tensor([2]), Sampling(top_k=2))
    (logps.sum() + entropy.sum()).backward()
    assert logps.item() < -7
    assert logits.grad is not None and logits.grad.isfinite().all()
