"""Writes folders in the published layouts, from the parity kit or at small sizes with the full vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.model import Showo
from tests.helpers import tiny_tokenizer

EMBED = "showo.model.embed_tokens.weight"
KIT = Path(__file__).parents[1] / "data" / "parity"
SHOWO_FIELDS = {
    "_class_name": "Showo",
    "_diffusers_version": "0.30.1",
    "llm_model_path": "microsoft/phi-1_5",
    "w_clip_vit": False,
}


@dataclass
class Published:
    """The three repositories of a Show-o."""

    showo: Path
    image_tokenizer: Path
    text_tokenizer: Path

    @property
    def tokenizers(self) -> dict[str, Path]:
        return {"image_tokenizer": self.image_tokenizer, "text_tokenizer": self.text_tokenizer}


def write_showo(folder: Path, weights: dict[str, Tensor], text_vocab: int, codes: int, image_tokens: int) -> Path:
    folder.mkdir(parents=True)
    vocab = len(weights[EMBED])
    sizes = {
        "codebook_size": codes,
        "llm_vocab_size": text_vocab,
        "num_vq_tokens": image_tokens,
        "vocab_size": vocab,
        "mask_token_id": vocab - 1,
    }
    (folder / "config.json").write_text(json.dumps({**SHOWO_FIELDS, **sizes}))
    save_file(weights, folder / "pytorch_model.safetensors")
    return folder


def write_magvit(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"_class_name": "MAGVITv2", "_diffusers_version": "0.30.1"}')
    save_file(load_file(KIT / "magvit_tiny.safetensors"), folder / "pytorch_model.safetensors")
    return folder


def write_words(folder: Path, count: int, end: int) -> Path:
    """A byte-level tokenizer of `count` tokens, "<|endoftext|>" at id `end`, runs of spaces behind it as in phi-1.5."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = [*sorted(alphabet), *(f"word{i}" for i in range(count))][:end]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate([*names, "<|endoftext|>"])}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.add_tokens([" " * (count - end - i) for i in range(count - end - 1)])
    tokenizer.save_pretrained(folder)
    return folder


def write_kit(root: Path) -> Published:
    """The parity kit's weights as three published folders.

    The kit's Show-o has 32 codes and its MAGVIT-v2 8192; rows of codes that are never drawn nor shown make them one
    model.
    """
    sizes = json.loads((KIT / "golden.json").read_text())
    weights = load_file(KIT / "showo_tiny.safetensors")
    for name, idle in {EMBED: 0.0, "showo.lm_head.weight": 0.0, "showo.lm_head.bias": -1e4}.items():
        rows = weights[name]
        weights[name] = torch.cat([rows[:-1], torch.full((8192 - sizes["codes"], *rows.shape[1:]), idle), rows[-1:]])
    showo = write_showo(root / "show-o", weights, sizes["text_vocab"], 8192, sizes["num_vq_tokens"])
    return Published(
        showo, write_magvit(root / "magvitv2"), write_words(root / "phi-1_5", sizes["text_vocab"], sizes["eos"])
    )


def write_full_vocabulary(root: Path, image_tokens: int = 64) -> Published:
    """Random weights of hidden size 8 over Show-o's 58498 ids; the tokenizer is phi-1.5's in size and added tokens."""
    config = ShowoConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_image_tokens=image_tokens
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {name: value.clone() for name, value in Showo(config, tiny_tokenizer()).state_dict().items()}
    showo = write_showo(root / "show-o", weights, 50295, 8192, image_tokens)
    return Published(showo, write_magvit(root / "magvitv2"), write_words(root / "phi-1_5", 50295, 50256))
