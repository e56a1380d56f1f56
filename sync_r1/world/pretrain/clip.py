"""Train the world's CLIP (transformers' CLIPModel, small) on captions that leave things out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from sync_r1.models.showo.prompting import END_OF_TEXT
from sync_r1.world import grammar
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.pretrain.unified import world_tokenizer
from sync_r1.world.render import Pair, Picture, Still, Thing, random_picture

TEXT_LENGTH = 40
MEAN = STD = 0.5


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """The world's BPE with a padding token of its own; every text ends in the token that CLIP pools at."""
    tokenizer = world_tokenizer()
    ending = TemplateProcessing(single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, tokenizer.eos_token_id)])
    tokenizer.backend_tokenizer.post_processor = ending
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.model_max_length = TEXT_LENGTH
    return tokenizer


def clip_model(tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """96 wide, 3 layers on each side, 4×4-pixel patches."""
    shape = {
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 64,
    }
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": TEXT_LENGTH, "bos_token_id": None}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = {"image_size": 32, "patch_size": 4}
    config = CLIPConfig(text_config={**shape, **text, **ids}, vision_config={**shape, **vision}, projection_dim=64)
    return CLIPModel(config)


def caption(rng: np.random.Generator, picture: Picture) -> str:
    """A drawing prompt that names the kind and a random part of the rest, of every character."""
    opening, dense = grammar.choose(rng, grammar.OPENINGS), rng.random() < 0.3
    if isinstance(picture, Still):
        return grammar.scene_prompt(opening, grammar.with_article(picture.what), {"scene": picture.scene})
    if isinstance(picture, Pair):
        subjects = [_subject(rng, thing) for _, thing in picture.sides]
        return grammar.pair_prompt(opening, subjects, picture, dense, place=rng.random() < 0.75)
    subject = _subject(rng, picture)
    context = {name: value for name, value in grammar.context_of(picture).items() if rng.random() < 0.75}
    return grammar.scene_prompt(opening, subject, context, dense)


def _subject(rng: np.random.Generator, thing: Thing) -> str:
    some = {name: value for name, value in grammar.identity_of(thing).items() if name == "kind" or rng.random() < 0.6}
    if rng.random() < 0.3:
        return thing.kind
    return grammar.describe(some)


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> dict[str, Tensor]:
    """Padded ids, each row closed by the end token."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=TEXT_LENGTH, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def train_clip(
    schedule: Schedule, folder: Path, batch_size: int = 128
) -> tuple[CLIPModel, PreTrainedTokenizerFast, dict[str, float]]:
    """Train with the symmetric contrastive loss on pictures with light noise: (model, tokenizer, figures of the
    stage)."""
    torch.manual_seed(schedule.seed)
    tokenizer = clip_tokenizer()
    model = clip_model(tokenizer)

    def loss(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = [random_picture(rng) for _ in range(batch_size)]
        pixels = (render_batch(pictures).float() / 255 - MEAN) / STD
        pixels = pixels + 0.05 * torch.from_numpy(rng.standard_normal(tuple(pixels.shape)).astype(np.float32))
        out = model(pixel_values=pixels, **encode_texts(tokenizer, [caption(rng, picture) for picture in pictures]))
        target = torch.arange(batch_size)
        total = (F.cross_entropy(out.logits_per_image, target) + F.cross_entropy(out.logits_per_text, target)) / 2
        return total, {"retrieval": (out.logits_per_text.argmax(-1) == target).float().mean().item()}

    return model, tokenizer, run_stage("clip", model, loss, schedule, folder)


def save_clip(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Hugging Face layout, weights in half precision."""
    model.half().save_pretrained(folder)
    model.float()
    tokenizer.backend_tokenizer.no_padding()  # what training set last would otherwise be saved with it
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**size, "image_mean": [MEAN] * 3, "image_std": [STD] * 3}, indent=2) + "\n", encoding="utf-8"
    )
