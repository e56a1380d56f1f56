"""Any model from a path: our own folders, Show-o as published, Janus of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from sync_r1.models.base import UnifiedModel
from sync_r1.models.config_files import read_object
from sync_r1.models.hub import fetch
from sync_r1.models.showo.config import SPECIALS, ShowoConfig
from sync_r1.models.showo.convert import EMBED, convert_showo, showo_sizes
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.published import (
    IMAGE_TOKENIZER,
    PUBLISHED,
    TEXT_TOKENIZER,
    import_showo,
    is_published,
    published_config,
)
from sync_r1.models.weight_files import SUFFIXES, WeightFiles

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(device: str = "auto") -> str:
    """ "auto" becomes "cuda" where there is one, else "cpu". ValueError for "cuda" without a GPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch sees no GPU; use cpu or auto")
    return device


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    image_tokenizer: str | Path = IMAGE_TOKENIZER,
    text_tokenizer: str | Path = TEXT_TOKENIZER,
) -> UnifiedModel:
    """Read a model, in eval mode.

    Args:
        path: a folder or hub id: one of ours (`save_pretrained`), Show-o as published, or Janus as transformers saves
            it.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: of the backbone; image tokenizers and log-probability maths stay fp32.
        image_tokenizer, text_tokenizer: folders or hub ids; read with Show-o's published layout only.
    Raises:
        ValueError: no such path, another family, or files that do not fit; the message names the file or tensor.
    """
    device = pick_device(device)
    folder = fetch(path)
    config = read_config(folder)
    if is_published(config) or folder.is_file():
        return import_showo(folder, image_tokenizer, text_tokenizer, device=device, dtype=dtype)
    return FAMILIES[config["model_type"]].load(folder, device, dtype)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model that can be loaded; of a bare weight file, the published defaults.

    ValueError for anything else.
    """
    path = folder / "config.json"
    if folder.is_file():
        if folder.suffix not in SUFFIXES:
            raise ValueError(f"{folder} is no model; give a folder, or a weight file ({', '.join(SUFFIXES)})")
        return published_config(folder)
    if not path.is_file():
        found = ", ".join(sorted(item.name for item in folder.iterdir())[:12]) or "nothing"
        raise ValueError(
            (
                f"{path} is missing (found {found}); a model is a folder with config.json, model.safetensors and "
                "tokenizer.json, or 'world'; "
            )
            + PUBLISHED
        )
    config = read_object(path)
    if not is_published(config) and config.get("model_type") not in FAMILIES:
        if config.get("model_type"):
            what = f"model_type {config.get('model_type')!r}"
        else:
            what = f"fields {', '.join(list(config)[:6])}"
        known = " and ".join(map(repr, FAMILIES))
        raise ValueError(f"{path} has {what}; {known} can be loaded; {PUBLISHED}")
    return config


def describe(path: str | Path) -> dict[str, Any]:
    """What a model folder holds, from its config and the headers of its weight files; no weights are read.

    Keys: family, layout ("ours", "published" or "transformers"), sizes, concepts, parameters (by part), memory_gb (by
        dtype of the backbone; weights only).
    """
    folder = fetch(path)
    config = read_config(folder)
    files = WeightFiles(folder)
    if is_published(config):
        facts = _describe_published(folder, files)
    else:
        facts = FAMILIES[config["model_type"]].describe(folder, files)
    parameters = facts["parameters"]
    fixed = 4 * parameters.get("image_tokenizer", 0)
    memory = {name: round((parameters["backbone"] * dtype.itemsize + fixed) / 1e9, 3) for name, dtype in DTYPES.items()}
    return {**facts, "memory_gb": memory}


def _describe_published(folder: Path, files: WeightFiles) -> dict[str, Any]:
    shapes = convert_showo(files.shapes)
    published = published_config(folder)
    plain = published["llm_vocab_size"] + 1 + len(SPECIALS) + published.get("codebook_size", 8192) + 1
    sizes = {
        **showo_sizes(shapes),
        "vocab_size": shapes[EMBED][0],
        "num_image_tokens": published.get("num_vq_tokens", 256),
    }
    return {
        "family": "showo",
        "layout": "published",
        "sizes": sizes,
        "concepts": [],
        "concept_rows": sizes["vocab_size"] - plain,
        "parameters": {"backbone": _count(files.shapes)},
    }


def _load_showo(folder: Path, device: str, dtype: torch.dtype) -> UnifiedModel:
    return Showo.from_pretrained(folder, device=device, dtype=dtype)


def _describe_showo(folder: Path, files: WeightFiles) -> dict[str, Any]:
    config = ShowoConfig.from_file(folder / "config.json")
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "codebook_size",
        "num_image_tokens",
        "image_size",
    )
    parameters = {"backbone": _count(files.shapes)}
    if (folder / "magvit").is_dir():
        parameters["image_tokenizer"] = _count(WeightFiles(folder / "magvit").shapes)
    return {
        "family": "showo",
        "layout": "ours",
        "sizes": {name: getattr(config, name) for name in names},
        "concepts": [_named(concept) for concept in config.concepts],
        "parameters": parameters,
    }


def _load_janus(folder: Path, device: str, dtype: torch.dtype) -> UnifiedModel:
    from sync_r1.models.janus.model import Janus

    return Janus.from_pretrained(folder, device=device, dtype=dtype)


def _describe_janus(folder: Path, files: WeightFiles) -> dict[str, Any]:
    from sync_r1.models.janus.config import read_folder

    config, extras = read_folder(folder)
    text, vision, codes = (cast(Any, part) for part in (config.text_config, config.vision_config, config.vq_config))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    sizes = {name: getattr(text, name) for name in names} | {"codebook_size": codes.num_embeddings}
    sizes |= {name: getattr(vision, name) for name in ("num_image_tokens", "image_size")}
    tokenizer = _count({name: shape for name, shape in files.shapes.items() if ".vqmodel." in name})
    return {
        "family": "janus",
        "layout": "transformers",
        "sizes": sizes,
        "concepts": [_named(concept) for concept in extras.concepts],
        "parameters": {"backbone": _count(files.shapes) - tokenizer, "image_tokenizer": tokenizer},
    }


def _count(shapes: Mapping[str, Any]) -> int:
    """The numbers in tensors of these shapes."""
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def _named(concept: dict[str, Any]) -> dict[str, Any]:
    return {"name": concept["name"], "class_noun": concept["class_noun"], "tokens": len(concept["tokens"])}


@dataclass(frozen=True)
class Family:
    """How the folders of one family are read, as `save_pretrained` writes them."""

    load: Callable[[Path, str, torch.dtype], UnifiedModel]  # folder, device and dtype of the backbone → the model
    describe: Callable[[Path, WeightFiles], dict[str, Any]]  # `describe` without memory_gb


# model_type of config.json → its family. costs/model_sizes.py has the same names.
FAMILIES: dict[str, Family] = {
    "showo": Family(_load_showo, _describe_showo),
    "janus": Family(_load_janus, _describe_janus),
}
