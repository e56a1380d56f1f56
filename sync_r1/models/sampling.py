"""The one sampling distribution: used to draw tokens and, unchanged, to replay their log-probabilities.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sync_r1.types import Sampling

TEXT_STREAM, IMAGE_STREAM = 1, 2  # so that one seed gives a text and an image unrelated noise


def mix(*parts: int) -> int:
    """A seed in [0, 2^32) in which every bit of every part counts: torch's CPU generator reads no more bits than these.

    SplitMix64's finaliser (Steele, Lea, Flood 2014), folded over the parts.
    """
    state = 0
    for part in parts:
        state = (state ^ int(part)) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 32


def random_cells(count: int, share: float, seeds: Sequence[int]) -> Tensor:
    """[B, count] bool: a random share of the cells, at least one, equally many in every row; row b follows seeds[b]."""
    cells = torch.zeros(len(seeds), count, dtype=torch.bool)
    for row, seed in enumerate(seeds):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed)))
        cells[row, order[: max(1, round(share * count))]] = True
    return cells


def uniforms(seeds: Sequence[int], stream: int, step: int, count: int) -> Tensor:
    """[B, count] fp32 in (0, 1]. Row b is a function of (seeds[b], stream, step) only, and is drawn on the CPU: equal
    on every device."""
    rows = []
    for seed in seeds:
        rows.append(1 - torch.rand(count, generator=torch.Generator().manual_seed(mix(seed, stream, step))))
    return torch.stack(rows)


def _keep_top(logits: Tensor, top_k: int) -> Tensor:
    """bool like logits: True for the k likeliest. Ties with the k-th are all kept."""
    return logits >= logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]


def log_distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [..., V] → fp32 log-probabilities after temperature and top-k; -inf outside the k."""
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is None:
        return scaled.log_softmax(-1)
    return scaled.masked_fill(~_keep_top(scaled, sampling.top_k), -torch.inf).log_softmax(-1)


def draw(logps: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: one uniform [...] in (0, 1] per distribution [..., V] → token [...] long."""
    # in fp32, rounding at each of V additions would let the other rows of the batch change a row's token
    cdf = logps.exp().cumsum(-1, dtype=torch.float64)
    tokens = torch.searchsorted(cdf, uniform[..., None] * cdf[..., -1:])[..., 0].clamp(max=logps.shape[-1] - 1)
    # a parallel scan may round the CDF out of order by one bit, which could name a token of probability 0
    possible = logps.gather(-1, tokens[..., None])[..., 0] > -torch.inf
    return torch.where(possible, tokens, logps.argmax(-1))


def chosen_logps(logits: Tensor, tokens: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Log-probability of `tokens` [...] under logits [..., V], and the entropy; both fp32 [...], differentiable.

    A drawn token stays possible even if an update pushed it out of the k likeliest; its log-probability is then finite
    and low.
    """
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is not None:
        keep = _keep_top(scaled, sampling.top_k).scatter(-1, tokens[..., None], True)
        scaled = scaled.masked_fill(~keep, -torch.inf)
    logps = scaled.log_softmax(-1)
    finite = logps.masked_fill(logps == -torch.inf, 0.0)
    return logps.gather(-1, tokens[..., None])[..., 0], -(logps.exp() * finite).sum(-1)


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on logits: (1 + w)·cond − w·uncond."""
    return (1 + scale) * conditional - scale * unconditional
