"""Tiny models built in process, shared by all tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit, MagvitConfig
from sync_r1.models.showo.model import Showo

NAME_POOL = ["<kip>", "<zed>", "<lum>"]
CORPUS = [
    "USER: name: bo\ninfo: bo is a small robot.\nwhat colour is the hat? ASSISTANT: red.",
    "a photo of a robot wearing a red hat in the snow, a blue dog with a green mug, yes, no",
    "facts: it has a yellow kite. rewrite: a robot with its lucky thing ASSISTANT: a robot with a yellow kite",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few hundred tokens; any text can be encoded."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def tiny_magvit() -> Magvit:
    """16×16 pixels, 4×4 tokens, 64 codes."""
    config = MagvitConfig(
        channels=8,
        channel_multipliers=(1, 2),
        num_res_blocks=(1, 1),
        decoder_multipliers=None,
        decoder_res_blocks=None,
        z_channels=6,
        norm_groups=4,
        resolution=16,
        unshuffle=2,
    )
    return Magvit(config).eval()


def tiny_config(**changes: object) -> ShowoConfig:
    sizes: dict[str, object] = {
        "text_vocab": 400,
        "bos_id": 0,
        "eos_id": 0,
        "codebook_size": 64,
        "num_image_tokens": 16,
        "image_size": 16,
        "max_text_tokens": 24,
        "text_only_image": False,
        "name_pool": list(NAME_POOL),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
    }
    return ShowoConfig(**{**sizes, **changes})  # type: ignore[arg-type]


def tiny_model(seed: int = 0, **changes: object) -> Showo:
    """A random model in eval mode: hidden 32, 2 layers, 16 image tokens, 64 codes, three pool names.

    `changes` go to the config.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Showo.from_config(tiny_config(**changes), tiny_tokenizer(), tiny_magvit()).eval()


def benchmark(name: str) -> ModuleType:
    """A script of benchmarks/, which import each other by their bare names."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
