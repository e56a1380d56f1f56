"""What a model reads, writes and draws, of any number of rows: in batches, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from sync_r1.models.base import UnifiedModel
from sync_r1.types import ImageTrace, Sampling, TextContext

T = TypeVar("T")


def batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive parts of at most `size` rows."""
    rest = iter(rows)
    while part := list(islice(rest, size)):
        yield part


def encode_pictures(model: UnifiedModel, images: Iterable[Image.Image], batch_size: int) -> Tensor:
    """What the model reads of pictures: [B, N] or [B, N, D], row by row. At least one picture."""
    return torch.cat([model.look(part) for part in batches(images, batch_size)])


def write_texts(model: UnifiedModel, contexts: Sequence[TextContext], sampling: Sampling, batch_size: int) -> list[str]:
    """One text per context, all with seed 0: with `top_k` 1 the likeliest one."""
    texts: list[str] = []
    for part in batches(contexts, batch_size):
        texts += model.generate_text(part, sampling, [0] * len(part)).texts
    return texts


def draw_traces(
    model: UnifiedModel,
    texts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    batch_size: int,
    codes: Tensor | None = None,
    cells: Tensor | None = None,
) -> Iterator[ImageTrace]:
    """Draw a picture per text and seed, a trace per batch: whole ones, or the `cells` [B, N] bool of the pictures
    `codes` [B, N]."""
    for start in range(0, len(texts), batch_size):
        rows = slice(start, start + batch_size)
        if codes is None or cells is None:
            yield model.generate_image(texts[rows], sampling, seeds[rows])
        else:
            yield model.redraw_image(texts[rows], codes[rows], cells[rows], sampling, seeds[rows])
