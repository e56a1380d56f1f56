"""The clipped policy loss of one part of a trajectory, as a pure function of log-probabilities.

Each part is normalised on its own, so 64–1024 image tokens do not drown 20 text tokens. The normalisation lives in
per-token weights that are fixed before the batch is cut into pieces: the losses of the pieces add up to the loss of the
whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

LossType = Literal["grpo", "bnpo", "dr_grpo"]
Level = Literal["token", "sequence"]


def token_weights(mask: Tensor, loss_type: LossType, max_length: int, tokens: float | None = None) -> Tensor:
    """Weight of every token in the loss; `sum(weights · per-token loss)` is the loss.

    Args:
        mask: [B, L] bool, tokens that count. All B rows of the step, not a piece of them.
        loss_type: "grpo" (mean over a row's tokens, then over rows), "bnpo" (mean over all tokens) or "dr_grpo"
            (sum over tokens / (B · max_length): long rows are not discounted).
        max_length: the constant length of "dr_grpo".
        tokens: what "bnpo" divides by, by default the tokens of `mask`. Where gradients are averaged over processes,
            the mean of their counts: a process with few tokens must not weigh them more.
    Returns:
        [B, L] fp32, 0 outside the mask.
    """
    weights = mask.float()
    rows = max(mask.shape[0], 1)
    if loss_type == "grpo":
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=1) / rows
    if loss_type == "bnpo":
        return weights / max(float(weights.sum()) if tokens is None else tokens, 1.0)
    return weights / (rows * max_length)


def sequence_log_ratio(log_ratio: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
    """Mean log-ratio of each token's segment, given back at every token of it (GSPO, arXiv 2507.18071, eq. 7).

    Args:
        log_ratio: [B, L]; mask: [B, L] bool.
        segments: [B, L] long in [0, S); None makes every row one segment. For images a segment is the set of tokens
            committed at one step: that set is the action, and pieces of an image can then be replayed one step at a
            time.
    """
    if segments is None:
        segments = torch.zeros_like(mask, dtype=torch.long)
    size = 1
    if segments.numel():
        size = int(segments.max()) + 1
    zeros = log_ratio.new_zeros(log_ratio.shape[0], size)
    total = zeros.scatter_add(1, segments, log_ratio * mask)
    count = zeros.scatter_add(1, segments, mask.to(log_ratio.dtype))
    return (total / count.clamp(min=1)).gather(1, segments) * mask


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(policy ‖ reference): r − 1 − log r with r = reference/policy.

    Never negative, unbiased.
    """
    difference = ref_logps - logps
    return difference.exp() - difference - 1


def policy_loss(
    logps: Tensor,
    old_logps: Tensor,
    weights: Tensor,
    advantages: Tensor,
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    level: Level = "token",
    segments: Tensor | None = None,
    beta: float = 0.0,
    ref_logps: Tensor | None = None,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate (PPO, arXiv 1707.06347, eq. 7) + β·KL − c·entropy, summed with `weights`.

    Args:
        logps: [B, L] fp32, differentiable. old_logps: [B, L] from the rollout. weights: [B, L] from `token_weights`.
        advantages: [B], or [B, L] where tokens of a row are credited apart.
        ref_logps: [B, L] of the frozen start, needed when beta > 0. entropy: [B, L], differentiable.
        segments: see `sequence_log_ratio`.
    Returns: The loss (scalar) and means over the counted tokens: ratio_mean, abs_dlogp,
        clip_ratio/{low,high,region}_mean, kl, entropy, and `tokens`, the number they are means of.
    Raises:
        ValueError: beta > 0 without ref_logps.
    """
    if beta > 0 and ref_logps is None:
        raise ValueError(f"beta is {beta} but there are no reference log-probabilities; pass ref_logps or set beta=0")
    mask = weights > 0
    log_ratio = torch.where(mask, logps - old_logps, 0.0)
    if level == "sequence":
        ratio = sequence_log_ratio(log_ratio, mask, segments).exp()
    else:
        ratio = log_ratio.exp()
    low, high = 1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high)
    scale = (advantages if advantages.dim() == 2 else advantages.unsqueeze(1)).to(ratio.dtype)
    per_token = -torch.minimum(ratio * scale, ratio.clamp(low, high) * scale)
    extra: dict[str, Tensor] = {}
    if ref_logps is not None:
        extra["kl"] = torch.where(mask, kl_k3(logps, ref_logps), 0.0)
        per_token = per_token + beta * extra["kl"]
    if entropy is not None:
        extra["entropy"] = entropy
        if entropy_coef > 0:  # without a bonus the entropy's graph stays out of the backward pass
            per_token = per_token - entropy_coef * entropy
    loss = (torch.where(mask, per_token, 0.0) * weights).sum()
    with torch.no_grad():
        too_low, too_high = (ratio < low) & (scale < 0), (ratio > high) & (scale > 0)
        watched = {
            "ratio_mean": ratio,
            "abs_dlogp": log_ratio.abs(),
            "clip_ratio/low_mean": too_low.float(),
            "clip_ratio/high_mean": too_high.float(),
            "clip_ratio/region_mean": (too_low | too_high).float(),
            **extra,
        }
        return loss, _token_means(watched, mask)


def _token_means(values: dict[str, Tensor], mask: Tensor) -> dict[str, float]:
    """Means over the tokens that `mask` [B, L] counts, and their number as `tokens`."""
    tokens = mask.sum().clamp(min=1)
    means = torch.stack([(torch.where(mask, value, 0.0).sum() / tokens).float() for value in values.values()]).tolist()
    return {**dict(zip(values, means)), "tokens": float(mask.sum())}


def merge_metrics(pieces: Sequence[dict[str, float]]) -> dict[str, float]:
    """Token-weighted means over the pieces of one part."""
    tokens = sum(piece["tokens"] for piece in pieces)
    if not tokens:
        return {}
    names = [name for name in pieces[0] if name != "tokens"]
    found: dict[str, float] = {}
    for name in names:
        found[name] = sum(piece[name] * piece["tokens"] for piece in pieces) / tokens
    return found
