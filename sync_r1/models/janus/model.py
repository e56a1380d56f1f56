"""Janus: one Llama that reads what a vision tower sees and draws image tokens one after the other (arXiv 2410.13848,
2501.17811).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Cache, JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast

from sync_r1.models.base import ConceptTokens, Images, Rows, UnifiedModel, switch_checkpointing
from sync_r1.models.janus import image, pictures, text
from sync_r1.models.janus.config import SECTION, JanusExtras, check_sizes, read_folder
from sync_r1.models.janus.prompting import Marks, prepare_tokenizer
from sync_r1.models.tokenizer_files import load_tokenizer
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill
from sync_r1.types import ImageTrace, Sampling, TextCompletions, TextContext

EMBED, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


class Janus(UnifiedModel):
    """transformers' JanusForConditionalGeneration behind the contract.

    The vision tower and the image tokenizer never train.
    """

    _no_split_modules = ("LlamaDecoderLayer",)

    def __init__(
        self,
        janus: JanusForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        extras: JanusExtras | None = None,
    ) -> None:
        """Raises ValueError for a tokenizer without Janus' marks, or sizes that do not fit together."""
        super().__init__()
        self.janus, self.tokenizer, self.extras = janus, tokenizer, extras or JanusExtras()
        self.marks = Marks.of(tokenizer)
        self.text_vocab = vocabulary_size(
            tokenizer
        )  # V: ids of the tokenizer lie below; the matrices may hold spare rows behind them
        check_sizes(janus.config, self.text_vocab)
        for frozen in self._frozen:
            frozen.requires_grad_(False)
        self.silent_ids = self._silent_ids()
        self._grey: Tensor | None = None

    @classmethod
    def from_config(cls, config: JanusConfig, tokenizer: PreTrainedTokenizerFast) -> Janus:
        """A fresh model. The tokenizer gets the marks it lacks; the config's vocabulary must have room for them."""
        prepare_tokenizer(tokenizer)
        config.image_token_id = Marks.of(tokenizer).image
        return cls(JanusForConditionalGeneration(config), tokenizer)

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
    def concepts(self) -> list[ConceptTokens]:
        return [ConceptTokens(**concept) for concept in self.extras.concepts]

    @property
    def name_pool(self) -> list[str]:
        return []

    @property
    def is_tied(self) -> bool:
        """Whether embedding and head are one matrix."""
        return self.get_output_embeddings().weight is self.get_input_embeddings().weight

    @property
    def _frozen(self) -> tuple[nn.Module, nn.Module]:
        return self.janus.model.vqmodel, self.janus.model.vision_model

    def train(self, mode: bool = True) -> Janus:
        super().train(mode)
        for frozen in self._frozen:
            frozen.eval()
        return self

    # forward

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

    def check_room(self, length: int, more: int) -> None:
        """Raises ValueError when `more` tokens behind a prompt of `length` would leave the trained positions."""
        limit = self.config.text_config.max_position_embeddings
        if length + more > limit:
            raise ValueError(
                f"a prompt of {length} tokens and {more} more exceed the model's {limit} positions; shorten the prompt"
            )

    # contract

    @torch.no_grad()
    def encode_image(self, images: Images) -> Tensor:
        return pictures.encode(self.janus.model.vqmodel, images, self.image_size)

    @torch.no_grad()
    def decode_image(self, codes: Tensor) -> Tensor:
        return pictures.decode(self.janus.model.vqmodel, codes.to(self.device))

    def look(self, images: Images) -> Tensor:
        """Pixels uint8 [B, 3, S, S], on the CPU: long side resized, the rest filled with the mean colour."""
        return pictures.letterbox(images, self.image_size, self.extras.image_mean)

    def preview(self, trace: ImageTrace) -> Tensor:
        """The rows drawn so far above plain grey: what is not there yet cannot be guessed from the top of a picture."""
        return self.decode_image(torch.where(trace.known_before(trace.step), trace.tokens, self.grey_codes()))

    def grey_codes(self) -> Tensor:
        """Codes [N] of a plain grey picture."""
        if self._grey is None:
            self._grey = self.encode_image(torch.full((1, 3, self.image_size, self.image_size), 0.5))[0]
        return self._grey.to(self.device)

    def generate_text(
        self, contexts: Sequence[TextContext], sampling: Sampling, seeds: Sequence[int]
    ) -> TextCompletions:
        with self._generating():
            return text.generate(self, contexts, sampling, seeds)

    def generate_image(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        state: ImageTrace | None = None,
        stop_at: int | None = None,
    ) -> ImageTrace:
        with self._generating():
            return image.generate(self, prompts, sampling, seeds, state, stop_at)

    def text_logps(
        self, contexts: Sequence[TextContext], ids: Tensor, mask: Tensor, sampling: Sampling
    ) -> tuple[Tensor, Tensor]:
        return text.replay(self, contexts, ids, mask, sampling)

    def image_logps(
        self,
        prompts: Sequence[str],
        trace: ImageTrace,
        sampling: Sampling,
        steps: Sequence[int],
        dropped: Sequence[bool] | None = None,
    ) -> tuple[Tensor, Tensor]:
        return image.replay(self, prompts, trace, sampling, steps, dropped)

    def training_trace(self, codes: Tensor, seeds: Sequence[int]) -> tuple[ImageTrace, list[int]]:
        """Teacher forcing: every code is learned from those before it, so one step holds them all and nothing is
        random.
        """
        nothing = torch.zeros(codes.shape, device=codes.device)
        return ImageTrace(codes, nothing.long(), nothing, torch.as_tensor(list(seeds)), step=1, timesteps=1, nfe=0), [0]

    # vocabulary

    def get_input_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.janus.get_input_embeddings())

    def get_output_embeddings(self) -> nn.Linear:
        return self.janus.lm_head

    def code_embeddings(self, codes: Tensor) -> Tensor:
        return self.embed_codes(codes.to(self.device)).detach().float()

    def read_rows(self, ids: Sequence[int]) -> Rows:
        """The head has no bias: zeros."""
        index = torch.as_tensor(ids, device=self.device)
        embed, head = (
            layer.weight.detach()[index].clone()
            for layer in (self.get_input_embeddings(), self.get_output_embeddings())
        )
        return Rows(embed, head, torch.zeros(len(index), device=self.device))

    @torch.no_grad()
    def write_rows(self, ids: Sequence[int], rows: Rows) -> None:
        """The bias is dropped. Where embedding and head are one matrix, the embedding counts."""
        index = torch.as_tensor(ids, device=self.device)
        head, embed = self.get_output_embeddings().weight, self.get_input_embeddings().weight
        head[index] = rows.head_weight.to(head)
        embed[index] = rows.embed.to(embed)

    @torch.no_grad()
    def insert_concept(self, concept: ConceptTokens, rows: Rows) -> None:
        """Uses spare rows behind the tokenizer's ids first. Codes have matrices of their own, so nothing moves."""
        self.tokenizer.add_tokens(concept.all_tokens)
        self.text_vocab = vocabulary_size(self.tokenizer)
        self._grow(self.text_vocab)
        vocabulary = self.tokenizer.get_vocab()
        self.extras = replace(self.extras, concepts=[*self.extras.concepts, asdict(concept)])
        self.write_rows([vocabulary[token] for token in concept.all_tokens], rows)
        self.silent_ids = self._silent_ids()

    def suppress(self, ids: Sequence[int]) -> None:
        self.extras = replace(self.extras, suppress_tokens=sorted({*self.extras.suppress_tokens, *ids}))
        self.silent_ids = self._silent_ids()

    def _silent_ids(self) -> list[int]:
        """Never written: special tokens but the end, ids without a token, and suppressed ones."""
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        unknown = set(range(self.text_vocab)) - set(self.tokenizer.get_vocab().values())
        return sorted((special | unknown | set(self.extras.suppress_tokens)) - {self.marks.eos})

    def _grow(self, size: int) -> None:
        """At least `size` vocabulary rows; new ones are 0."""
        embed, head, tied = self.get_input_embeddings(), self.get_output_embeddings(), self.is_tied
        more = size - len(embed.weight)
        if more <= 0:
            return

        def longer(old: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.cat([old, old.new_zeros(more, old.shape[1])]), requires_grad=old.requires_grad)

        embed.weight = longer(embed.weight)
        head.weight = embed.weight if tied else longer(head.weight)
        embed.num_embeddings = head.out_features = self.config.text_config.vocab_size = size
        cast(Any, self.janus.model.language_model).vocab_size = size

    # training switches

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

    # storage

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """transformers' own layout, which its JanusForConditionalGeneration reads too.

        Concepts are in a section of config.json.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        self.tokenizer.save_pretrained(folder)
        for name, content in self.extras.companions.items():
            (folder / name).write_text(content, encoding="utf-8")
        weights = {name: value.detach().cpu().contiguous() for name, value in self.janus.state_dict().items()}
        if self.is_tied:
            del weights[HEAD]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = self.config
        config.architectures, config.dtype, config.tie_word_embeddings = (
            ["JanusForConditionalGeneration"],
            self.dtype,
            self.is_tied,
        )
        setattr(config, SECTION, self.extras.section)
        config.to_json_file(folder / "config.json")

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Janus:
        """Read a published folder, or one of `save_pretrained`. The image tokenizer stays fp32.

        Raises ValueError if a file is missing or something does not fit.
        """
        folder = Path(folder)
        config, extras = read_folder(folder)
        if not (folder / "tokenizer.json").is_file():
            raise ValueError(
                f"{folder / 'tokenizer.json'} is missing; a Janus folder has config.json, tokenizer.json and weights"
            )
        files = WeightFiles(folder)
        if HEAD in files.shapes and EMBED in files.shapes:
            config.tie_word_embeddings = config.tie_word_embeddings and torch.equal(files.read(HEAD), files.read(EMBED))
        tokenizer = load_tokenizer(folder)
        with blank(dtype, device):
            janus = JanusForConditionalGeneration(config)
        janus.model.vqmodel.float()
        janus.tie_weights()
        model = cls(janus, tokenizer, extras)
        check_shapes(model._shapes(HEAD in files.shapes), files.shapes, folder, "config.json")
        fill(model.janus, files.stream(), folder)
        return model.eval()

    def load_weights(self, weights: dict[str, Tensor], source: str = "checkpoint") -> None:
        """Load tensors named as in model.safetensors.

        Raises ValueError on another vocabulary size, missing or unknown names.
        """
        seen = {name: value.shape for name, value in weights.items()}
        if len(seen.get(EMBED, ())) and (rows := seen[EMBED][0]) != len(self.get_input_embeddings().weight):
            raise ValueError(
                f"{source} has a vocabulary of {rows} rows, the model {len(self.get_input_embeddings().weight)}; "
                "a checkpoint and its config must have the same concept tokens"
            )
        check_shapes(self._shapes(HEAD in weights), seen, source, "the model")
        fill(self.janus, weights.items())

    def _shapes(self, with_head: bool) -> dict[str, torch.Size]:
        """Of the weights a file must hold; the head may be left out where it is the embedding."""
        shapes = {name: value.shape for name, value in self.janus.state_dict().items()}
        return {name: shape for name, shape in shapes.items() if name != HEAD or with_head or not self.is_tied}


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the largest id; published tokenizers may leave ids out."""
    return max(tokenizer.get_vocab().values()) + 1
