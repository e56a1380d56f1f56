"""The sizes of a model that an estimate needs, from its config.json alone: the network is built without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import JanusConfig, JanusForConditionalGeneration, PhiForCausalLM

from sync_r1.config import ModelConfig
from sync_r1.constants import WORLD
from sync_r1.files import read_json
from sync_r1.models.base import pictures_at_once
from sync_r1.models.hub import fetch
from sync_r1.models.loading import read_config
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.convert import convert_showo, showo_sizes
from sync_r1.models.showo.magvit import Magvit, MagvitConfig
from sync_r1.models.showo.published import is_published
from sync_r1.models.weight_files import SUFFIXES, WeightFiles, blank
from sync_r1.training.lora import adapted_layers

KNOWN = {"showlab/show-o": 256, "showlab/show-o-512x512": 1024}  # hub ids → image tokens, so that no network is needed
PICTURE_SIDE = {256: 256, 1024: 512}


@dataclass(frozen=True)
class ModelSizes:
    """Counts of numbers (parameters or activations), not bytes."""

    family: str
    body: int  # parameters that train without adapters: all but vocabulary and frozen parts
    in_layers: int  # those of them in transformer layers
    vocabulary: int  # of embedding and head
    largest_matrix: int  # the larger of the two
    row: int  # per vocabulary row
    frozen: int  # image tokenizer and vision tower
    linear: int  # weights that every token is multiplied with
    adaptable: dict[str, int]  # linear layer → inputs + outputs
    hidden: int
    intermediate: int
    layers: int
    key_width: int  # of one layer's keys; values are as wide
    text_rows: int
    codebook: int
    image_tokens: int
    text_slot: int  # tokens of a drawing prompt at most
    picture_flops: int  # to decode one picture
    picture_map: int  # its largest feature map
    pictures_at_once: int = 16  # decoded in one pass at most
    gated: bool = False  # two matrices lead into the feed-forward layer instead of one
    named: bool = False  # a concept's name is one the model knows from pretraining, and does not train
    blank_picture: bool = False  # contexts without a photo show a blank one
    autoregressive: bool = False  # draws token by token instead of step by step


def read_sizes(model: ModelConfig) -> ModelSizes:
    """Sizes of `model.path`: the embedded world, a folder of ours, Show-o as published (256 or 512 px), or Janus.

    Raises:
        ValueError: neither a model folder nor a hub id, or of another family.
    """
    if model.path in KNOWN and not Path(model.path).exists():
        return _published({"num_vq_tokens": KNOWN[model.path]}, {})
    if model.path == WORLD:
        folder = _world()
    else:
        folder = fetch(model.path, weights=False)
    config = read_config(folder)
    if is_published(config):
        shapes = {}
        if folder.is_file() or any(path.suffix in SUFFIXES for path in folder.iterdir()):
            shapes = showo_sizes(convert_showo(WeightFiles(folder).shapes))  # from the headers of the weight files
        return _published(config, shapes)
    return SIZES[config["model_type"]](folder)


def _world() -> Path:
    from sync_r1.world.assets import ASSETS

    return ASSETS / "model"


def _published(values: dict[str, Any], sizes: dict[str, Any]) -> ModelSizes:
    tokens = int(values.get("num_vq_tokens", 256))
    side = PICTURE_SIDE.get(tokens, 16 * round(tokens**0.5))
    layout = {"text_vocab": values.get("llm_vocab_size", 50295), "codebook_size": values.get("codebook_size", 8192)}
    config = ShowoConfig(**layout, **sizes, bos_id=0, eos_id=0, num_image_tokens=tokens, image_size=side)
    return showo_sizes_of(config, MagvitConfig(resolution=side))


def _showo_folder(folder: Path) -> ModelSizes:
    tokenizer = folder / "magvit"
    magvit = None
    if tokenizer.is_dir():
        magvit = MagvitConfig.from_dict(read_json(tokenizer / "config.json"))
    return showo_sizes_of(ShowoConfig.from_file(folder / "config.json"), magvit)


def _janus_folder(folder: Path) -> ModelSizes:
    return janus_sizes(JanusConfig.from_pretrained(folder))


def showo_sizes_of(config: ShowoConfig, magvit: MagvitConfig | None) -> ModelSizes:
    """Of a Show-o; without `magvit`, of one that trains on codes alone."""
    with blank(device="meta"):
        network = PhiForCausalLM(config.phi())
        tokenizer = None
        if magvit is not None:
            tokenizer = Magvit(magvit)
    if tokenizer is None:
        flops, widest = (0, 0)
    else:
        flops, widest = _decoding(tokenizer, tokenizer.decoder, _latents(tokenizer))
    return ModelSizes(
        family="showo",
        **_count_parts(network),
        frozen=_count(tokenizer.parameters()) if tokenizer is not None else 0,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        key_width=config.hidden_size,
        text_rows=config.image_offset,
        codebook=config.codebook_size,
        image_tokens=config.num_image_tokens,
        text_slot=config.max_text_tokens,
        picture_flops=flops,
        picture_map=widest,
        pictures_at_once=pictures_at_once(config.image_size),
        named=bool(config.name_pool),
        blank_picture=config.text_only_image,
    )


def _latents(magvit: Magvit) -> Tensor:
    side = round(magvit.config.num_tokens**0.5)
    return torch.empty(1, magvit.config.z_channels, side, side, device="meta")


def janus_sizes(config: JanusConfig) -> ModelSizes:
    """Of a Janus. Its vision tower and image tokenizer never train."""
    with blank(device="meta"):
        network = JanusForConditionalGeneration(config)
    text: Any = config.text_config
    vision: Any = config.vision_config
    codebook: Any = config.vq_config
    frozen = [network.model.vqmodel, network.model.vision_model]
    codes = torch.zeros(1, vision.num_image_tokens, dtype=torch.long, device="meta")
    flops, widest = _decoding(network.model.vqmodel, network.model.vqmodel.decode, codes)
    for part in frozen:
        part.requires_grad_(False)
    return ModelSizes(
        family="janus",
        **_count_parts(network),
        frozen=_count(parameter for part in frozen for parameter in part.parameters()),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=text.num_hidden_layers,
        key_width=text.hidden_size // text.num_attention_heads * text.num_key_value_heads,
        text_rows=text.vocab_size,
        codebook=codebook.num_embeddings,
        image_tokens=vision.num_image_tokens,
        text_slot=text.max_position_embeddings - vision.num_image_tokens,
        picture_flops=flops,
        picture_map=widest,
        gated=True,
        autoregressive=True,
    )


def _count_parts(network: Any) -> dict[str, Any]:
    """Parameters of a network whose frozen parts need no gradient."""
    layers = (network.get_input_embeddings(), network.get_output_embeddings())
    matrices = {id(parameter): parameter for layer in layers for parameter in layer.parameters(recurse=False)}
    linear = {name: network.get_submodule(name) for name in adapted_layers(network, set(matrices))}
    return {
        "body": _count(p for p in network.parameters() if p.requires_grad and id(p) not in matrices),
        "in_layers": _count(p for name, p in network.named_parameters() if p.requires_grad and ".layers." in name),
        "vocabulary": _count(matrices.values()),
        "largest_matrix": max(matrix.numel() for matrix in matrices.values()),
        "row": sum(matrix[0].numel() for matrix in matrices.values()),
        "linear": sum(layer.weight.numel() for name, layer in linear.items() if ".layers." in name),
        "adaptable": {name: layer.in_features + layer.out_features for name, layer in linear.items()},
    }


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _decoding(tokenizer: nn.Module, decode: Callable[[Tensor], Tensor], given: Tensor) -> tuple[int, int]:
    """FLOPs to decode one picture, and the numbers in its largest feature map."""
    widest = 0

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal widest
        if isinstance(output, Tensor):
            widest = max(widest, output.numel())

    for module in tokenizer.modules():
        module.register_forward_hook(look)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decode(given)
    return counter.get_total_flops(), widest


# model_type of config.json → sizes of a folder, for every family of models/loading.py.
SIZES: dict[str, Callable[[Path], ModelSizes]] = {"showo": _showo_folder, "janus": _janus_folder}
