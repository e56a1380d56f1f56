"""What describes a picture never decides over its pixels."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sync_r1.data.photo_metadata import TURNS, to_srgb
from sync_r1.data.pictures import load_image

MUTATIONS = 1600
ORIENTATION, EXIF_FOLDER, MAKER_NOTE = 0x0112, 0x8769, 0x927C


def corners(size: tuple[int, int] = (24, 16)) -> Image.Image:
    """Red above and blue below on the left, white elsewhere: every turn of it looks different."""
    pixels = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = [255, 0, 0]
    pixels[size[1] // 2 :, : size[0] // 2] = [0, 0, 255]
    return Image.fromarray(pixels)


def camera_exif() -> bytes:
    """What a phone writes, in small."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F], exif[0x0110], exif[0x0131] = 6, "Maker", "Phone 7", "1.2"
    exif[0x011A], exif[0x011B], exif[0x0128], exif[0x0132] = 72.0, 72.0, 2, "2024:05:01 10:00:00"
    inner = exif.get_ifd(EXIF_FOLDER)
    inner[0x829A], inner[MAKER_NOTE], inner[0x9286] = 0.01, b"note\x00\x01\x02" * 6, b"ASCII\x00\x00\x00hello"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 1.5)
    return exif.tobytes()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutated(block: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut or added after the header; or one directory entry given another kind or length."""
    content = bytearray(block)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(6, len(content))
        way = rng.randrange(5)
        if way == 0:
            content[place:place] = rng.randbytes(rng.randint(1, 3))
        elif way == 1 and len(content) > 40:
            del content[place : place + rng.randint(1, 3)]
        elif way == 2:
            entry = 16 + 12 * rng.randrange(8)  # of the first directory, which begins behind the TIFF header
            content[entry + 2 : entry + 4] = struct.pack(">H", rng.randrange(14))
        elif way == 3:
            entry = 16 + 12 * rng.randrange(8)
            content[entry + 4 : entry + 8] = struct.pack(">I", rng.choice([0, 1, 2, 3, 7, 1 << 20, (1 << 32) - 1]))
        else:
            content[place] = rng.randrange(256)
    return bytes(content)


def test_no_mutated_exif_makes_a_picture_unreadable(tmp_path: Path) -> None:
    plain, exif, rng, path = corners(), camera_exif(), random.Random(0), tmp_path / "photo.jpg"
    assert exif[6:8] == b"MM"
    stored = Image.open(io.BytesIO(encoded(plain, "JPEG", quality=95))).convert("RGB")
    turned = [stored, *(stored.transpose(turn) for turn in TURNS.values())]
    shown = {(image.size, image.tobytes()) for image in turned}
    decoded, upright, refused = 0, 0, []
    for number in range(MUTATIONS):
        content = encoded(plain, "JPEG", quality=95, exif=mutated(exif, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                Image.open(io.BytesIO(content)).load()
            except Exception:  # whatever Pillow raises
                continue
        decoded += 1
        path.write_bytes(content)
        try:
            image = load_image(path)
        except ValueError as error:
            refused.append(f"{number}: {error}")
            continue
        assert (image.size, image.tobytes()) in shown, f"mutation {number} changed the pixels"
        upright += image.size == (16, 24)
    assert not refused and decoded >= 1500
    assert upright > decoded // 3  # where the orientation was left whole it counts


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_type_is_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    upright = corners((64, 48))
    back = {turn: turn for turn in TURNS.values()}
    back |= {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    turn = TURNS.get(orientation)
    stored = upright if turn is None else upright.transpose(back[turn])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(encoded(stored, kind, exif=exif.tobytes(), quality=95))
    loaded = load_image(path)
    difference = np.abs(np.array(loaded).astype(int) - np.array(upright).astype(int))
    assert difference.mean() < 12 and ORIENTATION not in loaded.getexif()


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value


@pytest.mark.parametrize(
    ("odd", "data"),
    [
        (entry(0x010F, 5, 1, struct.pack("<I", 38)), struct.pack("<II", 72, 1)),
        (entry(0x0131, 11, 1, struct.pack("<f", 1.5)), b""),
        (entry(0x011A, 2, 2, b"7\0\0\0"), b""),
        (entry(0x0128, 2, 2, b"2\0\0\0"), b""),
        (entry(0x011A, 5, 0, bytes(4)), b""),
    ],
    ids=["text-as-fraction", "text-as-float", "fraction-as-text", "number-as-text", "no-value"],
)
def test_one_odd_tag_leaves_the_photo_upright(tmp_path: Path, odd: bytes, data: bytes) -> None:
    upright = corners((64, 48))
    directory = sorted([entry(ORIENTATION, 3, 1, struct.pack("<HH", 6, 0)), odd], key=lambda tag: tag[1::-1])
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(directory) + bytes(4) + data
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "t.jpg", quality=95, exif=exif)
    pixels = np.array(load_image(tmp_path / "t.jpg")).astype(int)
    assert pixels.shape == (48, 64, 3) and np.abs(pixels - np.array(upright).astype(int)).mean() < 12


def chunk(name: bytes, content: bytes, *, right: bool = True) -> bytes:
    check = zlib.crc32(name + content) if right else 0
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def png_with(extra: bytes) -> bytes:
    content = encoded(corners((64, 48)).transpose(Image.Transpose.ROTATE_90), "PNG", exif=camera_exif())
    return content[:33] + extra + content[33:]  # behind the header chunk


def jpeg_with(extra: bytes) -> bytes:
    content = encoded(corners((64, 48)).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=camera_exif())
    return content[:2] + extra + content[2:]


LONG = zlib.compress(b"word " * 2_000_000)
SPOILT: dict[str, Callable[[], bytes]] = {
    "long-text.png": lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + LONG)),
    "long-itxt.png": lambda: png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG)),
    "long-profile.png": lambda: png_with(chunk(b"iCCP", b"profile\0\0" + LONG)),
    "wrong-checksum.png": lambda: png_with(chunk(b"tEXt", b"Comment\0hello", right=False)),
    "short-profile.jpg": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0")),
    "short-jfif.jpg": lambda: jpeg_with(segment(0xE0, b"JFIF\0")),
    "comment.jpg": lambda: jpeg_with(b"\xff" + segment(0xFE, b"a comment") + segment(0xE0, b"JFIF\0")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_descriptions_that_keep_pillow_from_decoding_are_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SPOILT[name]())
    with pytest.raises(Exception):  # noqa: B017 - whatever Pillow raises
        Image.open(tmp_path / name).load()
    pixels = np.array(load_image(tmp_path / name)).astype(int)
    assert pixels.shape == (48, 64, 3), "the orientation still counts"
    assert np.abs(pixels - np.array(corners((64, 48))).astype(int)).mean() < 12


def test_avif_with_a_broken_exif_block_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    content = encoded(corners((64, 48)), "AVIF", exif=exif.tobytes())
    directory = exif.tobytes()[6:]
    assert content.count(directory) == 1
    path = tmp_path / "photo.avif"
    path.write_bytes(content.replace(directory, b"XX" + directory[2:]))
    with pytest.raises(ValueError, match="Invalid Exif payload"):
        Image.open(path).load()
    assert load_image(path).size == (64, 48)


def test_damaged_pixels_are_still_refused(tmp_path: Path) -> None:
    for name in ("long-text.png", "short-jfif.jpg"):
        content = SPOILT[name]()
        (tmp_path / name).write_bytes(content[:-60])
        with pytest.raises(
            ValueError, match=rf"{name}: (unreadable or truncated picture|a JPEG picture that is damaged)"
        ):
            load_image(tmp_path / name)


# colour profiles

TO_XYZ = {  # linear RGB to XYZ under D50, row by row
    "srgb": np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]),
    "p3": np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]),
}
GAMMA = 2.2


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def display_p3() -> bytes:
    """A profile with the primaries of Display P3 and one gamma, as ICC version 2 stores them."""
    name = b"Display P3\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)}
    white = TO_XYZ["p3"].sum(axis=1)
    columns = {b"wtpt": white, **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), TO_XYZ["p3"].T))}
    tags |= {tag: b"XYZ " + bytes(4) + b"".join(map(fixed, column)) for tag, column in columns.items()}
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", place + len(body), len(content))
        body += padded
    header = bytearray(128)
    struct.pack_into(">I4xI4s4s4s", header, 0, place + len(body), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header[36:40], header[68:80] = b"acsp", fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return bytes(header) + table + body


def as_srgb(colour: tuple[int, int, int]) -> np.ndarray:
    """A Display P3 colour in sRGB numbers, by the matrices."""
    linear = np.linalg.solve(TO_XYZ["srgb"], TO_XYZ["p3"] @ (np.array(colour) / 255) ** GAMMA).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("colour", [(200, 100, 50), (255, 0, 0), (60, 180, 75), (128, 128, 128)])
def test_display_p3_becomes_srgb(tmp_path: Path, kind: str, colour: tuple[int, int, int]) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    image = Image.new("RGB", (32, 32), colour)
    path.write_bytes(encoded(image, kind, icc_profile=display_p3(), quality=100))
    assert np.abs(np.array(load_image(path))[16, 16] - as_srgb(colour)).max() < 5


def test_transparent_pictures_with_a_profile_lie_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (200, 100, 50, 255))
    image.paste((200, 100, 50, 0), (0, 0, 16, 32))
    image.save(tmp_path / "a.png", icc_profile=display_p3())
    pixels = np.array(load_image(tmp_path / "a.png")).astype(int)
    assert np.abs(pixels[5, 5] - 255).max() < 2 and np.abs(pixels[5, 25] - as_srgb((200, 100, 50))).max() < 3


def test_an_srgb_profile_changes_no_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(np.array(load_image(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize("mode", ["L", "CMYK", "LA", "P", "1"])
def test_a_profile_of_another_kind_of_picture_is_read_or_ignored(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (90, 120, 200)).convert(mode)
    for profile in (display_p3(), display_p3().replace(b"RGB ", b"GRAY", 1), b"no profile", b"", None):
        assert to_srgb(image, profile).mode == "RGB"


def test_no_mutated_profile_makes_a_picture_unreadable(tmp_path: Path) -> None:
    rng, whole = random.Random(0), display_p3()
    for _ in range(200):
        profile = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            profile[rng.randrange(len(profile))] = rng.randrange(256)
        (tmp_path / "a.jpg").write_bytes(encoded(corners(), "JPEG", icc_profile=bytes(profile)))
        assert load_image(tmp_path / "a.jpg").size == (24, 16)
