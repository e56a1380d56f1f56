"""Token sequences and attention masks of Show-o's two tasks. B batch, L tokens, N image tokens, P prefix, S suffix.

t2i: left-pad([t2i, bos, text, eos]), soi, N codes, eoi. Text is causal; the image span sees everything.
mmu: [mmu, soi, N codes, eoi, bos, text]. Everything sees the part up to eoi; causal after it. Without a picture: [mmu,
    bos, text]. Codes are given in [0, codebook_size], where codebook_size stands for "masked".
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AddedToken, PreTrainedTokenizerFast

from sync_r1.models.sequences import causal_mask, left_pad, seen_mask, text_ids
from sync_r1.models.showo.config import SPECIALS, ShowoConfig

END_OF_TEXT = "<|endoftext|>"
PAD = "[PAD]"


class Batch(NamedTuple):
    """Model input."""

    ids: Tensor  # [B, L] long, left-padded
    mask: Tensor  # [B, 1, L, L] bool, True = row may attend to column

    def to(self, device: torch.device) -> Batch:
        return Batch(self.ids.to(device), self.mask.to(device))


def prepare_tokenizer(tokenizer: PreTrainedTokenizerFast, name_pool: Sequence[str] = ()) -> int:
    """Add the pool's names, then [PAD] and the task tokens behind the text; return the number of text ids.

    Does nothing the second time. Raises ValueError without "<|endoftext|>" or if a pool name cannot be one text token.
    """
    vocabulary = tokenizer.get_vocab()
    if END_OF_TEXT not in vocabulary:
        raise ValueError(
            f"the tokenizer has no {END_OF_TEXT!r}; add it before building a model, it begins and ends every text"
        )
    if PAD not in vocabulary:
        tokenizer.add_tokens([name for name in name_pool if name not in vocabulary])
        specials = [PAD, *(f"<|{name}|>" for name in SPECIALS)]
        tokenizer.add_tokens(
            [AddedToken(token, special=True, normalized=False) for token in specials], special_tokens=True
        )
        tokenizer.pad_token = PAD
    text_vocab = tokenizer.get_vocab()[PAD]
    for name in name_pool:
        if (ids := text_ids(tokenizer, name)) != [tokenizer.convert_tokens_to_ids(name)] or ids[0] >= text_vocab:
            raise ValueError(f"pool name {name!r} becomes {ids}; it must be one token below [PAD] ({text_vocab})")
    return text_vocab


def drawing_ids(tokenizer: PreTrainedTokenizerFast, config: ShowoConfig, prompt: str) -> list[int]:
    """Ids of a drawing prompt, cut to the text slot; a UserWarning names the words that were lost."""
    ids, lost = split_drawing_prompt(tokenizer, config, prompt)
    if lost:
        count = len(text_ids(tokenizer, prompt))
        warnings.warn(f"prompt has {count} tokens, the text slot takes {len(ids)}; lost: {lost!r}", stacklevel=2)
    return ids


def split_drawing_prompt(tokenizer: PreTrainedTokenizerFast, config: ShowoConfig, prompt: str) -> tuple[list[int], str]:
    """Ids of a drawing prompt that fit the text slot, and the words behind them, "" where all fit."""
    ids = text_ids(tokenizer, prompt)
    limit = config.max_text_tokens - 3
    if len(ids) <= limit:
        return ids, ""
    return ids[:limit], str(tokenizer.decode(ids[limit:]))


def build_t2i_prefix(config: ShowoConfig, texts: Sequence[Sequence[int]], pad_to: int | None = None) -> Batch:
    """The text part of a drawing prompt: left-pad([t2i, bos, text, eos]), to the longest row or to `pad_to`."""
    rows = [[config.special("t2i"), config.bos_id, *text, config.eos_id] for text in texts]
    ids = left_pad(rows, config.pad_id, pad_to)
    return Batch(ids, causal_mask(ids != config.pad_id))


def image_span(config: ShowoConfig, codes: Tensor) -> Tensor:
    """Codes [B, N] → ids [B, N+2] with soi and eoi around them."""
    if codes.shape[-1] != config.num_image_tokens:
        raise ValueError(f"got {codes.shape[-1]} codes per image; this model has {config.num_image_tokens}")
    soi = torch.full_like(codes[:, :1], config.special("soi"))
    return torch.cat([soi, codes + config.image_offset, torch.full_like(soi, config.special("eoi"))], dim=1)


def join(prefix: Batch, ids: Tensor, mask: Tensor) -> Batch:
    """Prefix [B, P] and suffix [B, S] with its [B, 1, S, P+S] mask as one sequence.

    The prefix never sees the suffix.
    """
    hidden = torch.zeros(*prefix.mask.shape[:3], ids.shape[1], dtype=torch.bool, device=mask.device)
    return Batch(torch.cat([prefix.ids, ids], 1), torch.cat([torch.cat([prefix.mask, hidden], -1), mask], 2))


def build_t2i(
    config: ShowoConfig, texts: Sequence[Sequence[int]], codes: Tensor | None = None, pad_to: int | None = None
) -> Batch:
    """Full drawing sequences. `codes` [B, N] in [0, codebook_size]; None = all masked.

    The codes lie at [:, -N-1:-1].
    """
    prefix = build_t2i_prefix(config, texts, pad_to)
    if codes is None:
        codes = torch.full((len(texts), config.num_image_tokens), config.codebook_size)
    span = image_span(config, codes.cpu())
    everything = torch.ones(span.shape[1], span.shape[1], dtype=torch.bool)
    return join(prefix, span, seen_mask(prefix.ids != config.pad_id, everything))


def build_mmu(
    config: ShowoConfig, codes: Tensor | Sequence[Tensor | None] | None, texts: Sequence[Sequence[int]]
) -> Batch:
    """Full understanding sequences, left-padded.

    `codes`: [B, N], or one per text (None = no picture), or None for no pictures.
    """
    pictures = [None] * len(texts) if codes is None else list(codes)
    if len(pictures) != len(texts):
        raise ValueError(f"got {len(pictures)} pictures for {len(texts)} texts; give one (or None) per text")
    rows, heads = [], []
    for picture, text in zip(pictures, texts):
        span = [] if picture is None else image_span(config, picture.cpu()[None])[0].tolist()
        rows.append([config.special("mmu"), *span, config.bos_id, *text])
        heads.append(1 + len(span))
    ids = left_pad(rows, config.pad_id)
    valid = ids != config.pad_id
    start = valid.long().argmax(1)
    head_end = (start + torch.tensor(heads))[:, None]
    head = valid & (torch.arange(ids.shape[1]) < head_end)
    return Batch(ids, causal_mask(valid) | (valid[:, :, None] & head[:, None, :])[:, None])
