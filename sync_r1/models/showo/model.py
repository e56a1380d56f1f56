"""Show-o: one Phi backbone that writes text causally and draws images by unmasking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Cache, PhiForCausalLM, PreTrainedTokenizerFast

from sync_r1.models.base import (
    ConceptTokens,
    Images,
    Rows,
    UnifiedModel,
    pictures_at_once,
    switch_checkpointing,
    to_bytes,
    to_pixels,
)
from sync_r1.models.decoding import begin_redraw
from sync_r1.models.showo import backbone, image, text
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit
from sync_r1.models.showo.prompting import END_OF_TEXT, prepare_tokenizer
from sync_r1.models.tokenizer_files import load_tokenizer
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill
from sync_r1.types import ImageTrace, Sampling, TextCompletions, TextContext


class Showo(UnifiedModel):
    """The unified model. `magvit` may be None to train on codes alone; pictures then raise ValueError."""

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

    @classmethod
    def from_config(
        cls, config: ShowoConfig, tokenizer: PreTrainedTokenizerFast, magvit: Magvit | None = None
    ) -> Showo:
        """A fresh model. The tokenizer gets the pool names and task tokens it lacks, and decides text_vocab, bos_id and
        eos_id.
        """
        text_vocab = prepare_tokenizer(tokenizer, config.name_pool)
        end = tokenizer.get_vocab()[END_OF_TEXT]
        return cls(replace(config, text_vocab=text_vocab, bos_id=end, eos_id=end), tokenizer, magvit)

    @property
    def codebook_size(self) -> int:  # type: ignore[override]
        return self.config.codebook_size

    @property
    def num_image_tokens(self) -> int:  # type: ignore[override]
        return self.config.num_image_tokens

    @property
    def image_size(self) -> int:  # type: ignore[override]
        return self.config.image_size

    @property
    def concepts(self) -> list[ConceptTokens]:
        return [ConceptTokens(**concept) for concept in self.config.concepts]

    @property
    def name_pool(self) -> list[str]:
        return self.config.name_pool

    # forward

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

    # contract

    @torch.no_grad()
    def encode_image(self, images: Images) -> Tensor:
        magvit = self._magvit()
        pixels = to_pixels(images, self.image_size).to(
            next(magvit.parameters())
        )  # the image tokenizer keeps its own dtype
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

    def redraw_image(
        self,
        prompts: Sequence[str],
        codes: Tensor,
        region: Tensor,
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        stop_at: int | None = None,
    ) -> ImageTrace:
        state = begin_redraw(
            prompts,
            codes,
            region,
            sampling,
            seeds,
            num_image_tokens=self.num_image_tokens,
            codebook_size=self.codebook_size,
            device=self.device,
        )
        return self.generate_image(prompts, sampling, state=state, stop_at=stop_at)

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

    def blank_codes(self) -> Tensor:
        """Codes [N] of a black picture, which Show-o looks at when there is only text."""
        if self._blank is None:
            self._blank = self.encode_image(torch.zeros(1, 3, self.image_size, self.image_size))[0].cpu()
        return self._blank

    # vocabulary

    def read_rows(self, ids: Sequence[int]) -> Rows:
        index = torch.as_tensor(ids, device=self.device)
        embed, head = self.showo.model.embed_tokens, self.showo.lm_head
        return Rows(*(p.detach()[index].clone() for p in (embed.weight, head.weight, head.bias)))

    @torch.no_grad()
    def write_rows(self, ids: Sequence[int], rows: Rows) -> None:
        index = torch.as_tensor(ids, device=self.device)
        embed, head = self.showo.model.embed_tokens, self.showo.lm_head
        for parameter, values in (
            (embed.weight, rows.embed),
            (head.weight, rows.head_weight),
            (head.bias, rows.head_bias),
        ):
            parameter[index] = values.to(parameter)

    def code_embeddings(self, codes: Tensor) -> Tensor:
        return self.showo.model.embed_tokens.weight.detach()[codes.to(self.device) + self.config.image_offset].float()

    @torch.no_grad()
    def insert_concept(self, concept: ConceptTokens, rows: Rows) -> None:
        """Rows of the codes and the mask move up by the number of new tokens (embedding, head weight and head bias
        alike).
        """
        at, embed, head = self.config.image_offset, self.showo.model.embed_tokens, self.showo.lm_head

        def widened(old: nn.Parameter, new: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.cat([old[:at], new.to(old), old[at:]]), requires_grad=old.requires_grad)

        embed.weight, head.weight = widened(embed.weight, rows.embed), widened(head.weight, rows.head_weight)
        head.bias = widened(head.bias, rows.head_bias)
        self.tokenizer.add_tokens(concept.all_tokens)
        self.config = replace(self.config, concepts=[*self.config.concepts, asdict(concept)])
        embed.num_embeddings = head.out_features = self.config.vocab_size
        self.showo.vocab_size = self.showo.model.vocab_size = self.showo.config.vocab_size = self.config.vocab_size

    def suppress(self, ids: Sequence[int]) -> None:
        self.config = replace(self.config, suppress_tokens=sorted({*self.config.suppress_tokens, *ids}))

    # training switches

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

    def get_input_embeddings(self) -> nn.Module:
        return self.showo.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.showo.lm_head

    # storage

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        self.tokenizer.save_pretrained(folder)
        weights = {
            f"showo.{name}": value.detach().cpu().contiguous() for name, value in self.showo.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if self.magvit is not None:
            self.magvit.save_pretrained(folder / "magvit")
        (folder / "config.json").write_text(self.config.to_json_string())

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Showo:
        """Read a folder of `save_pretrained`. Raises ValueError if a file is missing or the sizes disagree."""
        folder = Path(folder)
        config = ShowoConfig.from_file(folder / "config.json")
        for name in ("model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ValueError(
                    f"{folder / name} is missing; a Show-o folder has config.json, model.safetensors and tokenizer.json"
                )
        tokenizer = load_tokenizer(folder)
        if len(tokenizer) != config.image_offset:
            raise ValueError(
                f"{folder}: the tokenizer has {len(tokenizer)} tokens, config.json says {config.image_offset}"
            )
        magvit = Magvit.from_pretrained(folder / "magvit") if (folder / "magvit").is_dir() else None
        return cls.from_files(
            config, tokenizer, magvit, WeightFiles(folder / "model.safetensors"), device=device, dtype=dtype
        )

    @classmethod
    def from_files(
        cls,
        config: ShowoConfig,
        tokenizer: PreTrainedTokenizerFast,
        magvit: Magvit | None,
        files: WeightFiles,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Showo:
        """A model whose backbone is read from files of `showo.*` tensors, piece by piece: memory holds it once, in
        `dtype`.

        The image tokenizer keeps its own dtype. Raises ValueError naming a tensor that does not fit.
        """
        shapes = {name: shape for name, shape in files.shapes.items() if not name.endswith("rotary_emb.inv_freq")}
        if config.num_hidden_layers > len(shapes):  # before as many are built
            raise ValueError(
                f"{files.source} holds {len(shapes)} tensors, too few for num_hidden_layers = {config.num_hidden_layers}"
            )
        try:
            with blank(dtype, "meta"):
                planned = cls(config, tokenizer, magvit)
        except (TypeError, RuntimeError, ArithmeticError, KeyError) as error:
            raise ValueError(
                f"{files.source}: no model can be built from its config.json: {str(error)[:200]}"
            ) from error
        expected = {f"showo.{name}": tuple(value.shape) for name, value in planned.showo.state_dict().items()}
        _check_vocabulary(shapes, config, files.source)
        check_shapes(expected, shapes, files.source, "a Show-o of these sizes")
        with blank(dtype, device):
            model = cls(config, tokenizer, magvit)
        fill(model.showo, ((name.removeprefix("showo."), value) for name, value in files.stream(shapes)), files.source)
        return model.to(device).eval()

    def load_weights(self, weights: dict[str, Tensor], source: str = "checkpoint") -> None:
        """Load `showo.*` tensors. Raises ValueError on another vocabulary size, missing or unknown names."""
        _check_vocabulary({name: tuple(value.shape) for name, value in weights.items()}, self.config, source)
        if foreign := [name for name in weights if not name.startswith("showo.")]:
            raise ValueError(
                f"{source} holds {len(foreign)} tensors that are not Show-o's, such as {foreign[0]}; names begin with showo."
            )
        state = {name.removeprefix("showo."): value for name, value in weights.items()}
        try:
            self.showo.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{source} does not fit the config: {error}") from error

    def _magvit(self) -> Magvit:
        if self.magvit is None:
            raise ValueError(
                "this model was built without an image tokenizer; pass magvit=, or put it in <folder>/magvit/"
            )
        return self.magvit


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(1, len(targets))


def _check_vocabulary(shapes: Mapping[str, Sequence[int]], config: ShowoConfig, source: str | Path) -> None:
    embed = shapes.get("showo.model.embed_tokens.weight")
    if embed is not None and embed[0] != config.vocab_size:
        raise ValueError(
            f"{source} has a vocabulary of {embed[0]} rows, the config says {config.vocab_size}; "
            "a checkpoint and its config must have the same concept tokens"
        )


def _check_magvit(config: ShowoConfig, magvit: Magvit) -> None:
    sizes = {
        "codebook_size": (config.codebook_size, magvit.config.codebook_size),
        "image_size": (config.image_size, magvit.config.resolution),
        "num_image_tokens": (config.num_image_tokens, magvit.config.num_tokens),
    }
    for name, (ours, theirs) in sizes.items():
        if ours != theirs:
            raise ValueError(f"{name} is {ours} in the config but {theirs} in the image tokenizer; make them equal")
