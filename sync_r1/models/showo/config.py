"""Sizes and token ids of a Show-o model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PhiConfig

from sync_r1.models.config_files import check_kinds, read_object

SPECIALS = ("soi", "eoi", "sov", "eov", "t2i", "mmu", "t2v", "v2v", "lvg")


@dataclass(kw_only=True)
class ShowoConfig:
    """Defaults are the published 1.45 B model at 512 px.

    Vocabulary: text, [PAD], nine task tokens, concept tokens, image codes, mask. Everything after the text is derived,
        so the layout cannot disagree with itself. Raises ValueError for sizes that cannot work.
    """

    text_vocab: int = 50295  # rows of ordinary text
    bos_id: int = 50256  # before a drawing prompt, and before the text of an understanding prompt
    eos_id: int = 50256  # ends every text
    concepts: list[dict[str, Any]] = field(default_factory=list)  # added ones: name, class_noun, tokens, pool_name
    codebook_size: int = 8192  # image codes
    num_image_tokens: int = 1024  # N, codes per image
    image_size: int = 512  # pixels per side
    max_text_tokens: int = 129  # of a drawing prompt, its task, begin and end tokens included; the rest is cut
    text_only_image: bool = True  # show a black image to text-only contexts, as Show-o does; False shows none
    suppress_tokens: list[int] = field(default_factory=list)  # never written as text
    # placeholder names that the model knows from pretraining, such as "<kip>"
    name_pool: list[str] = field(default_factory=list)
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    layer_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 0.5  # share of each head that is rotated
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02

    model_type = "showo"

    def __post_init__(self) -> None:
        for name in (
            "text_vocab",
            "codebook_size",
            "num_image_tokens",
            "image_size",
            "hidden_size",
            "num_attention_heads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; make it a multiple of the {self.num_attention_heads} heads"
            )
        if self.max_text_tokens < 4:
            raise ValueError(
                f"max_text_tokens is {self.max_text_tokens}; task, begin and end tokens take 3, so it must be at least "
                "4"
            )
        if not 0 <= self.bos_id < self.text_vocab or not 0 <= self.eos_id < self.text_vocab:
            raise ValueError(
                f"bos_id {self.bos_id} and eos_id {self.eos_id} must lie in the text vocabulary [0, {self.text_vocab})"
            )

    @property
    def pad_id(self) -> int:
        return self.text_vocab

    def special(self, name: str) -> int:
        """Id of one of SPECIALS."""
        return self.text_vocab + 1 + SPECIALS.index(name)

    @property
    def first_concept(self) -> int:
        return self.text_vocab + 1 + len(SPECIALS)

    @property
    def num_concept_tokens(self) -> int:
        """K: one placeholder and its soft tokens per concept."""
        return sum(1 + len(concept["tokens"]) for concept in self.concepts)

    @property
    def image_offset(self) -> int:
        """Id of code 0, and number of ids the tokenizer knows."""
        return self.first_concept + self.num_concept_tokens

    @property
    def mask_id(self) -> int:
        return self.image_offset + self.codebook_size

    @property
    def vocab_size(self) -> int:
        return self.mask_id + 1

    @property
    def text_rows(self) -> slice:
        """Rows of the head that text is read from: text and concept tokens, with the suppressed ids between them."""
        return slice(0, self.image_offset)

    @property
    def image_rows(self) -> slice:
        """Rows of the head that codes are read from; the mask is not among them."""
        return slice(self.image_offset, self.mask_id)

    @property
    def suppressed_ids(self) -> list[int]:
        """Ids among `text_rows` that are never written: padding, task tokens and `suppress_tokens`."""
        return [*range(self.pad_id, self.first_concept), *self.suppress_tokens]

    def phi(self) -> PhiConfig:
        """The backbone's own config: query and key norms on, embedding and head untied."""
        config = PhiConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            layer_norm_eps=self.layer_norm_eps,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": self.rope_theta,
                "partial_rotary_factor": self.partial_rotary_factor,
            },
            max_position_embeddings=self.max_position_embeddings,
            initializer_range=self.initializer_range,
            qk_layernorm=True,
            hidden_act="gelu_pytorch_tanh",  # the published gelu_new in one fused kernel
            tie_word_embeddings=False,
            bos_token_id=self.bos_id,
            eos_token_id=self.eos_id,
            use_cache=False,
        )
        config._attn_implementation = "sdpa"
        return config

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": self.model_type, **asdict(self)}

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> ShowoConfig:
        """Read config.json. Raises ValueError if it is missing, belongs to another family or has unknown fields."""
        if not path.exists():
            raise ValueError(
                f"{path} is missing; a Show-o folder has config.json, model.safetensors and tokenizer.json"
            )
        values = read_object(path)
        if (kind := values.pop("model_type", None)) != cls.model_type:
            raise ValueError(f"{path} has model_type {kind!r}; this class reads {cls.model_type!r}")
        check_kinds(path, values, cls())
        _check_lists(path, values)
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _check_lists(path: Path, values: dict[str, Any]) -> None:
    named = {"suppress_tokens": int, "name_pool": str, "concepts": dict}
    for name, kind in named.items():
        if odd := [value for value in values.get(name, []) if type(value) is not kind]:
            raise ValueError(f"{path}: {name} holds {odd[0]!r:.80}; it must be a list of {kind.__name__}")
    for concept in values.get("concepts", []):
        tokens, numbers = concept.get("tokens"), (concept.get("read", 0), concept.get("draw") or 0)
        texts = (
            concept.get("name"),
            concept.get("class_noun", ""),
            concept.get("pool_name") or "",
            *(tokens if isinstance(tokens, list) else [0]),
        )
        kinds = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
        if not kinds or concept.keys() - {"name", "tokens", "class_noun", "pool_name", "read", "draw"}:
            raise ValueError(f"{path}: concepts holds {concept!r:.80}; each needs a name and tokens, a list of texts")
