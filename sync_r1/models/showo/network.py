"""Show-o's layers: one Phi backbone and the image tokenizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PhiForCausalLM, PreTrainedTokenizerFast

from sync_r1.models.base import (
    Images,
    UnifiedModel,
    pictures_at_once,
    switch_checkpointing,
    to_bytes,
    to_pixels,
)
from sync_r1.models.showo import backbone
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit


class ShowoNetwork(UnifiedModel):
    """What drawing, writing and their replay compute with.

    `magvit` may be None to train on codes alone; pictures then raise ValueError.
    """

    _no_split_modules = ("PhiDecoderLayer",)

    def __init__(self, config: ShowoConfig, tokenizer: PreTrainedTokenizerFast, magvit: Magvit | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.showo = PhiForCausalLM(config.phi())
        self.magvit = magvit
        if magvit is not None:
            magvit.requires_grad_(False)
            _check_magvit(config, magvit)
        self._blank: Tensor | None = None

    @property
    def codebook_size(self) -> int:  # type: ignore[override]
        return self.config.codebook_size

    @property
    def num_image_tokens(self) -> int:  # type: ignore[override]
        return self.config.num_image_tokens

    @property
    def image_size(self) -> int:  # type: ignore[override]
        return self.config.image_size

    def hidden(
        self, input_ids: Tensor, attention_mask: Tensor | None, past: Cache | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """Last hidden state [B, L, H] of ids [B, L] under a bool mask [B, 1, L, past+L]; or [M, H] where `wanted` [B,
        L] is set.

        Positions count padding, as upstream's do. Without a mask, single tokens see everything.
        """
        return backbone.run(self.showo.model, input_ids, attention_mask, past, wanted)

    def head(self, hidden: Tensor, rows: slice | Tensor) -> Tensor:
        """Logits [..., rows] of hidden [..., H] for some rows of the vocabulary only (config.text_rows,
        config.image_rows, ids).
        """
        lm_head = self.showo.lm_head
        if isinstance(lm_head, nn.Linear):
            return F.linear(hidden, lm_head.weight[rows], lm_head.bias[rows])
        return lm_head(hidden)[..., rows]  # an adapter sits on the head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy over text and over image targets: what transformers' Trainer asks for.

        targets [B, L]: id to predict AT each position (text already shifted by one), -100 = none. Image ids are scored
        against image rows, text ids against text rows. Returns {"loss", "text_loss", "image_loss"}: their sum, and 0
        for a kind that is absent.
        """
        hidden = self.hidden(input_ids, attention_mask)
        drawn = targets >= self.config.image_offset
        written = (targets >= 0) & ~drawn
        text_loss = _cross_entropy(self.head(hidden[written], self.config.text_rows), targets[written])
        codes = targets[drawn] - self.config.image_offset
        image_loss = _cross_entropy(self.head(hidden[drawn], self.config.image_rows), codes)
        return {"loss": text_loss + image_loss, "text_loss": text_loss, "image_loss": image_loss}

    @torch.no_grad()
    def encode_image(self, images: Images) -> Tensor:
        magvit = self._magvit()
        # the image tokenizer keeps a dtype of its own
        pixels = to_pixels(images, self.image_size).to(next(magvit.parameters()))
        return torch.cat([magvit.encode(part) for part in pixels.split(pictures_at_once(self.image_size))])

    @torch.no_grad()
    def decode_image(self, codes: Tensor) -> Tensor:
        pixels = torch.cat(
            [
                self._magvit().decode_codes(part)
                for part in codes.to(self.device).split(pictures_at_once(self.image_size))
            ]
        )
        return to_bytes(pixels)

    def blank_codes(self) -> Tensor:
        """Codes [N] of a black picture, which Show-o looks at when there is only text."""
        if self._blank is None:
            self._blank = self.encode_image(torch.zeros(1, 3, self.image_size, self.image_size))[0].cpu()
        return self._blank

    def _magvit(self) -> Magvit:
        if self.magvit is None:
            raise ValueError(
                "this model was built without an image tokenizer; pass magvit=, or put it in <folder>/magvit/"
            )
        return self.magvit

    def get_input_embeddings(self) -> nn.Module:
        return self.showo.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.showo.lm_head

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(layer.gradient_checkpointing for layer in self.showo.model.layers)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute layers in the backward pass; only in train mode.

        Trainer's call; `options` go to transformers as they are.
        """
        switch_checkpointing(
            self.showo, "enable", {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}, **options
        )

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The same under its newer name."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)

    def gradient_checkpointing_disable(self) -> None:
        switch_checkpointing(self.showo, "disable")


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(1, len(targets))


def _check_magvit(config: ShowoConfig, magvit: Magvit) -> None:
    sizes = {
        "codebook_size": (config.codebook_size, magvit.config.codebook_size),
        "image_size": (config.image_size, magvit.config.resolution),
        "num_image_tokens": (config.num_image_tokens, magvit.config.num_tokens),
    }
    for name, (ours, theirs) in sizes.items():
        if ours != theirs:
            raise ValueError(f"{name} is {ours} in the config but {theirs} in the image tokenizer; make them equal")
