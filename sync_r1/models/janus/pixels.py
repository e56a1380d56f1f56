"""Pixels in and out: what the vision tower reads, and the image tokenizer's codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.janus.modeling_janus import JanusVQVAE

from sync_r1.models.base import Images, to_bytes, to_pixels

CHUNK = 16  # pictures per tokenizer pass, which bounds its memory


def letterbox(images: Images, size: int, background: Sequence[float]) -> Tensor:
    """Pictures → uint8 [B, 3, size, size]: long side resized (bicubic), the rest filled with a colour in [0, 1],
    nothing cropped."""
    if isinstance(images, Tensor) and (images.ndim != 4 or images.shape[1] != 3):
        raise ValueError(f"images have shape {tuple(images.shape)}; expected [B, 3, H, W], uint8 or float in [0, 1]")
    boxed = [_boxed(_unit(image), size, background) for image in images]
    if boxed:
        return (torch.stack(boxed) * 255).round().to(torch.uint8)
    return torch.empty(0, 3, size, size, dtype=torch.uint8)


def _unit(image: object) -> Tensor:
    """fp32 [3, H, W] in [0, 1]."""
    if isinstance(image, Tensor):
        if image.dtype == torch.uint8:
            return image.float() / 255
        return image.float()
    import numpy as np

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255  # type: ignore[attr-defined]


def _boxed(image: Tensor, size: int, background: Sequence[float]) -> Tensor:
    height, width = (max(1, round(side * size / max(image.shape[1:]))) for side in image.shape[1:])
    if (height, width) != image.shape[1:]:
        image = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
    box = torch.tensor(background).to(image)[:, None, None].repeat(1, size, size)
    top, left = (size - height) // 2, (size - width) // 2
    box[:, top : top + height, left : left + width] = image
    return box.cpu()


def encode(vqmodel: JanusVQVAE, images: Images, size: int) -> Tensor:
    """Pictures → codes [B, N] long. Short side resized, centre cropped.

    A code is the nearest codebook entry on the unit sphere, since `decode` puts entries there (transformers' own
    `encode` compares unnormalised vectors, which is not the codebook it decodes with).
    """
    weight = vqmodel.quantize.embedding.weight
    codebook = F.normalize(weight, dim=-1)
    codes = []
    for part in to_pixels(images, size).to(weight).split(CHUNK):
        latents = vqmodel.quant_conv(vqmodel.encoder(part)).flatten(2).transpose(1, 2)
        codes.append((latents @ codebook.T).argmax(-1))
    return torch.cat(codes)


def decode(vqmodel: JanusVQVAE, codes: Tensor) -> Tensor:
    """Codes [B, N] → uint8 [B, 3, size, size]."""
    return to_bytes(torch.cat([vqmodel.decode(part) for part in codes.split(CHUNK)]))
