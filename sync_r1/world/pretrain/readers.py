"""Train an attribute reader on true renders and on pictures that went through the tokenizer, some with wrong codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.base import to_bytes
from sync_r1.models.showo.magvit import Magvit
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.readers import AttributeReader, ReaderKind, to_pixels
from sync_r1.world.render import ATTRIBUTES, Thing, random_thing, render


def render_batch(things: list[Thing]) -> Tensor:
    """Pictures of things: uint8 [B, 3, 32, 32]."""
    return torch.from_numpy(np.stack([render(thing) for thing in things])).permute(0, 3, 1, 2)


def labels(things: list[Thing]) -> dict[str, Tensor]:
    """Index of every attribute's value, [B] long each."""
    return {
        name: torch.tensor([values.index(getattr(thing, name)) for thing in things])
        for name, values in ATTRIBUTES.items()
    }


@torch.no_grad()
def through_tokenizer(tokenizer: Magvit, pixels: Tensor, rng: np.random.Generator, wrong: float) -> Tensor:
    """Encode and decode, a fraction `wrong` of the codes replaced by other codes of the batch."""
    codes = tokenizer.encode(pixels)
    replaced = torch.from_numpy(rng.random(tuple(codes.shape)) < wrong)
    shuffled = codes[torch.from_numpy(rng.permutation(len(codes)))]
    return tokenizer.decode_codes(torch.where(replaced, shuffled, codes))


def train_reader(
    kind: ReaderKind, tokenizer: Magvit, schedule: Schedule, folder: Path, batch_size: int = 96
) -> tuple[AttributeReader, dict[str, float]]:
    """Cross-entropy on all attributes; half of each batch is decoded pictures."""
    torch.manual_seed(schedule.seed)
    reader = AttributeReader(kind)

    def loss(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        things = [random_thing(rng) for _ in range(batch_size)]
        pixels, half = to_pixels(render_batch(things)), batch_size // 2
        decoded = through_tokenizer(tokenizer, pixels[half:], rng, wrong=0.06 * float(rng.random()))
        pixels = torch.cat([pixels[:half], decoded])
        pixels = pixels + 0.05 * torch.from_numpy(rng.standard_normal(tuple(pixels.shape)).astype(np.float32))
        logits, truth = reader(pixels), labels(things)
        right = torch.stack([(logits[name].argmax(-1) == truth[name]).float() for name in truth])
        metrics = {"true_accuracy": right[:, :half].mean().item(), "decoded_accuracy": right[:, half:].mean().item()}
        return torch.stack([F.cross_entropy(logits[name], truth[name]) for name in truth]).sum(), metrics

    return reader, run_stage(f"reader_{kind}", reader, loss, schedule, folder)


@torch.no_grad()
def reader_accuracy(reader: AttributeReader, things: list[Thing], tokenizer: Magvit | None = None) -> dict[str, float]:
    """Share of right values per attribute on true renders, or on decoded ones when a tokenizer is given."""
    images = render_batch(things)
    if tokenizer is not None:
        images = to_bytes(tokenizer.decode_codes(tokenizer.encode(to_pixels(images))))
    read = reader.read(images)
    scores = {
        name: float(np.mean([row[name] == getattr(thing, name) for row, thing in zip(read, things, strict=True)]))
        for name in ATTRIBUTES
    }
    return {**scores, "mean": float(np.mean(list(scores.values())))}
