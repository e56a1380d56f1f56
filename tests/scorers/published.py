"""Small random networks in the layouts in which the real ones are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, Dinov2Config, Dinov2Model

BODY: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [("d", "o"), ("do", "g</w>"), ("r", "e"), ("re", "d</w>")]


def as_bin(folder: Path) -> None:
    """The weights as the older pytorch_model.bin."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def save_published_clip(folder: Path) -> Path:
    """openai/clip-vit-base-patch32 in small: 77 tokens and 224 pixels, old-style end id, sizes as plain numbers, .bin
    weights."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in MERGES), START, END]
    text = CLIPTextConfig(**BODY, vocab_size=len(words), max_position_embeddings=77, bos_token_id=0, eos_token_id=2)
    vision = CLIPVisionConfig(**BODY, image_size=224, patch_size=32)
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)
    ).save_pretrained(folder)
    as_bin(folder)
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in MERGES)]) + "\n", encoding="utf-8"
    )
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": END}
    )
    write_json(
        folder / "special_tokens_map.json", {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    )
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    sizes = {
        "size": 224,
        "crop_size": 224,
        "do_resize": True,
        "do_center_crop": True,
        "do_normalize": True,
        "resample": 3,
    }
    write_json(
        folder / "preprocessor_config.json",
        {**sizes, "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": mean, "image_std": std},
    )
    return folder


def save_published_dino(folder: Path) -> Path:
    """facebook/dinov2-base in small: positions for 518 pixels, pictures of 224."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**sizes, image_size=518, patch_size=14)).save_pretrained(folder)
    preprocessor = {
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 0.00392156862745098,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "BitImageProcessor",
    }
    write_json(folder / "preprocessor_config.json", preprocessor)
    return folder
