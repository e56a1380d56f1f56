"""Masks, boxes and names → pixels and the image tokens that they touch; pasting keeps everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sync_r1.data.regions import Square, paste, read_region

SMALL = Square(8, 8, 4)  # cells of 2 × 2 pixels
WIDE = Square(12, 8, 4)  # the model sees columns 2 to 9
NAMES = {"hat": [(8, 0, 24, 8)]}


def cells(mask: np.ndarray, square: Square = SMALL) -> list[int]:
    return np.flatnonzero(square.cells(mask)).tolist()


def test_any_pixel_touches_its_cell() -> None:
    assert cells(read_region("1,1,2,2", SMALL)) == [0]
    assert cells(read_region((1, 1, 3, 2), SMALL)) == [0, 1]
    assert cells(read_region((1, 1, 3, 3), SMALL)) == [0, 1, 4, 5]
    assert cells(read_region((7, 6, 8, 8), SMALL)) == [15]


def test_cells_that_pixels_do_not_divide_evenly() -> None:
    """10 pixels in 4 cells: cell 0 is columns 0 to 2 (and half of 2), so column 2 touches cells 0 and 1."""
    square = Square(10, 10, 4)
    assert cells(read_region((2, 0, 3, 1), square), square) == [0, 1]
    assert cells(read_region((3, 0, 4, 1), square), square) == [1]
    some = np.array([True, False, False, True] * 4)
    assert square.pixels(some)[0].tolist() == [True] * 3 + [False] * 5 + [True] * 2


def test_the_model_sees_the_square_in_the_middle() -> None:
    assert WIDE.box == (2, 0, 10, 8)
    assert cells(read_region((0, 0, 3, 1), WIDE), WIDE) == [0]
    assert np.flatnonzero(WIDE.pixels(np.eye(1, 16, dtype=bool))[0]).tolist() == [2, 3]
    assert cells(read_region("hat", WIDE, NAMES), WIDE) == [1, 2]
    with pytest.raises(ValueError, match="outside 2,0,10,8, the square in the middle"):
        read_region((0, 0, 2, 8), WIDE)


def test_names_scale_with_the_picture() -> None:
    assert np.argwhere(read_region("hat", Square(64, 64, 8), NAMES)).max(0).tolist() == [15, 47]


def test_masks_are_white_or_transparent(tmp_path: Path) -> None:
    black = Image.new("L", (8, 8), 0)
    black.paste(255, (0, 0, 2, 2))
    assert cells(read_region(black, SMALL)) == [0]
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    clear.paste((255, 255, 255, 0), (2, 0, 4, 2))
    assert cells(read_region(clear, SMALL)) == [1]  # white is what is kept here: transparency decides
    opaque = Image.merge("RGBA", [black, black, black, Image.new("L", (8, 8), 255)])
    assert cells(read_region(opaque, SMALL)) == [0]
    large = clear.resize((32, 32), Image.Resampling.NEAREST)
    large.save(tmp_path / "mask.png")
    assert cells(read_region(str(tmp_path / "mask.png"), Square(32, 32, 4)), Square(32, 32, 4)) == [1]
    black.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / "grey.png")
    assert cells(read_region(tmp_path / "grey.png", Square(32, 32, 4)), Square(32, 32, 4)) == [0]
    assert read_region(np.eye(8, dtype=bool), SMALL).sum() == 8


def test_pasting_changes_nothing_outside() -> None:
    before = np.random.default_rng(0).integers(128, size=(8, 12, 3), dtype=np.uint8)
    picture, drawn = Image.fromarray(before), Image.new("RGB", (4, 4), (250, 250, 250))
    mask = np.zeros((8, 12), dtype=bool)
    mask[2:7, 3:9] = True
    hard, soft = (np.asarray(paste(picture, drawn, mask, WIDE, feather)) for feather in (0, 1))
    assert np.array_equal(hard[~mask], before[~mask]) and np.array_equal(soft[~mask], before[~mask])
    assert (hard[mask] == 250).all() and (soft[3:6, 4:8] == 250).all()
    assert (soft[2, 3:9] < 250).all() and (soft[2, 3:9] > before[2, 3:9]).all()  # the edge fades
    assert np.array_equal(np.asarray(picture), before)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("scarf", r"unknown region 'scarf'; it must be hat, a box x0,y0,x1,y1 in pixels, or the file of a mask"),
        ("1,1,1,4", r"the box 1,1,1,4 does not lie in the picture; x0 < x1 must be in 0\.\.8"),
        ("-1,0,4,4", "does not lie in the picture"),
        ("0,0,9,4", "does not lie in the picture"),
        ((1, 2, 3), "the region has 3 numbers"),
        ("mask.gif", "unknown region"),
        ("nowhere.png", "nowhere.png: no such picture"),
        (np.zeros((8, 8), dtype=bool), "the mask is empty"),
        (np.ones((8, 9), dtype=bool), "the mask is 9x8 px, the picture 8x8 px"),
        (np.ones((8, 8)), "the mask is float64"),
        (Image.new("L", (8, 8), 0), "the mask is empty; paint what to draw again white"),
        (Image.new("L", (4, 8), 255), "the mask is 4x8 px, the picture 8x8 px"),
    ],
)
def test_mistakes_are_explained(region: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_region(region, SMALL, NAMES)  # type: ignore[arg-type]
