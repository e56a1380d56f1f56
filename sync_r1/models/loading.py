"""Any model from a path: our own folders, Show-o as published, Janus of transformers."""

from __future__ import annotations

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
    if config["model_type"] == "janus":
        from sync_r1.models.janus.model import Janus

        return Janus.from_pretrained(folder, device=device, dtype=dtype)
    return Showo.from_pretrained(folder, device=device, dtype=dtype)


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
    if not is_published(config) and config.get("model_type") not in ("showo", "janus"):
        if config.get("model_type"):
            what = f"model_type {config.get('model_type')!r}"
        else:
            what = f"fields {', '.join(list(config)[:6])}"
        raise ValueError(f"{path} has {what}; 'showo' and 'janus' can be loaded; {PUBLISHED}")
    return config


def describe(path: str | Path) -> dict[str, Any]:
    """What a model folder holds, from its config and the headers of its weight files; no weights are read.

    Keys: family, layout ("ours", "published" or "transformers"), sizes, concepts, parameters (by part), memory_gb (by
        dtype of the backbone; weights only).
    """
    folder = fetch(path)
    config = read_config(folder)
    files = WeightFiles(folder)
    count = {name: torch.Size(shape).numel() for name, shape in files.shapes.items()}
    facts: dict[str, Any] = {"family": "", "layout": "", "sizes": {}, "concepts": []}
    parameters = {"backbone": sum(count.values())}
    if is_published(config):
        shapes = convert_showo(files.shapes)
        published = published_config(folder)
        plain = published["llm_vocab_size"] + 1 + len(SPECIALS) + published.get("codebook_size", 8192) + 1
        sizes = {
            **showo_sizes(shapes),
            "vocab_size": shapes[EMBED][0],
            "num_image_tokens": published.get("num_vq_tokens", 256),
        }
        facts |= {"family": "showo", "layout": "published", "sizes": sizes, "concept_rows": sizes["vocab_size"] - plain}
    elif config["model_type"] == "showo":
        ours = ShowoConfig.from_file(folder / "config.json")
        names = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "codebook_size",
            "num_image_tokens",
            "image_size",
        )
        facts |= {"family": "showo", "layout": "ours", "sizes": {name: getattr(ours, name) for name in names}}
        facts["concepts"] = [_named(concept) for concept in ours.concepts]
        if (folder / "magvit").is_dir():
            shapes = WeightFiles(folder / "magvit").shapes
            parameters["image_tokenizer"] = sum(torch.Size(shape).numel() for shape in shapes.values())
    else:
        facts |= _describe_janus(folder)
        parameters["image_tokenizer"] = sum(number for name, number in count.items() if ".vqmodel." in name)
        parameters["backbone"] -= parameters["image_tokenizer"]
    fixed = 4 * parameters.get("image_tokenizer", 0)
    memory = {name: round((parameters["backbone"] * dtype.itemsize + fixed) / 1e9, 3) for name, dtype in DTYPES.items()}
    return {**facts, "parameters": parameters, "memory_gb": memory}


def _describe_janus(folder: Path) -> dict[str, Any]:
    from sync_r1.models.janus.config import read_folder

    config, extras = read_folder(folder)
    text, vision, codes = (cast(Any, part) for part in (config.text_config, config.vision_config, config.vq_config))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    sizes = {name: getattr(text, name) for name in names} | {"codebook_size": codes.num_embeddings}
    sizes |= {name: getattr(vision, name) for name in ("num_image_tokens", "image_size")}
    return {
        "family": "janus",
        "layout": "transformers",
        "sizes": sizes,
        "concepts": [_named(concept) for concept in extras.concepts],
    }


def _named(concept: dict[str, Any]) -> dict[str, Any]:
    return {"name": concept["name"], "class_noun": concept["class_noun"], "tokens": len(concept["tokens"])}
