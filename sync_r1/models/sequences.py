"""Batches of token sequences: padding, masks, and a first part whose keys and values are computed once and shared."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, PreTrainedTokenizerFast

K = TypeVar("K", bound=Hashable)


def text_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of plain text. Concept names are tokens; task tokens spelled out by a user stay ordinary characters."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def distinct(items: Sequence[K]) -> tuple[list[K], Tensor]:
    """Unique items in order of appearance, and the index of every item among them."""
    order = {item: position for position, item in enumerate(dict.fromkeys(items))}
    return list(order), torch.tensor([order[item] for item in items], dtype=torch.long)


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, width: int | None = None) -> Tensor:
    """[B, L] long, L = longest row or `width`. Raises ValueError if a row is longer than `width`."""
    longest = max(len(row) for row in rows)
    width = longest if width is None else width
    if longest > width:
        raise ValueError(
            f"a sequence has {longest} tokens, the slot holds {width}; shorten it or raise max_text_tokens"
        )
    return torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)


def causal_mask(valid: Tensor) -> Tensor:
    """[B, 1, L, L]: causal, padding apart from the rest.

    Padding sees padding, so no row is empty (an empty row would be NaN).
    """
    length = valid.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=valid.device).tril()
    return (causal & (valid[:, :, None] == valid[:, None, :]))[:, None]


def seen_mask(valid: Tensor, own: Tensor) -> Tensor:
    """Mask of S tokens behind tokens `valid` [B, P]: they see the valid ones, and each other as `own` [S, S] says →
    [B, 1, S, P+S]."""
    size = own.shape[0]
    seen = valid[:, None, None, :].expand(-1, 1, size, -1)
    return torch.cat([seen, own[None, None].expand(len(valid), 1, -1, -1)], dim=-1)


class PrefixCache(Cache):
    """Keys and values of a prefix.

    The first pass records them; later passes see prefix + own tokens and leave no trace.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.states: list[tuple[Tensor, Tensor]] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if layer_idx == len(self.states):
            self.states.append((key_states, value_states))
            return key_states, value_states
        keys, values = self.states[layer_idx]
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        if self.states:
            return self.states[0][0].shape[2]
        return 0

    def select(self, index: Tensor) -> PrefixCache:
        chosen = PrefixCache()
        chosen.states = [(keys[index], values[index]) for keys, values in self.states]
        return chosen


class GrowingCache(Cache):
    """A prefix and what is appended token by token, in memory that is taken once."""

    def __init__(self, prefix: PrefixCache, max_new_tokens: int) -> None:
        super().__init__(layers=[])
        added = (0, 0, 0, max_new_tokens)
        self.states = [(F.pad(keys, added), F.pad(values, added)) for keys, values in prefix.states]
        self.lengths = [keys.shape[2] for keys, _ in prefix.states]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.lengths[layer_idx]
        end = self.lengths[layer_idx] = start + key_states.shape[2]
        keys, values = self.states[layer_idx]
        keys[:, :, start:end], values[:, :, start:end] = key_states, value_states
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.lengths[layer_idx]
