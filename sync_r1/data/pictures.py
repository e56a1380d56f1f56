"""Opening pictures that a user supplied: every limit is checked before pixels are decoded, and every error names the
file."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

from sync_r1.data.photo_metadata import JPEG_SIGNATURE, PNG_SIGNATURE, parse_exif, pixels_alone, to_srgb, turn_of

HEIC_TYPES = (".heic", ".heif", ".hif")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # in a file's first box
PICTURE_TYPES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", *HEIC_TYPES)
DECODERS = ("PNG", "JPEG", "WEBP", "AVIF")  # by Pillow's names; HEIC is added where its package is installed
MIN_SIDE = 16  # px
MAX_MEGAPIXELS = 66  # what is sold as 64 megapixels has up to 65
MAX_MEGABYTES = 8 * MAX_MEGAPIXELS  # of the file: pixels of four 16-bit numbers, not compressed at all

TURNED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # would have an upright picture turned again
HEAD = 64  # bytes at the beginning of a file that say of which type it is
SIGNATURES = {"PNG": PNG_SIGNATURE[:4], "JPEG": JPEG_SIGNATURE}
Picture = Image.Image | Path | str  # decoded, or its file
Reader = Callable[[Image.Image], Image.Image]  # what is kept of a decoded picture


def natural_key(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `2.png` comes before `10.png`."""
    if isinstance(path, str):
        name = path
    else:
        name = path.name
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


def subfolders_with_pictures(folder: Path) -> list[str]:
    """Folders up to two levels below `folder` that hold pictures, each with their number: "holiday (3)"."""
    places = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_dir()]
    counts = {path.relative_to(folder).as_posix(): len(list_pictures(path)) for path in places}
    return [f"{name} ({counts[name]})" for name in sorted(counts, key=natural_key) if counts[name]]


def without_masks(paths: Iterable[Path]) -> list[Path]:
    """Leave out segmentation masks, which archives keep beside the pictures: `0_mask.png`."""
    return [path for path in paths if "mask" not in path.stem.lower()]


def load_image(path: Path | str) -> Image.Image:
    """Decode a picture as RGB: upright (EXIF), colours as sRGB (ICC), transparency over white, 16-bit greys scaled.

    Raises ValueError naming the file.
    """
    return _decoded(path, _as_rgb)


def as_image(picture: Picture) -> Image.Image:
    """A picture that is there already, or the one in a file. Raises ValueError naming the file."""
    return picture if isinstance(picture, Image.Image) else load_image(picture)


def load_mask(path: Path | str) -> Image.Image:
    """Decode the picture of a mask: upright (EXIF), with its transparency. Raises ValueError naming the file."""
    return _decoded(path, _as_mask)


def read_picture_bytes(
    data: bytes, name: str, types: Sequence[str] = DECODERS, megapixels: int = MAX_MEGAPIXELS
) -> Image.Image:
    """Decode the bytes of a picture as `load_image` does.

    Args:
        name: of the picture, for messages.
        types: of the pictures that are taken, by Pillow's names.
        megapixels: the limit, checked before pixels are decoded.
    Raises:
        ValueError: naming the picture.
    """
    return _decoded_bytes(data, name, types, megapixels, _as_rgb)


def read_mask_bytes(
    data: bytes, name: str, types: Sequence[str] = DECODERS, megapixels: int = MAX_MEGAPIXELS
) -> Image.Image:
    """The same with the picture's transparency, as `load_mask` does."""
    return _decoded_bytes(data, name, types, megapixels, _as_mask)


def _decoded_bytes(data: bytes, name: str, types: Sequence[str], megapixels: int, read: Reader) -> Image.Image:
    wanted = f"a picture of the types {', '.join(types)}; send it as one of these"
    if not data:
        raise ValueError(f"{name}: empty (0 bytes); send it again")
    return _explained(
        name, wanted, lambda: data[:HEAD], lambda: _decode_from(io.BytesIO(data), name, types, read, None, megapixels)
    )


def _decoded(path: Path | str, read: Reader) -> Image.Image:
    path = Path(path)
    _check_file(path)
    wanted = f"a PNG, JPEG, WebP, AVIF or HEIC picture; convert it to one of {', '.join(PICTURE_TYPES)}"
    return _explained(path, wanted, lambda: _head_of(path), lambda: _decode(path, read))


