"""Opening pictures that a user supplied:

every limit is checked before pixels are decoded, and every error names the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

PICTURE_TYPES = (".png", ".jpg", ".jpeg", ".webp")
MIN_SIDE = 16  # px
MAX_MEGAPIXELS = 50
MAX_MEGABYTES = 8 * MAX_MEGAPIXELS  # of the file: pixels of four 16-bit numbers, not compressed at all
_DECODERS = ("PNG", "JPEG", "WEBP")


def natural_key(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `2.png` comes before `10.png`."""
    name = path if isinstance(path, str) else path.name
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return (*((0, int(p), "") if "0" <= p[0] <= "9" else (1, 0, p) for p in parts), (0, -1, name))


def is_picture_name(path: Path) -> bool:
    """Whether the file name ends in an allowed type; hidden files never count."""
    return path.suffix.lower() in PICTURE_TYPES and not path.name.startswith(".")


def list_pictures(folder: Path) -> list[Path]:
    """Pictures directly in `folder`, naturally sorted; an absent folder has none."""
    if not folder.is_dir():
        return []
    return sorted((p for p in list_folder(folder) if p.is_file() and is_picture_name(p)), key=natural_key)


def list_folder(folder: Path) -> list[Path]:
    """What lies directly in `folder`. ValueError when it may not be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror})") from error


def without_masks(paths: Iterable[Path]) -> list[Path]:
    """Leave out segmentation masks, which archives keep beside the pictures: `0_mask.png`."""
    return [path for path in paths if "mask" not in path.stem.lower()]


def load_image(path: Path | str) -> Image.Image:
    """Decode a picture as RGB: upright (EXIF), transparency over white, 16-bit greys scaled.

    Raises ValueError naming the file.
    """
    return _decoded(path, _upright_rgb)


def load_mask(path: Path | str) -> Image.Image:
    """Decode the picture of a mask: upright (EXIF), with its transparency. Raises ValueError naming the file."""
    return _decoded(path, lambda image: _upright_rgba(image) if image.has_transparency_data else _upright_rgb(image))


def _decoded(path: Path | str, read: Callable[[Image.Image], Image.Image]) -> Image.Image:
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path, formats=_DECODERS) as image:
            fault = _size_fault(*image.size)
            picture = None if fault else read(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: larger than the limit of {MAX_MEGAPIXELS} megapixels; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: not a PNG, JPEG or WebP picture; convert it to one of {', '.join(PICTURE_TYPES)}"
        ) from error
    except Exception as error:  # on damaged files Pillow's decoders raise whatever comes: OSError, SyntaxError, ValueError, struct.error …
        raise ValueError(f"{path}: unreadable or truncated picture ({error}); export it again") from error
    if picture is None:
        raise ValueError(f"{path}: {fault}")
    return picture


def _upright_rgba(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image).convert("RGBA")


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return image.convert("RGB")


def verify_images(paths: Iterable[Path]) -> None:
    """Decode each picture once. ValueError names the first that is missing, truncated, too small, too large or of
    another type.

    A file that passed is not read again while its size and modification time stay the same.
    """
    for path in paths:
        _check_file(path)
        stat = path.stat()
        _verify(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=65536)
def _verify(path: Path, _modified: int, _size: int) -> None:
    load_image(path)


def _check_file(path: Path) -> None:
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such picture")
    if path.suffix.lower() not in PICTURE_TYPES:
        raise ValueError(
            f"{path}: file type {path.suffix or 'without ending'!r} is not supported; allowed are {', '.join(PICTURE_TYPES)}"
        )
    if path.stat().st_size > MAX_MEGABYTES * 1_000_000:
        raise ValueError(f"{path}: {path.stat().st_size // 1_000_000} MB are too many; the limit is {MAX_MEGABYTES} MB")


def _size_fault(width: int, height: int) -> str:
    if min(width, height) < MIN_SIDE:
        return f"{width}x{height} px is too small; the shorter side must be at least {MIN_SIDE} px"
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        return f"{width}x{height} px is {width * height / 1e6:.0f} megapixels; the limit is {MAX_MEGAPIXELS} megapixels"
    return ""
