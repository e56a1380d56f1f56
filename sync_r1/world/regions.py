"""Parts of a picture of the embedded world by name. Left and right are those of the picture."""

from __future__ import annotations

import numpy as np

from sync_r1.data.regions import Box

NAMED_REGIONS: dict[str, list[Box]] = {  # boxes in 32 × 32 pixels, aligned to the 4 × 4 cells of image tokens
    "hat": [(8, 0, 24, 8)],
    "left hand": [(0, 12, 8, 20)],
    "right hand": [(24, 12, 32, 20)],
    "chest": [(12, 16, 20, 24)],
    "body": [(8, 4, 24, 32)],
    "background": [(0, 0, 8, 12), (0, 20, 8, 32), (24, 0, 32, 12), (24, 20, 32, 32)],
}

ATTRIBUTE_REGIONS: dict[str, tuple[str, ...]] = {  # where each attribute is seen
    "kind": ("body",),
    "colour": ("body",),
    "pattern": ("body",),
    "mark": ("chest",),
    "hat": ("hat",),
    "item": ("left hand", "right hand"),
    "scene": ("background", "left hand", "right hand"),
}


def attribute_mask(name: str, size: int = 32) -> np.ndarray:
    """bool [size, size]: the pixels where an attribute is seen."""
    mask = np.zeros((size, size), dtype=bool)
    for place in ATTRIBUTE_REGIONS[name]:
        for left, top, right, bottom in NAMED_REGIONS[place]:
            mask[top:bottom, left:right] = True
    return mask
