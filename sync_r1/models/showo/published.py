"""Loads the published Show-o: its weights, the MAGVIT-v2 image tokenizer and the phi-1.5 text tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.files import read_json
from sync_r1.models.base import ConceptTokens
from sync_r1.models.concept_files import token_roles
from sync_r1.models.config_files import load_tokenizer
from sync_r1.models.hub import fetch
from sync_r1.models.showo.config import SPECIALS, ShowoConfig
from sync_r1.models.showo.convert import (
    EMBED,
    check_bit_order,
    convert_magvit,
    convert_showo,
    count_numbers,
    magvit_config,
    magvit_name,
    showo_sizes,
)
from sync_r1.models.showo.magvit import Magvit
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import END_OF_TEXT, prepare_tokenizer
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill

IMAGE_TOKENIZER, TEXT_TOKENIZER = "showlab/magvitv2", "microsoft/phi-1_5"
PUBLISHED = (
    "a published Show-o folder (showlab/show-o, showlab/show-o-512x512) holds config.json with llm_vocab_size and "
    "num_vq_tokens, and pytorch_model.safetensors or .bin"
)
# sizes of a checkpoint without a configuration file, as UniCTokens publishes it
BARE_FILE = {"llm_vocab_size": 50295, "codebook_size": 8192, "num_vq_tokens": 1024}


def read_magvit(source: str | Path, num_image_tokens: int | None = None) -> Magvit:
    """The published image tokenizer, fp32, from a folder, file or hub id; for pictures of `num_image_tokens` tokens
    (default 256 px).

    Also takes what `Magvit.save_pretrained` wrote. ValueError names a tensor that does not fit.
    """
    folder = fetch(source)
    files = WeightFiles(folder)
    if "encoder.conv_in.weight" not in files.shapes or "decoder.post_quant_conv.weight" not in files.shapes:
        found = ", ".join(list(files.shapes)[:3])
        raise ValueError(
            f"{source} is no MAGVIT-v2 image tokenizer (its tensors: {found}, …); use showlab/magvitv2 or a copy of it"
        )
    if "encoder.levels.0.blocks.0.conv1.weight" in files.shapes:
        return Magvit.from_pretrained(folder)
    if "quantize.power_vals" in files.shapes:
        check_bit_order(files.read("quantize.power_vals"))
    shapes = convert_magvit(files.shapes)
    levels = count_numbers(shapes, r"encoder\.levels\.(\d+)\.")
    side = 2 ** (levels - 1) * (16 if num_image_tokens is None else math.isqrt(num_image_tokens))
    try:
        with blank():
            magvit = Magvit(magvit_config(shapes, side))
    except KeyError as error:
        raise ValueError(
            f"{source} lacks the tensor {error} of a MAGVIT-v2 image tokenizer; use showlab/magvitv2"
        ) from error
    check_shapes({name: value.shape for name, value in magvit.state_dict().items()}, shapes, source, "MAGVIT-v2")
    fill(magvit, _renamed(files))
    return magvit.eval()


def _renamed(files: WeightFiles) -> Iterator[tuple[str, Tensor]]:
    for name, value in files.stream():
        if (ours := magvit_name(name)) is not None:
            yield ours, value


def read_tokenizer(source: str | Path, text_vocab: int) -> PreTrainedTokenizerFast:
    """The published text tokenizer from a folder or hub id. ValueError unless it has `text_vocab` tokens, added ones
    included.

    A folder has tokenizer.json, or vocab.json and merges.txt with added_tokens.json beside them.
    """
    folder = fetch(source, weights=False)
    if (folder / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _from_vocabulary(folder)
    else:
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ValueError(
            f"{source} is no tokenizer: found {found}; expected tokenizer.json, or vocab.json and merges.txt"
        )
    if len(tokenizer) < text_vocab and (folder / "added_tokens.json").is_file():
        added = read_json(folder / "added_tokens.json")
        tokenizer.add_tokens(sorted(added, key=added.__getitem__))
    if len(tokenizer) != text_vocab:
        raise ValueError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens, the weights were trained with {text_vocab}; use "
            "microsoft/phi-1_5"
        )
    return tokenizer


def _from_vocabulary(folder: Path) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is Show-o's own."""
    return config.get("_class_name") == "Showo" or "llm_vocab_size" in config


