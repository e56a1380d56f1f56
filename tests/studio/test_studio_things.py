"""Things of a studio: checked by field, saved whole or not at all, deleted with a way back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sync_r1.apps.studio import StudioFolder, things, uploads
from sync_r1.apps.studio.things import Form
from sync_r1.apps.studio.wipe import wipe
from sync_r1.data import list_concepts, load_concept


@pytest.fixture()
def studio(tmp_path: Path) -> StudioFolder:
    return StudioFolder(tmp_path / "studio", tmp_path / "runs")


def photo(path: Path, seed: int, side: int = 48) -> str:
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return str(path)


def form(tmp_path: Path, count: int = 4, **changes: object) -> Form:
    pictures = [photo(tmp_path / "photos" / f"IMG {number}.png", number) for number in range(count)]
    given = {
        "name": "momo",
        "class_noun": "dog",
        "info": "a small dog",
        "facts": ["it has a ball."],
        "pictures": pictures,
    }
    return Form(**{**given, **changes})  # type: ignore[arg-type]


def test_a_saved_thing_is_a_concept_that_commands_read(studio: StudioFolder, tmp_path: Path) -> None:
    added = things.save(studio, form(tmp_path))
    assert list_concepts(studio.things) == ["momo"] == studio.names()
    concept = load_concept(studio.things, "momo")
    assert concept.facts == ["<momo> has a ball."] and added.concept == concept
    card = things.cards(studio)[0]
    assert (card.photos, card.known_since) == (4, "not trained yet")


def test_every_field_that_is_wrong_is_named_and_nothing_is_written(studio: StudioFolder, tmp_path: Path) -> None:
    wrong = {
        "name": ("", "a<b", "dog " * 20),
        "class_noun": ("", "a dog", "momo"),
        "info": ("", "   "),
        "facts": ([], ["x" * 400]),
    }
    for field, values in wrong.items():
        for value in values:
            found = things.problems(studio, form(tmp_path, **{field: value}))
            assert field in found, (field, value)
            with pytest.raises(ValueError):
                things.save(studio, form(tmp_path, **{field: value}))
    assert things.problems(studio, form(tmp_path, pictures=[])) == {
        "pictures": "there are no pictures yet; bring at least 2, of which 5 to 10 are good"
    }
    assert things.problems(studio, form(tmp_path)) == {} and not studio.things.exists()


def test_pictures_that_cannot_be_used_are_named_as_their_owner_calls_them(studio: StudioFolder, tmp_path: Path) -> None:
    one = photo(tmp_path / "beach.png", 1)
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0" * 100)
    (tmp_path / "program.png").write_bytes(b"MZ" + b"\0" * 200)
    cases = {
        "IMG_1.HEIC: HEIC pictures are not read here": [one, str(tmp_path / "IMG_1.HEIC")],
        "program.png: not a picture": [one, str(tmp_path / "program.png")],
        "at least 2 are needed": [one],
        "21 pictures are too many": [one] * 21,
    }
    for words, pictures in cases.items():
        with pytest.raises(ValueError, match=words):
            things.save(studio, form(tmp_path, pictures=pictures))
    assert studio.names() == []
    same = photo(tmp_path / "again.png", 1)
    added = things.save(studio, form(tmp_path, pictures=[one, photo(tmp_path / "b.png", 2), same]))
    assert any("left out again.png: the same picture as beach.png" in note for note in added.notes), added.notes


def test_uploads_are_kept_as_pixels_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.jpg", exif=exif)
    image = uploads.read_upload(tmp_path / "a.jpg")
    assert image.info == {} and image.size == (64, 48)
    names = uploads.stage_photos([tmp_path / "a.jpg"], tmp_path / "staged")
    assert names == {"1.png": "a.jpg"}
    assert "exif" not in Image.open(tmp_path / "staged" / "1.png").info


def test_a_thing_is_changed_and_copied_with_its_own_pictures(studio: StudioFolder, tmp_path: Path) -> None:
    things.save(studio, form(tmp_path))
    known = things.form_of(studio, "momo")
    things.save(studio, Form(**{**vars(known), "facts": [*known.facts, "it lives at the beach."]}))
    concept = studio.thing("momo")
    assert len(concept.facts) == 2 and len(concept.train_images) + len(concept.test_images) == 4
    twin = things.form_of(studio, "momo", copy=True)
    assert twin.name == "" and twin.replaces == ""
    things.save(studio, Form(**{**vars(twin), "name": "chai"}))
    assert sorted(studio.names()) == ["chai", "momo"]


def test_what_was_deleted_can_be_put_back(studio: StudioFolder, tmp_path: Path) -> None:
    things.save(studio, form(tmp_path))
    before = load_concept(studio.things, "momo")
    key = things.delete(studio, "momo")
    assert studio.names() == [] and things.last_deleted(studio) == (key, "momo")
    assert things.put_back(studio, key) == "momo"
    assert load_concept(studio.things, "momo") == before and studio.names() == ["momo"]
    for wrong in ("../momo", "nosuch", ""):
        with pytest.raises(ValueError):
            things.put_back(studio, wrong)


def test_an_exported_thing_is_its_files(studio: StudioFolder, tmp_path: Path) -> None:
    things.save(studio, form(tmp_path))
    with zipfile.ZipFile(things.export_zip(studio, "momo")) as archive:
        names = archive.namelist()
        info = json.loads(archive.read("concept/train/momo/info.json"))
    assert info["extra_info"] == ["<momo> has a ball."] and "test_data/momo.json" in names


def test_wiping_leaves_nothing_but_what_it_names(studio: StudioFolder, tmp_path: Path) -> None:
    things.save(studio, form(tmp_path))
    studio.lessons.mkdir(parents=True)
    (studio.lessons / "mia.jsonl").write_text('{"fact": "momo/look"}\n')
    found = wipe(studio, "momo")
    assert studio.names() == [] and found.remains == [studio.lessons / "mia.jsonl"]
    left = [path for path in studio.root.rglob("*") if "momo" in path.name]
    assert left == []
    with pytest.raises(ValueError, match="is no id"):
        wipe(studio, "../x")


def test_ids_lead_nowhere_else(studio: StudioFolder) -> None:
    for wrong in ("..", "../x", "/etc/passwd", "a/b", "A", "", "a" * 41, "a\0b"):
        with pytest.raises(ValueError):
            studio.below(studio.drawings, wrong, ".png")
    assert studio.below(studio.drawings, "a-1", ".png") == studio.drawings / "a-1.png"


def test_the_example_has_photos_and_facts(studio: StudioFolder) -> None:
    assert things.add_example(studio) == "bo" == things.add_example(studio)
    assert len(studio.thing("bo").facts) == 3
