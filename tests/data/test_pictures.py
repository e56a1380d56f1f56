from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from concept_samples import picture, sample_concept
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sync_r1.data.concepts import load_concept
from sync_r1.data.layout import Layout
from sync_r1.data.pictures import list_pictures, load_image, natural_key, read_picture_bytes, verify_images


def test_natural_order(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "b1.jpg", "1.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["1.PNG", "2.png", "10.png", "b1.jpg"]
    assert list_pictures(tmp_path / "absent") == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=6)))
def test_natural_order_is_total(names: list[str]) -> None:
    other_way = names[::-1]
    assert sorted(names, key=natural_key) == sorted(other_way, key=natural_key)


def noise(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = noise(tmp_path / f"cut{suffix}")
    verify_images([path])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\{suffix}: (unreadable or truncated|a \w+ picture that is damaged)"):
        verify_images([path])


@pytest.mark.parametrize("kept", [0, 12, 40, 0.5])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".heic"])
def test_a_picture_cut_anywhere_is_not_called_one_of_another_type(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").from_pillow(picture(200, size=(64, 48))).save(path)
    else:
        noise(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if kept < 1 else int(kept)])
    with pytest.raises(ValueError, match=r"empty \(0 bytes\)|truncated|cut short") as refused:
        verify_images([path])
    assert "convert" not in str(refused.value)
    with pytest.raises(ValueError, match=r"empty \(0 bytes\)|truncated|cut short"):
        read_picture_bytes(path.read_bytes(), "the picture")


def claim_size(path: Path, width: int, height: int) -> None:
    """A PNG whose header promises a size; no limit may need the pixels behind it."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND"]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def test_limits_are_named(tmp_path: Path) -> None:
    picture(size=(15, 90)).save(tmp_path / "small.png")
    claim_size(tmp_path / "large.png", 8000, 8251)
    claim_size(tmp_path / "bomb.png", 20000, 20000)
    picture().save(tmp_path / "real.bmp")
    picture().save(tmp_path / "fake.png", format="GIF")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "album.jpg").mkdir()
    for name, message in {
        "small.png": "15x90 px is too small; the shorter side must be at least 16 px",
        "large.png": "8000x8251 px is 66.1 megapixels; the limit is 66 megapixels",
        "bomb.png": "the limit of 66 megapixels",
        "real.bmp": "file type '.bmp' is not supported; allowed are .png, .jpg, .jpeg, .jfif, .webp, .avif, .heic",
        "fake.png": "not a PNG, JPEG, WebP, AVIF or HEIC picture",
        "text.jpg": "not a PNG, JPEG, WebP, AVIF or HEIC picture",
        "empty.png": r"empty \(0 bytes\); copy or export it again, or remove it",
        "absent.png": "no such picture",
        "album.jpg": "a folder, not a picture; name the files in it",
    }.items():
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            verify_images([tmp_path / name])


def test_a_damaged_picture_of_a_concept_is_found_when_it_loads(root: Path) -> None:
    path = Layout(root).test("zed") / "0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"test/zed/0\.png: unreadable or truncated picture"):
        load_concept(root, "zed")
    assert load_concept(root, "zed", verify=False) == sample_concept(root)


def test_pictures_load_as_upright_rgb_over_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    for name in ("turned.jpg", "turned.png", "turned.webp"):
        picture(size=(40, 20)).save(tmp_path / name, exif=exif)
        assert load_image(tmp_path / name).size == (20, 40)
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    paletted = Image.new("P", (20, 20))
    paletted.putpalette([0, 0, 255])
    paletted.save(tmp_path / "palette.png", transparency=0)
    assert load_image(tmp_path / "palette.png").getpixel((3, 3)) == (255, 255, 255)
    Image.fromarray(np.full((20, 20), 0x8000, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert load_image(tmp_path / "deep.png").getpixel((3, 3)) == (128, 128, 128)
    Image.new("CMYK", (20, 20)).save(tmp_path / "print.jpg")
    assert load_image(tmp_path / "print.jpg").mode == "RGB"


def test_photos_sold_as_fifty_megapixels_are_taken(tmp_path: Path) -> None:
    Image.new("L", (8192, 6144), 120).save(tmp_path / "phone.jpg", quality=10)
    assert load_image(tmp_path / "phone.jpg").size == (8192, 6144)


@pytest.mark.parametrize(("suffix", "kind"), [(".avif", "AVIF"), (".jfif", "JPEG"), (".JPG", "AVIF")])
def test_other_photo_types_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    picture(200, size=(64, 48)).save(tmp_path / f"a{suffix}", format=kind)
    assert load_image(tmp_path / f"a{suffix}").size == (64, 48)
    assert [path.name for path in list_pictures(tmp_path)] == [f"a{suffix}"]


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "renamed.jpg"])
def test_heic_photos_are_read_with_the_extra_and_explained_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(picture(200, size=(64, 48))).save(tmp_path / "x.heic", exif=exif.tobytes())
    (tmp_path / "x.heic").rename(tmp_path / name)
    loaded = load_image(tmp_path / name)
    assert loaded.size == (48, 64) and np.abs(np.array(loaded)[5, 5].astype(int) - [200, 40, 200]).max() < 12
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=rf"{name}: a HEIC photo, .*pip install 'sync-r1\[heic\]', or export"):
        load_image(tmp_path / name)
