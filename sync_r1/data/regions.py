"""Which part of a picture is drawn again: a mask, a box or a name → pixels, and the image tokens that they touch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from sync_r1.data.pictures import PICTURE_TYPES, load_mask

Box = tuple[int, int, int, int]  # x0, y0, x1, y1: the first column and row, and those behind the last
Region = Image.Image | np.ndarray | Path | str | Box

_BOX = re.compile(r"\s*-?\d+\s*(,\s*-?\d+\s*){3}")
_ALLOWED = "a box x0,y0,x1,y1 in pixels, or the file of a mask"


@dataclass(frozen=True)
class Square:
    """What a model sees of a picture: the largest square in its middle, cut into grid × grid cells."""

    width: int
    height: int
    grid: int

    @property
    def side(self) -> int:
        return min(self.width, self.height)

    @property
    def box(self) -> Box:
        left, top = (self.width - self.side) // 2, (self.height - self.side) // 2
        return left, top, left + self.side, top + self.side

    def crop(self, mask: np.ndarray) -> np.ndarray:
        """[height, width] → [side, side]."""
        left, top, right, bottom = self.box
        return mask[top:bottom, left:right]

    def cells(self, mask: np.ndarray) -> np.ndarray:
        """Pixels [height, width] bool → cells [grid·grid] bool that hold at least one of them, row by row."""
        edges = [(cell * self.side // self.grid, -(-(cell + 1) * self.side // self.grid)) for cell in range(self.grid)]
        inner = self.crop(mask)
        rows = np.stack([inner[start:end].any(0) for start, end in edges])
        return np.stack([rows[:, start:end].any(1) for start, end in edges], 1).reshape(-1)

    def pixels(self, cells: np.ndarray) -> np.ndarray:
        """Cells [grid·grid] bool → the pixels [height, width] bool in them."""
        left, top, right, bottom = self.box
        index = np.arange(self.side) * self.grid // self.side
        mask = np.zeros((self.height, self.width), dtype=bool)
        mask[top:bottom, left:right] = cells.reshape(self.grid, self.grid)[np.ix_(index, index)]
        return mask


def read_region(region: Region, square: Square, names: Mapping[str, Sequence[Box]] | None = None) -> np.ndarray:
    """A region of a picture → the pixels [height, width] bool that are drawn again.

    Args:
        region: one of
            - a picture of the same size: its transparent pixels; if it has none, its white ones (brighter than half);
            - the file of one;
            - a bool array [height, width], True where to draw;
            - a box (x0, y0, x1, y1) in pixels, or as text "x0,y0,x1,y1";
            - a name of `names`.
        names: name → boxes in a square of 32 × 32, scaled to the picture's.
    Raises:
        ValueError: what cannot be read as one of these, another size, an empty region, or one that lies outside the
            square that the model sees.
    """
    if isinstance(region, str) and region.strip() in (names or {}):
        mask = _named((names or {})[region.strip()], square)
    elif isinstance(region, tuple) or (isinstance(region, str) and _BOX.fullmatch(region)):
        mask = _boxed(region, square)
    elif isinstance(region, str | Path) and Path(region).suffix.lower() in PICTURE_TYPES:
        mask = _painted(load_mask(region), str(region))
    elif isinstance(region, Image.Image):
        mask = _painted(region, "the mask")
    elif isinstance(region, str | Path):
        known = ""
        if names:
            known = f"{', '.join(names)}, "
        raise ValueError(f"unknown region {str(region)!r}; it must be {known}{_ALLOWED} ({', '.join(PICTURE_TYPES)})")
    else:
        mask = np.asarray(region)
    _check(mask, square)
    return mask


def paste(picture: Image.Image, drawn: Image.Image, mask: np.ndarray, square: Square, feather: int = 0) -> Image.Image:
    """Put what was `drawn` of the square into a picture, inside the mask [height, width] bool only.

    All other pixels stay as they are. With a feather of that many pixels the edge fades, inside the mask.
    """
    weight = Image.fromarray(mask.astype(np.uint8) * 255)
    if feather:
        soft = np.asarray(weight.filter(ImageFilter.BoxBlur(feather)))
        weight = Image.fromarray(np.where(mask, soft, 0).astype(np.uint8))
    layer = picture.copy()
    layer.paste(drawn.resize((square.side, square.side), Image.Resampling.BICUBIC), square.box[:2])
    return Image.composite(layer, picture, weight)


def _named(boxes: Sequence[Box], square: Square) -> np.ndarray:
    left, top, _, _ = square.box
    mask = np.zeros((square.height, square.width), dtype=bool)
    for box in boxes:
        x0, y0, x1, y1 = (round(edge * square.side / 32) for edge in box)
        mask[top + y0 : top + y1, left + x0 : left + x1] = True
    return mask


def _boxed(region: Region, square: Square) -> np.ndarray:
    numbers = region.split(",") if isinstance(region, str) else list(region)  # type: ignore[arg-type]
    if len(numbers) != 4:
        raise ValueError(f"the region has {len(numbers)} numbers; a box is x0,y0,x1,y1 in pixels")
    x0, y0, x1, y1 = (int(number) for number in numbers)
    if not (0 <= x0 < x1 <= square.width and 0 <= y0 < y1 <= square.height):
        raise ValueError(
            f"the box {x0},{y0},{x1},{y1} does not lie in the picture; x0 < x1 must be in 0..{square.width} "
            f"and y0 < y1 in 0..{square.height}"
        )
    mask = np.zeros((square.height, square.width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _painted(mask: Image.Image, what: str) -> np.ndarray:
    if mask.has_transparency_data:
        clear = np.asarray(mask.convert("RGBA").getchannel("A")) < 128
        if clear.any():
            return clear
    found = np.asarray(mask.convert("RGB").convert("L")) > 127
    if not found.any():
        raise ValueError(f"{what} is empty; paint what to draw again white, or make it transparent")
    return found


def _check(mask: np.ndarray, square: Square) -> None:
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"the mask is {mask.dtype} of shape {list(mask.shape)}; it must be bool [height, width]")
    if mask.shape != (square.height, square.width):
        size, wanted = f"{mask.shape[1]}x{mask.shape[0]}", f"{square.width}x{square.height}"
        raise ValueError(f"the mask is {size} px, the picture {wanted} px; they must have the same size")
    if not mask.any():
        raise ValueError("the mask is empty; mark at least one pixel to draw again")
    if not square.crop(mask).any():
        raise ValueError(
            f"the region lies outside {','.join(map(str, square.box))}, the square in the middle that the model sees; "
            "crop the picture first"
        )