def _explained(
    name: Path | str, wanted: str, head: Callable[[], bytes], decode: Callable[[], Image.Image]
) -> Image.Image:
    """What `decode` returns; its errors as ValueErrors that name the picture. `head` gives the file's first bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which changes nothing here
            return decode()
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: larger than the limit of {MAX_MEGAPIXELS} megapixels; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        kind = _kind_of(head())
        if kind:
            raise ValueError(
                f"{name}: a {kind} picture that is damaged or cut short; copy or export it again"
            ) from error
        raise ValueError(f"{name}: not {wanted}") from error
    except Exception as error:  # on damaged files Pillow's decoders raise whatever comes: OSError, SyntaxError, …
        raise ValueError(f"{name}: unreadable or truncated picture ({error}); export it again") from error


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _kind_of(head: bytes) -> str:
    """Which of our types the first bytes of a file say it is; "" for none. The rest may be anything."""
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIC" if any(brand in brands for brand in HEIC_BRANDS) else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((kind for kind, begin in SIGNATURES.items() if head.startswith(begin)), "")


def _brands(head: bytes) -> bytes:
    """The types of pictures that a file of the HEIC and AVIF family names, four bytes each."""
    return head[8 : int.from_bytes(head[:4], "big")]


class Refused(ValueError):
    """A picture that is whole but that we do not take. The message names the file."""


def _decode(path: Path, read: Reader) -> Image.Image:
    decoders = _decoders(path)
    try:
        return _decode_from(path, path, decoders, read)
    except (Refused, Image.DecompressionBombError):
        raise
    except Exception:
        rest = pixels_alone(path.read_bytes())
        if rest is None:
            raise
        try:
            return _decode_from(io.BytesIO(rest[0]), path, decoders, read, parse_exif(rest[1]))
        except (OSError, SyntaxError, ValueError, EOFError):
            pass
        raise  # the pixels are damaged: the first error says more


def _decode_from(
    source: Path | io.BytesIO,
    name: Path | str,
    decoders: Sequence[str],
    read: Reader,
    exif: Image.Exif | None = None,
    megapixels: int = MAX_MEGAPIXELS,
) -> Image.Image:
    """Raises Refused for a size that is not allowed, before pixels are decoded."""
    with Image.open(source, formats=list(decoders)) as image:
        width, height = image.size
        fault = _size_fault(width, height, megapixels)
        if fault:
            raise Refused(f"{name}: {fault}")
        image.load()
        turn = turn_of(_exif_of(image) if exif is None else exif)
        picture = read(image)
    for key in TURNED:
        picture.info.pop(key, None)
    if turn is None:
        return picture
    return picture.transpose(turn)


def _exif_of(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # the block comes from any camera or program, and Pillow raises whatever fits
        return Image.Exif()


def _as_mask(image: Image.Image) -> Image.Image:
    return image.convert("RGBA") if image.has_transparency_data else _as_rgb(image)


def _as_rgb(image: Image.Image) -> Image.Image:
    return to_srgb(_flat(image), image.info.get("icc_profile"))


def _flat(image: Image.Image) -> Image.Image:
    """The picture without transparency and with 8 bits per number."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("RGB")


def _decoders(path: Path) -> tuple[str, ...]:
    """Pillow's names of the decoders a file may need. Refused when it is a HEIC photo and nothing reads those here."""
    if _kind_of(_head_of(path)) != "HEIC":
        return DECODERS
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise Refused(
            f"{path}: a HEIC photo, which needs one more package; install it with pip install 'sync-r1[heic]', "
            "or export the photo as JPEG"
        ) from error
    register_heif_opener()
    return (*DECODERS, "HEIF")


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
    if os.path.isdir(path):
        raise ValueError(f"{path}: a folder, not a picture; name the files in it")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such picture")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: empty (0 bytes); copy or export it again, or remove it")
    if path.suffix.lower() not in PICTURE_TYPES:
        raise ValueError(
            f"{path}: file type {path.suffix or 'without ending'!r} is not supported; allowed are "
            f"{', '.join(PICTURE_TYPES)}"
        )
    if path.stat().st_size > MAX_MEGABYTES * 1_000_000:
        raise ValueError(f"{path}: {path.stat().st_size // 1_000_000} MB are too many; the limit is {MAX_MEGABYTES} MB")


def _size_fault(width: int, height: int, limit: int = MAX_MEGAPIXELS) -> str:
    if min(width, height) < MIN_SIDE:
        return f"{width}x{height} px is too small; the shorter side must be at least {MIN_SIDE} px"
    if width * height > limit * 1_000_000:
        megapixels = math.ceil(width * height / 1e5) / 10  # rounded up, so that it never reads like the limit
        return f"{width}x{height} px is {megapixels} megapixels; the limit is {limit} megapixels"
    return ""
