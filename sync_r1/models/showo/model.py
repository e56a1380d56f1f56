"""Show-o: one Phi backbone that writes text causally and draws images by unmasking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sync_r1.models.base import (
    ConceptTokens,
    Rows,
)
from sync_r1.models.config_files import load_tokenizer
from sync_r1.models.decoding import begin_redraw
from sync_r1.models.showo import image, text
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit
from sync_r1.models.showo.network import ShowoNetwork
from sync_r1.models.showo.prompting import END_OF_TEXT, prepare_tokenizer, split_drawing_prompt
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill
from sync_r1.types import ImageTrace, OnStep, OnToken, Sampling, TextCompletions, TextContext


class Showo(ShowoNetwork):
    """The unified model. `magvit` may be None to train on codes alone; pictures then raise ValueError."""

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
    def concepts(self) -> list[ConceptTokens]:
        return [ConceptTokens(**concept) for concept in self.config.concepts]

    @property
    def name_pool(self) -> list[str]:
        return self.config.name_pool

    # contract

    def lost_words(self, prompt: str) -> str:
        return split_drawing_prompt(self.tokenizer, self.config, prompt)[1]

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
        (folder / "config.json").write_text(self.config.to_json_string(), encoding="utf-8")

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
        magvit = None
        if (folder / "magvit").is_dir():
            magvit = Magvit.from_pretrained(folder / "magvit")
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
                f"{files.source} holds {len(shapes)} tensors, too few for num_hidden_layers = "
                f"{config.num_hidden_layers}"
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
                f"{source} holds {len(foreign)} tensors that are not Show-o's, such as {foreign[0]}; names begin with "
                "showo."
            )
        state = {name.removeprefix("showo."): value for name, value in weights.items()}
        try:
            self.showo.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{source} does not fit the config: {error}") from error


def _check_vocabulary(shapes: Mapping[str, Sequence[int]], config: ShowoConfig, source: str | Path) -> None:
    embed = shapes.get("showo.model.embed_tokens.weight")
    if embed is not None and embed[0] != config.vocab_size:
        raise ValueError(
            f"{source} has a vocabulary of {embed[0]} rows, the config says {config.vocab_size}; "
            "a checkpoint and its config must have the same concept tokens"
        )
