"""The text (or picture) that comes first never sees what follows, so its keys and values are computed once and shared.

D distinct prefixes, R rows (siblings, decoding steps, guidance halves), P prefix tokens, S suffix tokens, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sync_r1.models.sequences import PrefixCache, seen_mask
from sync_r1.models.showo.prompting import Batch, join

if TYPE_CHECKING:
    from sync_r1.models.showo.model import Showo


@dataclass
class Prefix:
    """Encoded prefixes, one per row."""

    batch: Batch  # ids [R, P], mask [R, 1, P, P]
    last: Tensor | None  # [R, H] hidden state of the last prefix token
    cache: PrefixCache | None  # None while checkpointing: recomputed layers cannot hand out their keys

    @classmethod
    def encode(cls, model: Showo, batch: Batch) -> Prefix:
        batch = batch.to(model.device)
        if model.is_gradient_checkpointing and model.showo.training:
            return cls(batch, None, None)
        cache = PrefixCache()
        hidden = model.hidden(batch.ids, batch.mask, past=cache)
        return cls(batch, hidden[:, -1], cache)

    def select(self, index: Tensor) -> Prefix:
        """Row r of the result is prefix index[r]."""
        if self.cache is None or self.last is None:
            return Prefix(Batch(self.batch.ids[index], self.batch.mask[index]), None, None)
        return Prefix(Batch(self.batch.ids[index], self.batch.mask[index]), self.last[index], self.cache.select(index))

    def extend(self, model: Showo, ids: Tensor, own: Tensor) -> Tensor:
        """Hidden states [R, 1+S, H]: last prefix token, then the suffix `ids` [R, S], whose tokens see each other as `own` [S, S] says."""
        mask = seen_mask(self.batch.ids != model.config.pad_id, own)
        if self.cache is None or self.last is None:
            whole = join(self.batch, ids, mask)
            return model.hidden(whole.ids, whole.mask)[:, self.batch.ids.shape[1] - 1 :]
        return torch.cat([self.last[:, None], model.hidden(ids, mask, past=self.cache)], dim=1)
