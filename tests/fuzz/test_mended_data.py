"""What the hostile inputs found in the reader and writer, each by itself."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from sync_r1.data.add import add_concept_folder
from sync_r1.data.concepts import load_concept
from sync_r1.data.layout import Layout
from sync_r1.data.pictures import load_image, verify_images
from sync_r1.data.write import write_concept, write_root
from sync_r1.files import read_json
from tests.data.concept_samples import edit_json, picture, sample_concept, sample_pictures
from tests.fuzz.mutations import chunk


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    write_root(root, [picture(9)])
    concept = sample_concept(root)
    write_concept(root, concept, sample_pictures(concept))
    return root


@pytest.mark.parametrize(
    "inserted",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (80 << 20), 1)),
        chunk(b"pHYs", b""),
        chunk(b"eXIf", b"no TIFF here"),
    ],
)
def test_odd_chunks_beside_the_pixels_do_no_harm_and_errors_name_the_file(tmp_path: Path, inserted: bytes) -> None:
    path = tmp_path / "odd.png"
    picture().save(path)
    content = path.read_bytes()
    path.write_bytes(content[:33] + inserted + content[33:])
    assert load_image(path).tobytes() == picture().tobytes()
    path.write_bytes(content[:33] + inserted + content[33:-40])
    for read in (load_image, lambda path: verify_images([path])):
        with pytest.raises(ValueError, match=r"odd\.png: unreadable or truncated picture"):
            read(path)


def test_a_file_that_is_vast_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "vast.json").touch()
    os.truncate(tmp_path / "vast.json", 1 << 40)
    os.mkfifo(tmp_path / "pipe.json")
    for name, message in {
        "vast.json": r"vast\.json: 1048576 MiB are too many",
        "pipe.json": r"pipe\.json: must be a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_json(tmp_path / name)
    picture().save(tmp_path / "vast.png")
    os.truncate(tmp_path / "vast.png", 1 << 40)
    with pytest.raises(ValueError, match=r"vast\.png: .* MB are too many"):
        verify_images([tmp_path / "vast.png"])


def test_names_longer_than_the_file_system_takes(store: Path) -> None:
    items = Layout(store).items("zed")
    rows = json.loads(items.read_text())
    rows[0]["image"] = "random_images/" + "a" * 300
    items.write_text(json.dumps(rows))
    with pytest.raises(
        ValueError, match=r"item\[0\]: field 'image' is 'random_images/a+\.\.\.a+', but '.*' is no file"
    ):
        load_concept(store, "zed")
    edit_json(Layout(store).train_images, zed=["a" * 300 + ".png"])
    with pytest.raises(ValueError, match=r"train_images\.json: field 'zed' names .* which is not in"):
        load_concept(store, "zed")
    with pytest.raises(ValueError) as caught:
        load_concept(store, "x" * 100_000)
    assert len(str(caught.value)) < 300


def test_writing_never_leaves_the_folder_of_the_concept(store: Path) -> None:
    concept = sample_concept(store)
    path = Layout(store).test("zed") / "../../../../escaped.png"
    broken = replace(concept, test_images=[path])
    with pytest.raises(ValueError, match=r"escaped\.png: the path of a picture must not hold"):
        write_concept(store, broken, {path: picture()}, overwrite=True)
    assert not list(store.parent.rglob("escaped.png"))


def test_a_text_that_no_file_takes_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        picture(number * 9).save(tmp_path / "photos" / f"{number}.png")
    with pytest.raises(ValueError, match=r"info holds bytes that are no UTF-8"):
        add_concept_folder(store, "bo", tmp_path / "photos", "dog", "a terrier \ud800", ["has a coat."])
