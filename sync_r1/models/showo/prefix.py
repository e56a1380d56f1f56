"""Encode what rows of a batch begin with only once: keys and values of a prefix, shared by all rows that have it.

That is exact, because the text or picture that comes first never attends to what follows it.

D distinct prefixes, R rows (completions of a group, decoding steps, with and without condition), P prefix tokens,
S suffix tokens, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.sequences import PrefixCache, seen_mask
from sync_r1.models.showo.network import ShowoNetwork
from sync_r1.models.showo.prompting import Batch, join


@dataclass
class Prefix:
    """Encoded prefixes, one per row."""

    batch: Batch  # ids [R, P], mask [R, 1, P, P]
    last: Tensor | None  # [R, H] hidden state of the last prefix token
    cache: PrefixCache | None  # None while checkpointing: recomputed layers cannot hand out their keys

    @classmethod
    def encode(cls, model: ShowoNetwork, batch: Batch) -> Prefix:
        batch = batch.to(model.device)
        if model.is_gradient_checkpointing and model.showo.training:
            return cls(batch, None, None)
        cache, ends = PrefixCache(), torch.zeros_like(batch.ids, dtype=torch.bool)
        ends[:, -1] = True
        return cls(batch, model.hidden(batch.ids, batch.mask, cache, ends), cache)

    def select(self, index: Tensor) -> Prefix:
        """Row r of the result is prefix index[r]."""
        if self.cache is None or self.last is None:
            return Prefix(Batch(self.batch.ids[index], self.batch.mask[index]), None, None)
        return Prefix(Batch(self.batch.ids[index], self.batch.mask[index]), self.last[index], self.cache.select(index))

    def extend(self, model: ShowoNetwork, ids: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """Hidden states [M, H] at the `wanted` [R, 1+S] of: last prefix token, suffix `ids` [R, S], whose tokens see
        each other as `own` [S, S] says."""
        mask = seen_mask(self.batch.ids != model.config.pad_id, own)
        if self.cache is None or self.last is None:
            whole = join(self.batch, ids, mask)
            return model.hidden(whole.ids, whole.mask, wanted=F.pad(wanted, (self.batch.ids.shape[1] - 1, 0)))
        hidden = model.hidden(ids, mask, self.cache, wanted[:, 1:])
        first = torch.zeros_like(wanted)
        first[:, 0] = True
        leading = first[wanted]
        found = hidden.new_zeros(len(leading), hidden.shape[1])
        return found.index_put((leading,), self.last[wanted[:, 0]]).index_put((~leading,), hidden)
