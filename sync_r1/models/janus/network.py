"""Janus' layers: transformers' JanusForConditionalGeneration, its vision tower and its image tokenizer."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, JanusForConditionalGeneration, PreTrainedTokenizerFast

from sync_r1.models.base import Images, UnifiedModel, switch_checkpointing
from sync_r1.models.janus import pixels
from sync_r1.models.janus.config import JanusExtras, check_sizes
from sync_r1.models.janus.prompting import SpecialTokens


class JanusNetwork(UnifiedModel):
    """What drawing, writing and their replay compute with. The vision tower and the image tokenizer never train."""

    _no_split_modules = ("LlamaDecoderLayer",)

    def __init__(
        self,
        janus: JanusForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        extras: JanusExtras | None = None,
    ) -> None:
        """Raises ValueError for a tokenizer without Janus' special tokens, or sizes that do not fit together."""
        super().__init__()
        self.janus, self.tokenizer, self.extras = janus, tokenizer, extras or JanusExtras()
        self.special_tokens = SpecialTokens.of(tokenizer)
        # V: all ids of the tokenizer lie below it; the matrices may hold spare rows behind them
        self.text_vocab = vocabulary_size(tokenizer)
        check_sizes(janus.config, self.text_vocab)
        for frozen in self._frozen:
            frozen.requires_grad_(False)
        self.suppressed_ids = self._suppressed_ids()
        self._grey: Tensor | None = None

    def _suppressed_ids(self) -> list[int]:
        """Never written: special tokens but the end, ids without a token, and suppressed ones."""
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        unknown = set(range(self.text_vocab)) - set(self.tokenizer.get_vocab().values())
        return sorted((special | unknown | set(self.extras.suppress_tokens)) - {self.special_tokens.eos})

    @property
    def config(self) -> Any:
        return self.janus.config  # a JanusConfig

    @property
    def codebook_size(self) -> int:  # type: ignore[override]
        return self.config.vq_config.num_embeddings

    @property
    def num_image_tokens(self) -> int:  # type: ignore[override]
        return self.config.vision_config.num_image_tokens

    @property
    def image_size(self) -> int:  # type: ignore[override]
        return self.config.vision_config.image_size

    @property
    def is_tied(self) -> bool:
        """Whether embedding and head are one matrix."""
        return self.get_output_embeddings().weight is self.get_input_embeddings().weight

    @property
    def _frozen(self) -> tuple[nn.Module, nn.Module]:
        return self.janus.model.vqmodel, self.janus.model.vision_model

    def train(self, mode: bool = True) -> JanusNetwork:
        super().train(mode)
        for frozen in self._frozen:
            frozen.eval()
        return self

    def hidden(self, embeds: Tensor, mask: Tensor, position_ids: Tensor, past: Cache | None = None) -> Tensor:
        """Last hidden state [B, S, H] of embeddings [B, S, H] under a bool mask [B, 1, S, P+S] at positions [B, S]."""
        output = self.janus.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids, past_key_values=past, use_cache=False
        )
        return output.last_hidden_state

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden [..., H]."""
        lm_head = self.get_output_embeddings()
        if isinstance(lm_head, nn.Linear):
            return F.linear(hidden, lm_head.weight[: self.text_vocab])
        return lm_head(hidden)[..., : self.text_vocab]  # an adapter sits on the head

    def see(self, pixels: Tensor) -> Tensor:
        """What the language model gets of pictures uint8 [B, 3, S, S] from `look`: [B, N, H]."""
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.extras.image_mean, self.extras.image_std)
        )
        values = (pixels.to(self.device) / 255 - mean) / std
        return self.janus.model.get_image_features(values.to(self.dtype)).pooler_output

    def embed_codes(self, codes: Tensor) -> Tensor:
        """What the language model gets of drawn codes [..., n]: [..., n, H]."""
        return self.janus.prepare_embeddings_for_image_generation(codes)

    def check_length(self, length: int, more: int) -> None:
        """Raises ValueError when `more` tokens behind a prompt of `length` would leave the trained positions."""
        limit = self.config.text_config.max_position_embeddings
        if length + more > limit:
            raise ValueError(
                f"a prompt of {length} tokens and {more} more exceed the model's {limit} positions; shorten the prompt"
            )

    @torch.no_grad()
    def encode_image(self, images: Images) -> Tensor:
        return pixels.encode(self.janus.model.vqmodel, images, self.image_size)

    @torch.no_grad()
    def decode_image(self, codes: Tensor) -> Tensor:
        return pixels.decode(self.janus.model.vqmodel, codes.to(self.device))

    def look(self, images: Images) -> Tensor:
        """Pixels uint8 [B, 3, S, S], on the CPU: long side resized, the rest filled with the mean colour."""
        return pixels.letterbox(images, self.image_size, self.extras.image_mean)

    def get_input_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.janus.get_input_embeddings())

    def get_output_embeddings(self) -> nn.Linear:
        return self.janus.lm_head

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(layer.gradient_checkpointing for layer in cast(Any, self.janus.model.language_model).layers)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Recompute the language model's layers in the backward pass; only in train mode."""
        kwargs = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        switch_checkpointing(self.janus.model.language_model, "enable", kwargs)

    def gradient_checkpointing_disable(self) -> None:
        switch_checkpointing(self.janus.model.language_model, "disable")


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the largest id; published tokenizers may leave ids out."""
    return max(tokenizer.get_vocab().values()) + 1
