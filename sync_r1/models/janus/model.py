"""Janus: one Llama that reads what a vision tower sees and draws image tokens one after the other (arXiv 2410.13848,
2501.17811).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast

from sync_r1.models.base import ConceptTokens, Fill, Rows
from sync_r1.models.config_files import load_tokenizer
from sync_r1.models.janus import image, text
from sync_r1.models.janus.config import SECTION, read_folder
from sync_r1.models.janus.network import JanusNetwork, vocabulary_size
from sync_r1.models.janus.prompting import SpecialTokens, prepare_tokenizer
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill
from sync_r1.types import ImageTrace, OnStep, OnToken, Sampling, TextCompletions, TextContext

EMBED, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


class Janus(JanusNetwork):
    """transformers' JanusForConditionalGeneration behind the contract.

    The vision tower and the image tokenizer never train.
    """

    @classmethod
    def from_config(cls, config: JanusConfig, tokenizer: PreTrainedTokenizerFast) -> Janus:
        """A fresh model. The tokenizer gets the special tokens it lacks; the config's vocabulary must have room for
        them."""
        prepare_tokenizer(tokenizer)
        config.image_token_id = SpecialTokens.of(tokenizer).image
        return cls(JanusForConditionalGeneration(config), tokenizer)

    @property
    def concepts(self) -> list[ConceptTokens]:
        return [ConceptTokens(**concept) for concept in self.extras.concepts]

    @property
    def name_pool(self) -> list[str]:
        return []

    # contract

    def preview(self, trace: ImageTrace, fill: Fill = "likely") -> Tensor:
        """The rows drawn so far above plain grey: what is not there yet cannot be guessed from the top of a picture."""
        return self.decode_image(torch.where(trace.known_before(trace.step), trace.tokens, self.grey_codes()))

    def grey_codes(self) -> Tensor:
        """Codes [N] of a plain grey picture."""
        if self._grey is None:
            self._grey = self.encode_image(torch.full((1, 3, self.image_size, self.image_size), 0.5))[0]
        return self._grey.to(self.device)

    def generate_text(
        self,
        contexts: Sequence[TextContext],
        sampling: Sampling,
        seeds: Sequence[int],
        on_token: OnToken | None = None,
    ) -> TextCompletions:
        with self._generating():
            return text.generate(self, contexts, sampling, seeds, on_token)

    def generate_image(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        state: ImageTrace | None = None,
        stop_at: int | None = None,
        on_step: OnStep | None = None,
    ) -> ImageTrace:
        with self._generating():
            return image.generate(self, prompts, sampling, seeds, state, stop_at, on_step)

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

    def scoring_trace(self, codes: Tensor) -> ImageTrace:
        """Every code after those before it."""
        return self.training_trace(codes, [0] * len(codes))[0]

    # vocabulary

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
        self.suppressed_ids = self._suppressed_ids()

    def suppress(self, ids: Sequence[int]) -> None:
        self.extras = replace(self.extras, suppress_tokens=sorted({*self.extras.suppress_tokens, *ids}))
        self.suppressed_ids = self._suppressed_ids()

    def _grow(self, size: int) -> None:
        """At least `size` vocabulary rows; new ones are 0."""
        embed, head, tied = self.get_input_embeddings(), self.get_output_embeddings(), self.is_tied
        more = size - len(embed.weight)
        if more <= 0:
            return

        def longer(old: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.cat([old, old.new_zeros(more, old.shape[1])]), requires_grad=old.requires_grad)

        embed.weight = longer(embed.weight)
        if tied:
            head.weight = embed.weight
        else:
            head.weight = longer(head.weight)
        embed.num_embeddings = head.out_features = self.config.text_config.vocab_size = size
        cast(Any, self.janus.model.language_model).vocab_size = size

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
