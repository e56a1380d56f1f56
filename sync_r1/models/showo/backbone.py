"""One pass through Phi that computes what is asked for and nothing twice; transformers' own pass gives the same within
rounding.

A layer is x + attention(n) + mlp(n) with n = norm(x), which saves work in two places. The first layer's projections and
MLP know nothing of positions, so they are computed once per distinct id: most ids of an image being drawn are the mask.
The last layer's queries and MLP are needed only where the result is read. Modules are called, never their
weights, so that adapters count. Layers that are wrapped (FSDP) or hooked are called as a whole. No dropout, as many key
heads as query heads: what `ShowoConfig.phi` sets.

B rows, L new tokens, P tokens before them, U distinct ids, A heads of D numbers, H = A·D, M wanted positions.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache
from transformers.models.phi.modeling_phi import PhiDecoderLayer, PhiModel

Rotary = tuple[Tensor, Tensor]  # cosines and sines [1 or B, L, rotated part of D]


class Wanted(NamedTuple):
    """Positions whose result is read, ascending, as many in every row: rows that want fewer are filled up with
    others."""

    places: Tensor  # [B, W] long
    real: Tensor  # [B, W] bool

    @classmethod
    def of(cls, flags: Tensor) -> Wanted:
        """From flags [B, L]."""
        places = flags.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[
            :, : max(1, int(flags.sum(1).max()))
        ]
        return cls(places, flags.gather(1, places))

    def take(self, values: Tensor) -> Tensor:
        """[B, W, …] of values [1 or B, L, …]."""
        if len(values) > 1:
            rows = torch.arange(len(self.places), device=values.device)[:, None]
        else:
            rows = torch.zeros_like(self.places)
        return values[rows, self.places]


def run(
    body: PhiModel, ids: Tensor, mask: Tensor | None, past: Cache | None = None, flags: Tensor | None = None
) -> Tensor:
    """Last hidden states [B, L, H] of ids [B, L], or [M, H] where flags [B, L] are set, row by row.

    Args:
        mask: [B, 1, L, P+L] bool, True = row may attend to column; None for a single token that sees everything.
        past: keys and values of the P tokens before; receives the new ones.
    """
    start = 0
    if past is not None:
        start = past.get_seq_length()
    table, index = ids, None
    if ids.shape[1] > 1 and is_plain(body.layers[0]):
        table, index = ids.unique(return_inverse=True)
    x = body.embed_tokens(table)
    rotary = body.rotary_emb(x, torch.arange(start, start + ids.shape[1], device=ids.device)[None])
    wanted = None
    if flags is not None and is_plain(body.layers[-1]):
        wanted = Wanted.of(flags)
    layers = cast(list[PhiDecoderLayer], list(body.layers))
    for layer in layers:
        ends = None
        if layer is layers[-1]:
            ends = wanted
        if not is_plain(layer):
            x = layer(x, attention_mask=mask, past_key_values=past, position_embeddings=rotary)
        elif layer.gradient_checkpointing and layer.training:
            assert past is None, "a layer that is recomputed cannot hand out its keys"
            x = layer._gradient_checkpointing_func(block, layer, x, rotary, mask, None, index, ends)  # type: ignore[operator]
        else:
            x = block(layer, x, rotary, mask, past, index, ends)
        index = None
    x = body.final_layernorm(x)
    if flags is None:
        return x
    if wanted is None:
        return x[flags]
    return x[wanted.real]


def is_plain(layer: torch.nn.Module) -> bool:
    """Whether the layer is neither wrapped nor hooked into as a whole."""
    return type(layer) is PhiDecoderLayer and not layer._forward_hooks and not layer._forward_pre_hooks


def block(
    layer: PhiDecoderLayer,
    x: Tensor,
    rotary: Rotary,
    mask: Tensor | None,
    past: Cache | None,
    index: Tensor | None,
    wanted: Wanted | None,
) -> Tensor:
    """One layer: x [B, L, H] → [B, L, H], or [B, W, H] at `wanted`.

    With `index` [B, L], x [U, H] holds the distinct inputs.
    """
    attention, normed = layer.self_attn, layer.input_layernorm(x)
    key, value = (
        heads(attention.k_proj(normed), attention.head_dim),
        heads(attention.v_proj(normed), attention.head_dim),
    )
    turned = rotary
    if wanted is not None and index is None:
        x, normed, turned = wanted.take(x), wanted.take(normed), (wanted.take(rotary[0]), wanted.take(rotary[1]))
        if mask is not None:
            mask = wanted.take(mask.transpose(1, 2)).transpose(1, 2)
        else:
            mask = None
    query, rest = heads(attention.q_proj(normed), attention.head_dim), x + layer.mlp(normed)
    if attention.qk_layernorm:
        query, key = attention.q_layernorm(query), attention.k_layernorm(key)
    if index is not None:
        query, key, value, rest = (spread(part, index) for part in (query, key, value, rest))
    query, key, value = (
        rotate(query, turned).transpose(1, 2),
        rotate(key, rotary).transpose(1, 2),
        value.transpose(1, 2),
    )
    if past is not None:
        key, value = past.update(key, value, attention.layer_idx)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
    x = rest + attention.dense(seen.transpose(1, 2).flatten(2))
    if wanted is not None and index is not None:
        return wanted.take(x)
    return x


def heads(values: Tensor, size: int) -> Tensor:
    """[..., H] → [..., A, D]."""
    return values.unflatten(-1, (-1, size))


def spread(table: Tensor, index: Tensor) -> Tensor:
    """Rows of table [U, …] at index [B, L] → [B, L, …]."""
    return F.embedding(index, table.flatten(1)).unflatten(-1, table.shape[1:])


def rotate(values: Tensor, rotary: Rotary) -> Tensor:
    """Rotary embedding of the first part of each head of values [B, L, A, D]."""
    cosine, sine = (part.unsqueeze(2).chunk(2, dim=-1)[0] for part in rotary)  # both halves are the same
    half = cosine.shape[-1]
    first, second, rest = values.split([half, half, values.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)