def published_config(path: Path) -> dict[str, Any]:
    """config.json of a published folder; for a bare weight file without one, the 512 px model's values.

    ValueError if it is missing from a folder, or another model's.
    """
    if path.is_file():
        folder = path.parent
    else:
        folder = path
    if not (folder / "config.json").is_file():
        if path.is_file():
            return dict(BARE_FILE)
        found = ", ".join(sorted(item.name for item in path.iterdir())[:12]) or "nothing"
        raise ValueError(f"{path} has no config.json (found {found}); {PUBLISHED}")
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is no JSON ({error}); download it again") from error
    if not is_published(values):
        raise ValueError(
            f"{folder / 'config.json'} is not Show-o's (it has {', '.join(list(values)[:6])}); {PUBLISHED}"
        )
    return dict(values)


def import_showo(
    showo: str | Path,
    image_tokenizer: str | Path,
    text_tokenizer: str | Path,
    *,
    concept: ConceptTokens | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Showo:
    """Published Show-o and MAGVIT-v2 weights and the phi-1.5 tokenizer → one model. Each source is a folder, a file or
    a hub id.

    Args:
        showo: also a UniCTokens training checkpoint (`model_epoch<m>.pt`); then `concept` names its extra rows.
        concept: the concept that the weights hold rows for; its soft tokens are counted and named here if it lists
            none.
        device: where to. dtype: of the backbone; the image tokenizer stays fp32.
    Raises:
        ValueError: naming the file, tensor or field that does not fit.
    """
    path = fetch(showo)
    values = published_config(path)
    files = WeightFiles(path)
    seen = convert_showo(files.shapes)
    try:
        sizes = showo_sizes(seen)
    except KeyError as error:
        raise ValueError(f"{showo} lacks the tensor {error}; {PUBLISHED}") from error
    text_vocab, codes = int(values.get("llm_vocab_size", 50295)), int(values.get("codebook_size", 8192))
    extra = seen[EMBED][0] - (text_vocab + 1 + len(SPECIALS) + codes + 1)
    tokens = _extra_tokens(extra, concept, showo)
    image_tokens = int(values.get("num_vq_tokens", 256))
    magvit = read_magvit(image_tokenizer, image_tokens)
    words = read_tokenizer(text_tokenizer, text_vocab)
    prepare_tokenizer(words)
    end = words.get_vocab()[END_OF_TEXT]
    layout: dict[str, Any] = {"text_vocab": text_vocab, "bos_id": end, "eos_id": end, "codebook_size": codes, **sizes}
    config = ShowoConfig(**layout, num_image_tokens=image_tokens, image_size=magvit.config.resolution)
    if tokens is not None:
        words.add_tokens(tokens.all_tokens)
        added = range(config.first_concept + 1, config.first_concept + len(tokens.all_tokens))
        config = replace(config, concepts=[asdict(tokens)], suppress_tokens=list(added))
    return Showo.from_files(config, words, magvit, files, device=device, dtype=dtype)


def _extra_tokens(extra: int, concept: ConceptTokens | None, source: str | Path) -> ConceptTokens | None:
    """The concept that `extra` vocabulary rows belong to."""
    if extra == 0 and concept is None:
        return None
    if extra < 1:
        raise ValueError(
            f"{source} has {extra} vocabulary rows beyond text and codes; "
            f"{'leave out --concept' if extra == 0 else PUBLISHED}"
        )
    if concept is None:
        raise ValueError(
            f"{source} has {extra} rows of a concept; say whose: `sync-r1 models import … --concept NAME --class-noun "
            "NOUN`"
        )
    tokens = concept.tokens or [f"<token_{i}>" for i in range(extra - 1)]
    if 1 + len(tokens) != extra:
        raise ValueError(
            f"{source} has {extra} concept rows, {concept.name!r} has {1 + len(tokens)} tokens; they must agree"
        )
    read, draw = token_roles(len(tokens))
    return replace(concept, tokens=tokens, read=read, draw=draw)
