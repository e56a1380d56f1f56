"""What a Janus folder says besides the network's sizes: how pictures and chats are prepared, and the concepts that
were added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from transformers import JanusConfig

from sync_r1.files import read_text
from sync_r1.models.config_files import read_object

SECTION = "sync_r1"  # our part of config.json, which transformers keeps but does not read
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
COMPANIONS = ("generation_config.json", PREPROCESSOR, PROCESSOR, "chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, kw_only=True)
class JanusExtras:
    """What a Janus folder holds for Sync-R1, and the published files that are kept with it unchanged."""

    concepts: list[dict[str, Any]] = field(default_factory=list)  # added ones: fields of ConceptTokens
    suppress_tokens: list[int] = field(default_factory=list)  # never written as text
    companions: Mapping[str, str] = field(default_factory=dict)  # name of one of COMPANIONS → its text

    @property
    def section(self) -> dict[str, Any]:
        return {"concepts": self.concepts, "suppress_tokens": self.suppress_tokens}

    @property
    def image_mean(self) -> list[float]:
        return self._pictures.get("image_mean") or [0.5, 0.5, 0.5]

    @property
    def image_std(self) -> list[float]:
        return self._pictures.get("image_std") or [0.5, 0.5, 0.5]

    @property
    def system_prompt(self) -> str:
        """What every understanding chat starts with: transformers' default where the published processor asks for
        it."""
        if not self._json(PROCESSOR).get("use_default_system_prompt", False):
            return ""
        from transformers.models.janus.processing_janus import DEFAULT_SYSTEM_PROMPT

        return DEFAULT_SYSTEM_PROMPT

    @property
    def _pictures(self) -> dict[str, Any]:
        return self._json(PREPROCESSOR) or self._json(PROCESSOR).get("image_processor", {})

    def _json(self, name: str) -> dict[str, Any]:
        return json.loads(self.companions.get(name, "{}"))


def read_folder(folder: Path) -> tuple[JanusConfig, JanusExtras]:
    """Sizes and extras of a folder. Raises ValueError if config.json is missing or belongs to another family."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; a Janus folder has config.json, tokenizer.json and weights (model.safetensors)"
        )
    kind = read_object(path).get("model_type")
    if kind != JanusConfig.model_type:
        raise ValueError(f"{path} has model_type {kind!r}; this class reads {JanusConfig.model_type!r}")
    try:
        config = JanusConfig.from_pretrained(folder)
    except Exception as error:  # transformers and huggingface_hub check with errors of their own
        raise ValueError(f"{path} is no Janus configuration: {str(error)[:200]}; download it again") from error
    companions = {name: read_text(folder / name) for name in COMPANIONS if (folder / name).is_file()}
    section = getattr(config, SECTION, {})
    known = JanusExtras().section
    if not isinstance(section, dict) or (unknown := sorted(section.keys() - known)):
        if isinstance(section, dict):
            seen = f"unknown fields {', '.join(unknown)}"
        else:
            seen = f"the value {section!r}"
        raise ValueError(
            f"{path}: section {SECTION!r} has {seen}; allowed are {', '.join(known)}. Save the folder again"
        )
    return config, JanusExtras(**section, companions=companions)


def check_sizes(config: JanusConfig, vocabulary: int) -> None:
    """Raises ValueError for sizes that cannot work together. `vocabulary`: ids the tokenizer needs."""
    vision, vq, text = (cast(Any, part) for part in (config.vision_config, config.vq_config, config.text_config))
    scale, cells = 2 ** (len(vq.channel_multiplier) - 1), (vision.image_size // vision.patch_size) ** 2
    if vision.image_size % vision.patch_size or scale != vision.patch_size:
        raise ValueError(
            f"patch_size is {vision.patch_size} on {vision.image_size} px, but the image tokenizer shrinks {scale} "
            "times; both must divide a picture into the same cells"
        )
    if vision.num_image_tokens != cells:
        raise ValueError(f"num_image_tokens is {vision.num_image_tokens}; {cells} patches need as many")
    widths = {
        "vision_config.projection_dim": vision.projection_dim,
        "vq_config.projection_dim": vq.projection_dim,
        "vq_config.image_token_embed_dim": vq.image_token_embed_dim,
    }
    for name, width in widths.items():
        if width != text.hidden_size:
            raise ValueError(f"{name} is {width}; it must be the language model's hidden_size, {text.hidden_size}")
    if vocabulary > text.vocab_size:
        raise ValueError(
            f"the tokenizer needs {vocabulary} ids, the model has {text.vocab_size} rows; they do not belong together"
        )
