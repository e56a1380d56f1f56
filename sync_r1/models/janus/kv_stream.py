"""Sequences of embeddings that grow behind a prompt.

D distinct prompts, R rows, P prompt tokens, S more tokens, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from sync_r1.models.janus.network import JanusNetwork
from sync_r1.models.sequences import PrefixCache, causal_mask, seen_mask


def positions(valid: Tensor) -> Tensor:
    """[B, L] long: padding does not count."""
    return (valid.long().cumsum(1) - 1).clamp(min=0)


def behind(valid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mask [R, 1, S, P+S] and positions [R, S] of S tokens that causally follow tokens `valid` [R, P]."""
    own = torch.ones(size, size, dtype=torch.bool, device=valid.device).tril()
    return seen_mask(valid, own), valid.sum(1, keepdim=True) + torch.arange(size, device=valid.device)


class KVStream:
    """For drawing and writing: prompts are read once each, then every row grows. Keeps all keys and values."""

    def __init__(self, model: JanusNetwork, embeds: Tensor, valid: Tensor, index: Tensor) -> None:
        """embeds [D, P, H], valid [D, P] bool, index [R]: row r begins with prompt index[r]."""
        self.model, self.cache = model, DynamicCache()
        hidden = model.hidden(embeds, causal_mask(valid), positions(valid), self.cache)
        self.cache.batch_select_indices(index)
        self.seen = valid[index]
        self.last = hidden[index, -1]  # [R, H]

    def feed(self, embeds: Tensor) -> Tensor:
        """Hidden state [R, H] after more tokens [R, S, H]."""
        mask, places = behind(self.seen, embeds.shape[1])
        self.last = self.model.hidden(embeds, mask, places, self.cache)[:, -1]
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1]).expand(-1, embeds.shape[1])], 1)
        return self.last


@dataclass
class Prefix:
    """For replay, with gradients: encoded prompts, one per row, which several rows may share."""

    embeds: Tensor  # [R, P, H]
    valid: Tensor  # [R, P] bool
    last: Tensor | None  # [R, H] hidden state of the last prompt token
    cache: PrefixCache | None  # None while checkpointing: recomputed layers cannot hand out their keys

    @classmethod
    def encode(cls, model: JanusNetwork, embeds: Tensor, valid: Tensor) -> Prefix:
        if model.is_gradient_checkpointing and model.training:
            return cls(embeds, valid, None, None)
        cache = PrefixCache()
        hidden = model.hidden(embeds, causal_mask(valid), positions(valid), cache)
        return cls(embeds, valid, hidden[:, -1], cache)

    def select(self, index: Tensor) -> Prefix:
        """Row r of the result is prompt index[r]."""
        if self.cache is None or self.last is None:
            return Prefix(self.embeds[index], self.valid[index], None, None)
        return Prefix(self.embeds[index], self.valid[index], self.last[index], self.cache.select(index))

    def extend(self, model: JanusNetwork, embeds: Tensor) -> Tensor:
        """Hidden states [R, 1+S, H]: last prompt token, then the tokens [R, S, H]."""
        if self.cache is None or self.last is None:
            valid = torch.cat([self.valid, torch.ones_like(embeds[..., 0], dtype=torch.bool)], 1)
            whole = torch.cat([self.embeds, embeds], 1)
            return model.hidden(whole, causal_mask(valid), positions(valid))[:, self.embeds.shape[1] - 1 :]
        if not embeds.shape[1]:
            return self.last[:, None]
        mask, places = behind(self.valid, embeds.shape[1])
        return torch.cat([self.last[:, None], model.hidden(embeds, mask, places, self.cache)], 1)
