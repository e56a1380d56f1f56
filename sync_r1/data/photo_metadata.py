"""What a picture file says about its pixels: which side is up, and which colours the numbers mean.

Descriptions are often odd (one EXIF tag of a wrong kind, a profile cut short), and viewers show such pictures all the
same. So each of them is read by itself, an unreadable one counts as absent, and `pixels_alone` takes all of them away
where they keep Pillow from decoding.
"""

from __future__ import annotations

import io

from PIL import ExifTags, Image, ImageCms

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8"
EXIF_HEADER = b"Exif\x00\x00"
COLOUR_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of ICC profiles, and Pillow's modes for them
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_of(exif: Image.Exif) -> Image.Transpose | None:
    """How to turn the pixels so that the picture is upright. None when they are, or when the tag cannot be read.

    Only the orientation is decoded; every other tag may hold anything.
    """
    try:
        return TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # the tag's bytes come from any camera or program, and Pillow raises whatever fits
        return None


def parse_exif(block: bytes) -> Image.Exif:
    """An EXIF block by itself; without any tag when it has no readable directory."""
    exif = Image.Exif()
    try:
        exif.load(block)
    except Exception:  # as in `turn_of`
        return Image.Exif()
    return exif


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture with its colours as sRGB numbers, in mode RGB.

    `profile` is the embedded ICC profile (photos of phones carry Display P3). Without one, or with one that is broken
    or made for another kind of picture, the numbers count as sRGB already, as in viewers.
    """
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image.convert("RGB")
        mode = COLOUR_SPACES.get(source.profile.xcolor_space)
        if mode == "RGB" and image.mode != "CMYK":
            image = image.convert("RGB")  # a grey picture may carry a profile of RGB
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ImportError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def pixels_alone(content: bytes) -> tuple[bytes, bytes] | None:
    """A picture file without what describes its pixels, and the EXIF block that lay in it.

    None for types in which no description keeps Pillow from decoding.
    """
    if content.startswith(PNG_SIGNATURE):
        return _png_alone(content)
    if content.startswith(JPEG_SIGNATURE):
        return _jpeg_alone(content)
    if content[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1"):
        boxes, mark, rest = content.partition(b"mdat")
        return boxes.replace(b"Exif", b"skip") + mark + rest, b""  # the item is then of a type that no decoder reads
    return None


def _png_alone(content: bytes) -> tuple[bytes, bytes]:
    """Keeps the critical chunks, whose names begin with a capital letter, and the transparency."""
    kept, exif, place = [PNG_SIGNATURE], b"", len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        size, name = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        end = place + 12 + size
        if name[:1].isupper() or name == b"tRNS":
            kept.append(content[place:end])
        elif name == b"eXIf":
            exif = content[place + 8 : end - 4]
        place = end
    return b"".join(kept), exif


def _jpeg_alone(content: bytes) -> tuple[bytes, bytes]:
    """Leaves out comments and application segments but Adobe's, which says how the colours are stored."""
    kept, exif, place = [JPEG_SIGNATURE], b"", len(JPEG_SIGNATURE)
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] not in (b"\xda", b""):
        marker = content[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : end]
        if marker == 0xE1 and segment.startswith(EXIF_HEADER):
            exif = exif or segment
        adobe = marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12
        if adobe or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(content[place:end])
        place = end
    return b"".join([*kept, content[place:]]), exif
