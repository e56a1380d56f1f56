"""Pictures that people bring: every limit holds before pixels are decoded, and what is kept is encoded anew.

So nothing but pixels is stored: no place, no camera, no file name of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from sync_r1.data.pictures import HEIC_TYPES, read_picture_bytes

TYPES = ("PNG", "JPEG", "WEBP")
MAX_FILES = 20
MAX_BYTES = 20 << 20
MAX_MEGAPIXELS = 50
SMALL = 512  # px; larger pictures are kept as JPEG
QUALITY = 95


def read_upload(path: Path | str, name: str = "") -> Image.Image:
    """An uploaded file as RGB, without anything but its pixels.

    Args:
        name: what its owner calls it, for messages.
    Raises:
        ValueError: another type, a file or a picture that is too large, or one that is damaged.
    """
    path = Path(path)
    name = name or path.name
    if Path(name).suffix.lower() in HEIC_TYPES:
        raise ValueError(
            f"{name}: HEIC pictures are not read here; export it as JPEG (an iPhone does so by itself with Settings, "
            "Camera, Formats, Most Compatible)"
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{name}: {size >> 20} MiB are too many; a picture may have at most {MAX_BYTES >> 20} MiB")
    image = read_picture_bytes(path.read_bytes(), name, TYPES, MAX_MEGAPIXELS)
    return Image.frombytes("RGB", image.size, image.tobytes())


def stage_photos(paths: Sequence[Path | str], folder: Path) -> Mapping[str, str]:
    """Write uploads into a folder under names of ours. Returns the owner's name of each.

    ValueError naming the first that is not usable, or for more than twenty.
    """
    if len(paths) > MAX_FILES:
        raise ValueError(f"{len(paths)} pictures are too many; bring 2 to {MAX_FILES}, of which 5 to 10 are good")
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for number, path in enumerate(paths, 1):
        image = read_upload(path)
        ending = ".png" if max(image.size) <= SMALL else ".jpg"
        target = folder / f"{number}{ending}"
        image.save(target, quality=QUALITY)
        names[target.name] = Path(path).name
    return names
