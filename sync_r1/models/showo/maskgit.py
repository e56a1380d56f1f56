"""MaskGIT decoding as pure functions: how many tokens per step, which ones. N image tokens, T steps."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


@cache
def masked_counts(num_tokens: int, timesteps: int) -> tuple[int, ...]:
    """Tokens still masked before each step, and 0 at the end: T+1 numbers from N down.

    Cosine schedule: floor(N·cos(π/2·(t+1)/T)) remain after step t, at least one fewer than before and at least one,
    except after the last step, where all are committed.
    """
    counts = [num_tokens]
    for step in range(timesteps - 1):
        wanted = math.floor(num_tokens * math.cos(math.pi / 2 * (step + 1) / timesteps))
        counts.append(max(1, min(counts[-1] - 1, wanted)))
    return (*counts, 0)


def remask(confidence: Tensor, count: int) -> Tensor:
    """bool like confidence [B, U]: True for exactly the `count` least confident of each row."""
    order = confidence.argsort(dim=-1, stable=True)
    return torch.zeros_like(confidence, dtype=torch.bool).scatter(-1, order[:, :count], True)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform in (0, 1] → standard Gumbel noise, finite."""
    return -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))


def confidence(logps: Tensor, noise: Tensor, choice_temperature: float, step: int, timesteps: int) -> Tensor:
    """log p + choice_temperature·(1 − (t+1)/T)·gumbel: less noise in later steps, none in the last."""
    return logps + choice_temperature * (1 - (step + 1) / timesteps) * noise
