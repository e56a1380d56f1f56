"""Train an attribute reader on true renders and on pictures that went through the tokenizer, some with wrong codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.base import to_bytes
from sync_r1.models.showo.magvit import Magvit
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.readers import READ, AttributeReader, ReaderKind, View, half, to_pixels, truth
from sync_r1.world.render import ATTRIBUTES, Pair, Picture, Thing, random_picture, render

UNKNOWN = -100  # label of what a picture does not show
VIEWS: tuple[View, ...] = ("whole", "left", "right")


def render_batch(pictures: Sequence[Picture]) -> Tensor:
    """Rendered pictures: uint8 [B, 3, 32, 32]."""
    return torch.from_numpy(np.stack([render(picture) for picture in pictures])).permute(0, 3, 1, 2)


def labels(pictures: Sequence[Picture], views: Sequence[View]) -> dict[str, Tensor]:
    """Index of every value that a reader should tell, [B] long each; UNKNOWN where a picture does not show it."""
    known = [truth(picture, view) for picture, view in zip(pictures, views, strict=True)]
    found: dict[str, Tensor] = {}
    for name, values in READ.items():
        found[name] = torch.tensor([values.index(row[name]) if name in row else UNKNOWN for row in known])
    return found


def seen_through(pixels: Tensor, views: Sequence[View]) -> Tensor:
    """[B, 3, 32, 32] with the rows of a half view replaced by that half in the middle."""
    rows = [row[None] if view == "whole" else half(row[None], view) for row, view in zip(pixels, views, strict=True)]
    return torch.cat(rows)


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
        pictures = [random_picture(rng) for _ in range(batch_size)]
        views: list[View] = [VIEWS[int(rng.integers(3))] if isinstance(one, Pair) else "whole" for one in pictures]
        pixels, middle = to_pixels(render_batch(pictures)), batch_size // 2
        decoded = through_tokenizer(tokenizer, pixels[middle:], rng, wrong=0.06 * float(rng.random()))
        pixels = seen_through(torch.cat([pixels[:middle], decoded]), views)
        pixels = pixels + 0.05 * torch.from_numpy(rng.standard_normal(tuple(pixels.shape)).astype(np.float32))
        logits, wanted = reader(pixels), labels(pictures, views)
        right = torch.stack([(logits[name].argmax(-1) == wanted[name]).float() for name in wanted])
        known = torch.stack([wanted[name] != UNKNOWN for name in wanted])
        metrics = {
            "true_accuracy": right[:, :middle][known[:, :middle]].mean().item(),
            "decoded_accuracy": right[:, middle:][known[:, middle:]].mean().item(),
        }
        losses = [F.cross_entropy(logits[name], wanted[name], ignore_index=UNKNOWN) for name in wanted]
        return torch.stack(losses).sum(), metrics

    return reader, run_stage(f"reader_{kind}", reader, loss, schedule, folder)


@torch.no_grad()
def reader_accuracy(reader: AttributeReader, things: list[Thing], tokenizer: Magvit | None = None) -> dict[str, float]:
    """Share of right values per attribute on true renders, or on decoded ones when a tokenizer is given."""
    images = render_batch(things)
    if tokenizer is not None:
        images = to_bytes(tokenizer.decode_codes(tokenizer.encode(to_pixels(images))))
    read = reader.read(images)
    scores = {}
    for name in ATTRIBUTES:
        scores[name] = float(
            np.mean([row[name] == getattr(thing, name) for row, thing in zip(read, things, strict=True)])
        )
    return {**scores, "mean": float(np.mean(list(scores.values())))}
