from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import warnings
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from concept_samples import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sync_r1.data import write
from sync_r1.data.add import AddedConcept, _split, add_concept_folder
from sync_r1.data.concepts import list_concepts, load_concept
from sync_r1.data.layout import Layout
from sync_r1.data.phrases import drawing_pairs, info_sentence, with_placeholder
from sync_r1.data.pictures import load_image
from sync_r1.data.write import write_concept, write_root

FACTS = ["<bo> has a green raincoat.", "sleeps in a wicker basket."]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        picture(number * 40).save(folder / f"IMG {number + 8}.JPG")
    (folder / ".DS_Store").touch()
    return folder


def add(root: Path, photos: Path, **changes: Any) -> AddedConcept:
    given: dict[str, Any] = {
        "name": "bo",
        "class_noun": "dog",
        "info": "a small grey terrier",
        "facts": FACTS,
    } | changes
    return add_concept_folder(root, pictures=photos, **given)


def test_a_folder_of_photos_becomes_a_concept_that_can_train(tmp_path: Path, photos: Path) -> None:
    write_root(tmp_path / "data", [picture(1), picture(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        added = add(tmp_path / "data", photos)
    bo = added.concept
    assert bo == load_concept(tmp_path / "data", "bo") and list_concepts(tmp_path / "data") == ["bo"]
    assert (bo.category, bo.conversation_type, bo.generation_type, bo.class_noun) == (
        "animal",
        "animal",
        "live_subject",
        "dog",
    )
    assert bo.info == "<bo> is a small grey terrier"
    assert bo.facts == ["<bo> has a green raincoat.", "<bo> sleeps in a wicker basket."]
    assert added.notes == [
        "fact 'sleeps in a wicker basket.' is kept as '<bo> sleeps in a wicker basket.'",
        "the other fact is kept as given",
        "info 'a small grey terrier' is kept as '<bo> is a small grey terrier'",
    ]
    assert [path.name for path in bo.train_images] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert [path.name for path in bo.test_images] == ["0.jpg"]
    assert bo.test_images[0].read_bytes() == (photos / "IMG 11.JPG").read_bytes()
    assert [(item.kind, item.answer, item.image) for item in bo.items] == [
        ("rec", "Yes.", bo.test_images[0]),
        ("rec", "No.", tmp_path / "data" / "random_images" / "0.png"),
    ]
    assert bo.conversations.keys() == {path.name for path in bo.train_images}
    assert bo.conditions.implicit[:3] == [
        "A photo of <bo> with its raincoat.",
        "A photo of <bo>, who sleeps.",
        "A photo of <bo> with its raincoat at home.",
    ]
    assert bo.conditions.explicit[:2] == [
        "A photo of <bo> with its green raincoat.",
        "A photo of <bo>, who sleeps in a wicker basket.",
    ]
    assert list(bo.rl_indices) == [0, 1, 2] and list(bo.test_indices) == [4, 5]
    assert len(bo.conditions.dense) == 2 and len(bo.conditions.dense_implicit) == len(bo.conditions.dense_explicit) == 4


def test_category_and_person_settings(tmp_path: Path, photos: Path) -> None:
    person = add(tmp_path / "a", photos, class_noun="woman", facts=["has a blue hat"]).concept
    assert (person.category, person.conversation_type) == ("person", "human")
    assert person.conditions.implicit[0] == "A photo of <bo> with their hat."
    thing = add(tmp_path / "b", photos, class_noun="axolotl", category="animal").concept
    assert (thing.category, thing.generation_type) == ("animal", "live_subject")


def test_no_negatives_is_said(tmp_path: Path, photos: Path) -> None:
    assert "no pictures in random_images" in add(tmp_path / "data", photos).notes[-1]


def test_copies_and_other_files_are_left_out_and_said(tmp_path: Path, photos: Path) -> None:
    (photos / "IMG 99.jpg").write_bytes((photos / "IMG 8.JPG").read_bytes())
    (photos / "notes.txt").write_text("x")
    added = add(tmp_path / "data", photos)
    assert len(added.concept.train_images) + len(added.concept.test_images) == 6
    assert (
        "left out IMG 99.jpg: the same picture as IMG 8.JPG" in added.notes
        and "left out notes.txt: no picture" in added.notes
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "b<o"}, "concept name 'b<o' is not allowed: use letters or digits of any script"),
        ({"name": "token_3"}, "concept id 'token_3' is taken"),
        ({"class_noun": " "}, "class_noun is ' '; it must be text"),
        ({"info": ""}, "info is ''; it must be text that is not empty"),
        ({"facts": []}, r"facts is \[\]; give a list of at least one private fact"),
        ({"facts": "has a hat"}, "facts is 'has a hat'; give a list"),
        ({"facts": ["ok", ""]}, r"facts\[1\] is ''; it must be text"),
        ({"category": "plant"}, "category is 'plant'; allowed are person, animal, object"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0; it must lie between 0 and 1"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
    ],
)
def test_bad_values_write_nothing(tmp_path: Path, photos: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add(tmp_path / "data", photos, **changes)
    assert not (tmp_path / "data").exists()


def test_bad_pictures_name_the_file_and_write_nothing(tmp_path: Path, photos: Path) -> None:
    def fails(message: str, folder: Path = photos) -> None:
        with pytest.raises(ValueError, match=message):
            add(tmp_path / "data", folder)
        assert not (tmp_path / "data").exists()

    fails("absent: no such folder; pictures must be a folder of .png", tmp_path / "absent")
    (photos / "a.tif").write_bytes(b"x")
    fails("a.tif: file type '.tif' is not supported; convert it to .png, .jpg, .jpeg, .jfif, .webp, .avif")
    (photos / "a.tif").unlink()
    (photos / "b.png").write_bytes(b"x")
    fails("b.png: not a PNG, JPEG, WebP, AVIF or HEIC picture")
    (photos / "b.png").unlink()
    for number in range(9, 14):
        (photos / f"IMG {number}.JPG").unlink()
    fails("photos: different pictures: 1; at least 2 are needed")


def test_photos_in_folders_of_their_own_are_pointed_to(tmp_path: Path, photos: Path) -> None:
    (photos / "summer" / "beach").mkdir(parents=True)
    for number, path in enumerate(sorted(photos.glob("*.JPG"))):
        path.rename((photos / "summer" if number < 4 else photos / "summer" / "beach") / path.name)
    with pytest.raises(ValueError, match=r"photos: its pictures lie in .*: summer \(4\), summer/beach \(2\); name one"):
        add(tmp_path / "data", photos)
    assert len(add(tmp_path / "data", photos / "summer").concept.train_images) == 3


def test_the_notes_say_which_facts_stay(tmp_path: Path, photos: Path) -> None:
    given = ["<bo> has a hat.", "it  has a cup.", "<bo>  has a  scarf.", "<bo> runs."]
    notes = add(tmp_path / "data", photos, facts=given).notes
    assert notes[:2] == ["fact 'it  has a cup.' is kept as '<bo> has a cup.'", "the other 3 facts are kept as given"]
    assert not any("fact" in note for note in add(tmp_path / "more", photos, facts=["<bo> runs."]).notes)


def test_heic_photos_are_kept_as_jpeg(tmp_path: Path, photos: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(picture(250, size=(64, 48))).save(photos / "IMG 1.HEIC")
    bo = add(tmp_path / "data", photos).concept
    assert bo.train_images[0].name == "0.jpg" and load_image(bo.train_images[0]).size == (64, 48)
    with Image.open(bo.train_images[0]) as kept:
        assert kept.format == "JPEG"


@pytest.mark.parametrize("name", ["con", "AUX", "nul", "com1", "Lpt9"])
def test_names_that_windows_cannot_use_are_refused(tmp_path: Path, photos: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"concept name '{name}' cannot be a folder on Windows; choose another"):
        add(tmp_path / "data", photos, name=name)
    assert not (tmp_path / "data").exists()
    assert add(tmp_path / "data", photos, name=f"{name}rad").concept.name == f"{name}rad"


def test_concepts_added_at_once_are_all_there(tmp_path: Path, photos: Path) -> None:
    context = multiprocessing.get_context("fork")
    names = [f"dog{number}" for number in range(4)]
    for round_number in range(3):
        root, gate = tmp_path / f"data{round_number}", context.Barrier(len(names))
        jobs = [context.Process(target=add_behind, args=(gate, root, photos, name)) for name in names]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert [job.exitcode for job in jobs] == [0] * len(names)
        assert sorted(list_concepts(root)) == names
        assert sorted(json.loads((root / "concepts_list.json").read_text())) == names
        assert [load_concept(root, name).name for name in names] == names
        assert not list(root.glob(".dog*"))


def add_behind(gate: Barrier, root: Path, photos: Path, name: str) -> None:
    gate.wait()
    add(root, photos, name=name, facts=[f"<{name}> has a red ball."])


def test_of_two_that_take_one_name_at_once_one_is_refused(tmp_path: Path, photos: Path) -> None:
    root, late = tmp_path / "data", tmp_path / "late"
    add(late, photos, name="Bo")
    late_concept = load_concept(late, "Bo")
    moved = [Layout(root).train("Bo") / path.name for path in late_concept.train_images]
    concept = dataclasses.replace(
        late_concept,
        train_images=moved,
        test_images=[],
        items=[],
    )
    pictures = dict(zip(moved, late_concept.train_images))
    staged = write._stage

    def overtaken(*given: Any) -> None:
        staged(*given)
        if given[0].name == "Bo":
            add(root, photos)  # another process takes the name while this one prepares its files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_stage", overtaken)
        with pytest.raises(ValueError, match="concept name 'Bo' is taken by 'bo'"):
            write_concept(root, concept, pictures)
    assert list_concepts(root) == ["bo"]


def test_a_taken_name_needs_overwrite(tmp_path: Path, photos: Path) -> None:
    root = tmp_path / "data"
    add(root, photos)
    with pytest.raises(ValueError, match=r"concept name 'bo' is taken by 'bo' .*choose another name or overwrite"):
        add(root, photos, info="another")
    with pytest.raises(ValueError, match="concept name 'BO' is taken by 'bo'"):
        add(root, photos, name="BO", overwrite=True)
    assert load_concept(root, "bo").info == "<bo> is a small grey terrier"
    assert add(root, photos, info="another", overwrite=True).concept.info == "<bo> is another"


def test_an_interrupted_write_leaves_no_concept(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = tmp_path / "data", os.rename

    def broken(source: Path, target: Path) -> None:
        if Path(target) == Layout(root).train("bo"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(KeyboardInterrupt):
        add(root, photos)
    monkeypatch.undo()
    assert list_concepts(root) == [] and not list(root.glob(".bo-*")) and not Layout(root).test("bo").exists()
    assert add(root, photos).concept.name == "bo"


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 60), fraction=st.floats(0.001, 0.999))
def test_split_is_complete_and_leaves_both_sides_some(count: int, fraction: float) -> None:
    paths = [Path(str(i)) for i in range(count)]
    train, test = _split(paths, fraction)
    assert train and sorted([*train, *test]) == sorted(paths)
    assert len(test) == min(count - 1, max(1, round(count * fraction)))
    assert (train, test) == _split(paths, fraction)


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("<bo> has a hat.", "<bo> has a hat."),
        ("Bo has a hat.", "<bo> has a hat."),
        ("It has a hat.", "<bo> has a hat."),
        ("has a hat.", "<bo> has a hat."),
        ("<Bo> has a hat.", "<bo> has a hat."),
        ("loves a rainbow and Bob", "<bo> loves a rainbow and Bob"),
        ("The collar of bo is red", "The collar of <bo> is red"),
        ("bo's collar is red", "<bo>'s collar is red"),
    ],
)
def test_facts_get_the_placeholder(fact: str, told: str) -> None:
    assert with_placeholder(fact, "bo") == told


@given(st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_fact_ends_up_with_the_placeholder(fact: str) -> None:
    told = with_placeholder(fact, "bo")
    assert "<bo>" in told and with_placeholder(told, "bo") == told
    assert all("<bo>" in prompt for prompt in drawing_pairs([told], "bo", "object")[0])
    assert info_sentence(fact, "bo").count("<bo>") >= 1


@pytest.mark.parametrize(
    ("fact", "implicit", "explicit"),
    [
        ("<bo> has a green raincoat.", " with its raincoat", " with its green raincoat"),
        ("<bo> wears a red hat with a feather!", " with its hat", " with its red hat with a feather"),
        ("<bo> has a hat.", ", which has", ", which has a hat"),
        ("<bo> stands on a shelf.", ", which stands", ", which stands on a shelf"),
        ("<bo> is broken.", "", ", which is broken"),
        ("<bo>'s lid is blue.", " with its lid", ", whose lid is blue"),
        ("<bo> shines", "", ", which shines"),
    ],
)
def test_prompts_from_facts(fact: str, implicit: str, explicit: str) -> None:
    assert drawing_pairs([fact], "bo", "object") == [(f"A photo of <bo>{implicit}", f"A photo of <bo>{explicit}")]


@pytest.mark.parametrize(
    ("name", "noun"),
    [("Dog", "small dog"), ("dogs", "dog"), ("dog", "Dogs"), ("t-shirt", "t-shirt"), ("glass", "glasses")],
)
def test_a_name_that_is_the_class_noun_is_refused(tmp_path: Path, photos: Path, name: str, noun: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' is also its class noun '{noun}'; choose a name"):
        add(tmp_path / "data", photos, name=name, class_noun=noun)
    assert not (tmp_path / "data").exists()


def test_a_name_with_the_class_noun_in_it_is_fine(tmp_path: Path, photos: Path) -> None:
    assert add(tmp_path / "data", photos, name="maeve_dog").concept.name == "maeve_dog"
