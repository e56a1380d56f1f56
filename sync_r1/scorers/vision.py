"""What the picture networks share: strict reading of a published folder, and pictures made ready in torch (no
torchvision)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file, logging

from sync_r1.files import read_json
from sync_r1.models.hub import HUB_ID

Pictures: TypeAlias = Tensor | Sequence[Image.Image]  # uint8 [B, 3, H, W], or PIL pictures of any sizes


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side to `resize` (bicubic), centre crop of `crop`, then (x − mean) / std of values in [0, 1]."""

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def fit(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] → fp32 [B, 3, crop, crop] in [0, 1]."""
        height, width = images.shape[-2:]
        values, short = images.float(), min(height, width)
        if short != self.resize:
            height, width = (self.resize * side // short for side in (height, width))
            # Rounded to whole levels, as when the resized picture is stored as 8 bits.
            values = (
                F.interpolate(values, (height, width), mode="bicubic", antialias=True, align_corners=False)
                .round()
                .clamp(0, 255)
            )
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return values[..., top : top + self.crop, left : left + self.crop] / 255

    def normalise(self, values: Tensor) -> Tensor:
        """fp32 [B, 3, S, S] in [0, 1] → what the network was trained on."""
        mean, std = (torch.tensor(numbers, device=values.device).view(1, 3, 1, 1) for numbers in (self.mean, self.std))
        return (values - mean) / std


def as_tensors(images: Pictures, device: torch.device | str = "cpu") -> list[Tensor]:
    """Batches uint8 [b, 3, H, W]: the tensor whole, or every PIL picture alone. ValueError for other tensors."""
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images is {images.dtype} {tuple(images.shape)}; it must be uint8 [B, 3, H, W]")
        return [images.to(device)]
    return [torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].to(device) for image in images]


def batches(images: Pictures, size: int) -> Iterator[Pictures]:
    """Runs of at most `size` pictures. ValueError when there are none."""
    if len(images) == 0:
        raise ValueError("image_features got no pictures; it needs at least one")
    for start in range(0, len(images), size):
        yield images[start : start + size]


def read_network(network: type[PreTrainedModel], folder: Path | str, what: str) -> Any:
    """Weights of a transformers folder or hub id in fp32, frozen and in eval mode; nothing missing, nothing made up.

    Safetensors or .bin, in one file or in shards; a pickle that holds more than tensors is refused by PyTorch's
    weights-only reader.

    Raises:
        ValueError: the folder holds no such network, another kind, or weights that are missing or of another shape
            (named).
    """
    wanted = network.config_class.model_type  # type: ignore[union-attr]
    if not Path(folder).exists() and not HUB_ID.fullmatch(str(folder)):
        raise ValueError(f"{folder}: no such folder; give one with a {what}, or a hub id")
    try:
        config = cached_file(str(folder), "config.json")
        kind = json.loads(Path(str(config)).read_text(encoding="utf-8")).get("model_type")
        if kind != wanted:
            raise ValueError(f"its config.json has model_type {kind!r}; it must be {wanted!r}")
        with _without_bar():
            # mismatches are ignored here and refused below, where the message names them
            loaded: Any = network.from_pretrained(
                str(folder), dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{folder}: the {what} is refused: its .bin holds more than tensors, or is damaged; use safetensors"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        fix = "give a folder with its published files, or a hub id"
        raise ValueError(f"{folder}: no {what} could be read: {_first_line(error).rstrip('.')}; {fix}") from error
    model, report = loaded
    fix = "download the folder again"
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder}: the {what} lacks {len(missing)} tensors, first {missing[0]}; {fix}")
    if wrong := sorted(report["mismatched_keys"]):
        name, found, expected = wrong[0]
        raise ValueError(
            f"{folder}: {name} of the {what} has shape {tuple(found)}; its config.json asks for {tuple(expected)}; "
            f"{fix}"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _without_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own, in files as well, while weights are read, which takes no
    time."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def read_preprocessing(folder: Path | str, default: Preprocessing) -> Preprocessing:
    """Sizes, mean and std of preprocessor_config.json, as published; `default` where the file or an entry is absent.

    Raises:
        ValueError: an entry of another form, or a crop above the resized side.
    """
    path = cached_file(str(folder), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    stored: dict[str, Any] = {}
    if path:
        stored = read_json(Path(path))
    resize, crop = _side(path, stored, "size", default.resize), _side(path, stored, "crop_size", default.crop)
    if crop > resize:
        raise ValueError(f"{path}: field 'crop_size' is {crop}; it must be at most 'size' = {resize}")
    mean, std = (
        _triple(path, stored, key, value) for key, value in (("image_mean", default.mean), ("image_std", default.std))
    )
    return Preprocessing(resize, crop, mean, std)


def _side(path: str | None, stored: dict[str, Any], key: str, default: int) -> int:
    """A side in pixels: a number (old files), {"shortest_edge": n} or {"height": n, "width": n}."""
    value = stored.get(key, default)
    if isinstance(value, dict):
        sides = set(value.values())
    else:
        sides = {value}
    side = None
    if len(sides) == 1:
        side = next(iter(sides))
    if not isinstance(side, int) or side < 1:
        raise ValueError(f"{path}: field {key!r} is {value!r}; it must be one side in pixels")
    return side


def _triple(path: str | None, stored: dict[str, Any], key: str, default: Sequence[float]) -> tuple[float, float, float]:
    value = stored.get(key, default)
    if len(value) != 3 or (key == "image_std" and min(value) <= 0):
        raise ValueError(
            f"{path}: field {key!r} is {value!r}; it must be three numbers" + (" above 0" if key == "image_std" else "")
        )
    red, green, blue = map(float, value)
    return red, green, blue
