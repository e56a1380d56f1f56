"""Pictures that come and go as bytes: nothing is ever fetched, and every limit holds before pixels are decoded."""

from __future__ import annotations

import base64
import binascii
import re
import threading

from PIL import Image

from sync_r1.data.pictures import read_mask_bytes, read_picture_bytes
from sync_r1.drawings import png_bytes
from sync_r1.serve.errors import bad_request
from sync_r1.serve.options import MAX_MEGAPIXELS, MAX_PICTURE_BYTES, MAX_SIDE
from sync_r1.world.render import SIZE

TYPES = ("PNG", "JPEG", "WEBP")
_DATA_URL = re.compile(r"data:image/(png|jpe?g|webp);base64,", re.IGNORECASE)
_ONE_AT_A_TIME = threading.Lock()  # decoded pictures are large


def from_data_url(url: str, param: str) -> Image.Image:
    """The picture of a data: URL as RGB. ApiError for any other URL, because none is fetched."""
    head = _DATA_URL.match(url)
    if head is None:
        raise bad_request(
            f"{param} must be data:image/png;base64,… (or jpeg, webp); other URLs are not fetched, so send the "
            "picture itself",
            param,
        )
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{param} is no base64 ({error})", param) from error
    return decode(data, param)


def decode(data: bytes, param: str, *, mask: bool = False) -> Image.Image:
    """Bytes of a png, jpeg or webp as RGB, or with its transparency (`mask`). ApiError for anything else."""
    if len(data) > MAX_PICTURE_BYTES:
        raise bad_request(
            f"{param} has {len(data) >> 20} MiB; a picture may have at most {MAX_PICTURE_BYTES >> 20}", param
        )
    read = read_mask_bytes if mask else read_picture_bytes
    try:
        with _ONE_AT_A_TIME:
            return read(data, param, TYPES, MAX_MEGAPIXELS)
    except ValueError as error:
        raise bad_request(str(error), param) from error


def to_base64(image: Image.Image) -> str:
    """A PNG with what made the picture in it."""
    return base64.b64encode(png_bytes(image)).decode("ascii")


def side_of(size: str | None, drawn: int) -> int:
    """The side in pixels of a requested size: the model's own, or a multiple of it. ApiError for another one."""
    if size is None or size == "auto":
        return drawn
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size)
    allowed = [drawn * times for times in (1, 2, 4, 8, 16, 32) if drawn * times <= max(MAX_SIDE, drawn)]
    if found is None or found[1] != found[2] or int(found[1]) % drawn or int(found[1]) > allowed[-1]:
        sizes = ", ".join(f"{side}x{side}" for side in allowed)
        raise bad_request(f"size is {size[:20]!r}; this model draws {sizes} and multiples between", "size")
    return int(found[1])


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """The picture at another side; the embedded world's pixels stay sharp."""
    if image.width == side:
        return image
    if image.width == SIZE:
        way = Image.Resampling.NEAREST
    else:
        way = Image.Resampling.LANCZOS
    larger = image.resize((side, side), way)
    larger.info = dict(image.info)
    return larger
