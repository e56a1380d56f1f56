"""What a new concept's vocabulary rows start as. K rows, row 0 the placeholder's; H hidden size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.data.pictures import load_image
from sync_r1.models.base import ConceptTokens, Rows, UnifiedModel

Init = Literal["class-noun", "images", "none"]
INITS = ("class-noun", "images", "none")
FACE_WIDTH = 64  # numbers of a face embedding that one token starts from (UniCTokens: 512 = 8 × 64)


def start_rows(
    model: UnifiedModel,
    concept: ConceptTokens,
    init: Init,
    photos: Sequence[Path] = (),
    face: Tensor | None = None,
    seed: int = 0,
) -> Rows:
    """Rows [K, H] of a concept the model does not have yet.

    "none": noise. "class-noun": the mean of the noun's rows; the placeholder is a copy of `concept.pool_name` where
    there is one. "images": as "class-noun", but soft tokens look like the photos (see `picture_embeddings`). Raises
    ValueError for another `init`, an empty noun, or "images" without photos.
    """
    if init not in INITS:
        raise ValueError(f"init is {init!r}; it must be one of {', '.join(INITS)}")
    if init == "none":
        return noise_rows(model, len(concept.all_tokens), seed)
    noun = noun_rows(model, concept.class_noun)
    if concept.pool_name is None:
        name = noun
    else:
        name = model.read_rows([model.tokenizer.get_vocab()[concept.pool_name]])
    rows = stack(name, *[noun] * len(concept.tokens))
    if init == "images":
        if not photos:
            raise ValueError(
                "init is 'images', but there are no photos of the concept; add some, or use class-noun or none"
            )
        seen = picture_embeddings(model, concept, photos, face, seed)
        rows.embed[1 : 1 + len(seen)] = seen.to(rows.embed)
    return rows


def noise_rows(model: UnifiedModel, count: int, seed: int = 0) -> Rows:
    """Gaussian rows [count, H] with each column's mean and spread over the text vocabulary.

    The bias is the vocabulary's mean.
    """
    vocabulary = model.read_rows(range(len(model.tokenizer)))
    generator = torch.Generator().manual_seed(seed)

    def like(rows: Tensor) -> Tensor:
        noise = torch.randn(count, rows.shape[1], generator=generator).to(rows)
        return rows.mean(0) + noise * rows.std(0)

    return Rows(like(vocabulary.embed), like(vocabulary.head_weight), vocabulary.head_bias.mean().repeat(count))


def noun_rows(model: UnifiedModel, class_noun: str) -> Rows:
    """Mean rows [1, H] of the noun as it stands inside a sentence, leading space included."""
    if not class_noun.strip():
        raise ValueError('class_noun is empty; say what the concept is, such as "dog"')
    rows = model.read_rows(model.tokenizer(f" {class_noun.strip()}", add_special_tokens=False)["input_ids"])
    return Rows(
        rows.embed.mean(0, keepdim=True), rows.head_weight.mean(0, keepdim=True), rows.head_bias.mean(0, keepdim=True)
    )


def picture_embeddings(
    model: UnifiedModel, concept: ConceptTokens, photos: Sequence[Path], face: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Embeddings [len(drawing tokens), H] of the soft tokens that pictures speak for, as UniCTokens starts them.

    The shared tokens (all drawing tokens, if none are shared) are k-means centres of the embeddings of the photos'
    codes. Those for drawing alone are a `face` (mean ArcFace embedding [512]) or, without one, rows of codes as they
    lie in the vocabulary.
    """
    drawing = len(concept.drawing_tokens)
    shared = min(concept.read, drawing) or drawing
    centres = photo_centres(model, photos, shared, seed)
    if face is not None:
        rest = face_embeddings(face, drawing - shared, centres.shape[1]).to(centres)
    else:
        rest = model.code_embeddings(torch.arange(1 + shared, 1 + drawing) % model.codebook_size).to(centres)
    return torch.cat([centres, rest])


def photo_centres(model: UnifiedModel, photos: Sequence[Path], count: int, seed: int = 0) -> Tensor:
    """k-means centres [count, H] of the embeddings of all codes of the photos."""
    codes = torch.cat([model.encode_image([load_image(photo)]) for photo in photos])
    return k_means(model.code_embeddings(codes.flatten()), count, seed)


def face_embeddings(face: Tensor, count: int, width: int) -> Tensor:
    """[count, width] from one face embedding [D]: `count` pieces of 64 numbers, each stretched linearly to the
    width."""
    if count:
        pieces = F.interpolate(face.float()[None, None], count * FACE_WIDTH, mode="linear")[0].view(count, FACE_WIDTH)
    else:
        pieces = face[:0]
    if count:
        return F.interpolate(pieces[None], width, mode="linear")[0]
    return torch.empty(0, width)


def k_means(points: Tensor, count: int, seed: int = 0, iterations: int = 300) -> Tensor:
    """Lloyd's centres fp32 [count, D] of points [n, D], started by k-means++ (Arthur & Vassilvitskii 2007).

    Fewer distinct points than centres give repeated centres. Everything random follows from `seed`.
    """
    points = points.float()
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randint(len(points), (1,), generator=generator).to(points.device)]
    while len(centres) < count:
        away = torch.cdist(points, centres).min(1).values.square().cpu()
        if away.sum() > 0:
            chances = away
        else:
            chances = torch.ones_like(away)
        centres = torch.cat([centres, points[torch.multinomial(chances, 1, generator=generator).to(points.device)]])
    nearest = torch.full((len(points),), -1, device=points.device)
    for _ in range(iterations):
        found = torch.cdist(points, centres).argmin(1)
        if torch.equal(found, nearest):
            break
        nearest = found
        members = F.one_hot(nearest, len(centres)).to(points)
        size = members.sum(0)[:, None]
        centres = torch.where(size > 0, members.T @ points / size.clamp(min=1), centres)
    return centres[:count]


def stack(*parts: Rows) -> Rows:
    """Rows below one another."""
    return Rows(
        torch.cat([part.embed for part in parts]),
        torch.cat([part.head_weight for part in parts]),
        torch.cat([part.head_bias for part in parts]),
    )
