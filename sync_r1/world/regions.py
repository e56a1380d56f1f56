"""Parts of a picture of the embedded world by name. Left and right are those of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sync_r1.data.regions import Box

NAMED_REGIONS: dict[str, list[Box]] = {  # boxes in 32 × 32 pixels, aligned to the 4 × 4 cells of image tokens
    "hat": [(8, 0, 24, 8)],
    "left hand": [(0, 12, 8, 20)],
    "right hand": [(24, 12, 32, 20)],
    "chest": [(12, 16, 20, 24)],
    "body": [(8, 4, 24, 32)],
    # With the outline of the character: a strip of the old place that stays beside it would show through.
    "background": [(0, 0, 12, 32), (20, 0, 32, 32), (12, 28, 20, 32)],
}

ATTRIBUTE_REGIONS: dict[str, tuple[str, ...]] = {  # what is drawn again to change an attribute
    "kind": ("body",),
    "colour": ("body",),
    "pattern": ("body",),
    "mark": ("chest",),
    "hat": ("hat",),
    "item": ("left hand", "right hand"),
    "scene": ("background",),
}

BESIDE: list[Box] = [(0, 0, 8, 32), (24, 0, 32, 32)]  # where the place is seen and no character


def redrawn_mask(name: str, size: int = 32) -> np.ndarray:
    """bool [size, size]: the pixels that are drawn again to change an attribute."""
    return _mask([box for region in ATTRIBUTE_REGIONS[name] for box in NAMED_REGIONS[region]], size)


def seen_mask(name: str, size: int = 32) -> np.ndarray:
    """bool [size, size]: the pixels where an attribute is seen; of the place those without a character."""
    if name == "scene":
        return _mask(BESIDE, size)
    return redrawn_mask(name, size)


def _mask(boxes: Sequence[Box], size: int) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask
