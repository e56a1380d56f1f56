"""Hand-computed losses and the invariants of GRPO."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from sync_r1.rl.loss import kl_k3, merge_metrics, policy_loss, sequence_log_ratio, token_weights

MASK = torch.tensor([[True, True, False], [True, False, False]])
ADVANTAGES = torch.tensor([1.0, -2.0])


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("grpo", [[1 / 4, 1 / 4, 0], [1 / 2, 0, 0]]),
        ("bnpo", [[1 / 3, 1 / 3, 0], [1 / 3, 0, 0]]),
        ("dr_grpo", [[1 / 20, 1 / 20, 0], [1 / 20, 0, 0]]),
    ],
)
def test_token_weights(loss_type: str, expected: list[list[float]]) -> None:
    assert_close(token_weights(MASK, loss_type, 10), torch.tensor(expected))  # type: ignore[arg-type]


def test_before_any_update_the_ratio_is_one_and_the_gradient_is_reinforce() -> None:
    logps = torch.tensor([[-1.0, -2.0, 0.0], [-0.5, 0.0, 0.0]], requires_grad=True)
    weights = token_weights(MASK, "grpo", 10)
    loss, metrics = policy_loss(logps, logps.detach(), weights, ADVANTAGES)
    assert loss.item() == pytest.approx(-(1 - 2) / 2)
    loss.backward()
    assert_close(logps.grad, -weights * ADVANTAGES.unsqueeze(1))
    assert metrics["ratio_mean"] == 1 and metrics["abs_dlogp"] == 0 and metrics["clip_ratio/region_mean"] == 0
    assert metrics["tokens"] == 3


def test_clipping_by_hand() -> None:
    """Ratios 1.5, 0.5 (advantage 1) and 0.5 (advantage -2): the first is clipped above, the last below."""
    old = torch.zeros(2, 3)
    logps = torch.tensor([[1.5, 0.5, 1.0], [0.5, 1.0, 1.0]]).log().requires_grad_(True)
    loss, metrics = policy_loss(logps, old, token_weights(MASK, "bnpo", 1), ADVANTAGES, epsilon=0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 2 * 0.8) / 3)
    loss.backward()
    assert_close(logps.grad, torch.tensor([[0.0, -0.5 / 3, 0.0], [0.0, 0.0, 0.0]]))
    assert metrics["clip_ratio/high_mean"] == pytest.approx(1 / 3)
    assert metrics["clip_ratio/low_mean"] == pytest.approx(1 / 3)
    assert metrics["ratio_mean"] == pytest.approx(2.5 / 3)


def test_clip_higher_leaves_more_room_above() -> None:
    logps = torch.full((1, 1), math.log(1.4))
    weights, advantage = torch.ones(1, 1), torch.ones(1)
    narrow, _ = policy_loss(logps, torch.zeros(1, 1), weights, advantage, epsilon=0.2)
    wide, _ = policy_loss(logps, torch.zeros(1, 1), weights, advantage, epsilon=0.2, epsilon_high=0.5)
    assert (narrow.item(), wide.item()) == (pytest.approx(-1.2), pytest.approx(-1.4))


def test_sequence_ratio_is_the_geometric_mean() -> None:
    log_ratio = torch.tensor([[0.2, 0.4, 9.0], [0.6, 9.0, 9.0]])
    assert_close(sequence_log_ratio(log_ratio, MASK), torch.tensor([[0.3, 0.3, 0.0], [0.6, 0.0, 0.0]]))
    segments = torch.tensor([[0, 1, 1], [2, 0, 0]])
    assert_close(sequence_log_ratio(log_ratio, MASK, segments), torch.tensor([[0.2, 0.4, 0.0], [0.6, 0.0, 0.0]]))
    loss, _ = policy_loss(
        log_ratio, torch.zeros(2, 3), token_weights(MASK, "grpo", 1), ADVANTAGES, epsilon=0.9, level="sequence"
    )
    assert loss.item() == pytest.approx(-(math.exp(0.3) - 2 * math.exp(0.6)) / 2)


def test_kl_k3() -> None:
    logps, ref = torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.0, 0.0, -3.0])
    assert_close(kl_k3(logps, ref), torch.tensor([0.0, math.e - 2, math.exp(-2) + 1]))
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(2, 6, generator=generator) + 0.1).unbind()
    p, q = p / p.sum(), q / q.sum()
    estimate = (p * kl_k3(p.log(), q.log())).sum()  # the expectation over tokens drawn from the policy
    assert_close(estimate, (p * (p / q).log()).sum())


def test_kl_and_entropy_enter_the_loss_with_their_weights() -> None:
    logps, ref, entropy = torch.full((2, 3), -1.0), torch.full((2, 3), -2.0), torch.full((2, 3), 3.0)
    weights = token_weights(MASK, "grpo", 1)
    loss, metrics = policy_loss(
        logps, logps, weights, torch.zeros(2), beta=0.5, ref_logps=ref, entropy=entropy, entropy_coef=0.1
    )
    kl = math.exp(-1)
    assert loss.item() == pytest.approx(0.5 * kl - 0.1 * 3)
    assert metrics["kl"] == pytest.approx(kl) and metrics["entropy"] == pytest.approx(3)
    with pytest.raises(ValueError, match="pass ref_logps or set beta=0"):
        policy_loss(logps, logps, weights, torch.zeros(2), beta=0.5)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_pieces_add_up_to_the_whole(loss_type: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logps, old = torch.randn(2, 6, 5, generator=generator).unbind()
    mask = torch.rand(6, 5, generator=generator) > 0.3
    advantages = torch.randn(6, generator=generator)
    weights = token_weights(mask, loss_type, 5)  # type: ignore[arg-type]
    whole, metrics = policy_loss(logps, old, weights, advantages)
    pieces = [
        policy_loss(logps[i : i + 2], old[i : i + 2], weights[i : i + 2], advantages[i : i + 2]) for i in range(0, 6, 2)
    ]
    assert_close(sum(loss for loss, _ in pieces), whole)
    merged = merge_metrics([found for _, found in pieces])
    assert merged == pytest.approx({name: value for name, value in metrics.items() if name != "tokens"}, rel=1e-4)


def test_zero_advantage_gives_zero_gradient_and_no_tokens_no_metrics() -> None:
    logps = torch.randn(3, 4, requires_grad=True)
    loss, _ = policy_loss(
        logps, logps.detach(), token_weights(torch.ones(3, 4, dtype=torch.bool), "grpo", 4), torch.zeros(3)
    )
    loss.backward()
    assert logps.grad is not None and not logps.grad.any()
    assert merge_metrics([]) == {}
    empty, metrics = policy_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1))
    assert empty.item() == 0 and metrics["tokens"] == 0
