"""Writing concepts: what joins, what is replaced, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from concept_samples import picture, sample_concept
from filelock import FileLock
from PIL import Image

from sync_r1.data import Concept, Conditions, Layout, list_concepts, load_concept, write, write_concept, write_root
from sync_r1.folder_lock import LOCK, InUse


def test_pictures_beside_the_photos_are_written_and_checked(root: Path) -> None:
    concept, layout = sample_concept(root), Layout(root)
    beside = [layout.negatives("zed") / "0.png", layout.cropped("zed") / "0.png"]
    write_concept(root, concept, {path: picture(3) for path in beside}, overwrite=True)
    assert all(path.is_file() for path in beside) and load_concept(root, "zed") == concept
    with pytest.raises(ValueError, match=r"negative_example/1.png: 8x8 px is too small"):
        write_concept(root, concept, {layout.negatives("zed") / "1.png": picture(size=(8, 8))}, overwrite=True)


def test_root_files_are_written_once(tmp_path: Path) -> None:
    write_root(tmp_path, [picture(1)])
    (tmp_path / "concepts_list.json").write_text('["kept"]')
    write_root(tmp_path)
    assert json.loads((tmp_path / "concepts_list.json").read_text()) == ["kept"]
    assert json.loads((tmp_path / "template.json").read_text()) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "black_512x512.png", "concept", "concepts_list.json", "random_images", "template.json",
    ]  # fmt: skip


def test_a_refused_concept_leaves_no_trace(root: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        there = place.exists()
        with pytest.raises(ValueError):
            write_concept(place, sample_concept(place), {Layout(place).train("zed") / "99.png": picture(1)})
        assert place.exists() == there and not (there and any(place.iterdir()))


def test_overwriting_replaces_pictures_and_a_second_concept_joins(root: Path) -> None:
    concept = sample_concept(root)
    fewer: Concept = dataclasses.replace(concept, train_images=concept.train_images[:1], conversations={})
    write_concept(root, fewer, overwrite=True)
    assert load_concept(root, "zed") == fewer
    other = dataclasses.replace(
        concept,
        name="yip",
        facts=["<yip> runs."],
        train_images=[Layout(root).train("yip") / "0.png"],
        test_images=[],
        conversations={},
        items=[],
        conditions=Conditions(),
        num_testing_info=0,
    )
    write_concept(root, other, {other.train_images[0]: picture()})
    assert load_concept(root, "yip") == other and list_concepts(root) == ["zed", "yip"]


def test_a_data_root_that_another_process_writes_to_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "WAIT_S", 0.1)
    before = load_concept(root, "zed")
    with (
        FileLock(root / LOCK),
        pytest.raises(InUse, match=r"in use by .*; wait until it ends, stop it, or write to an"),
    ):
        write_concept(root, dataclasses.replace(before, info="<zed> is another."), overwrite=True)
    assert load_concept(root, "zed") == before and not list(root.glob(".zed-*"))


def test_a_picture_is_converted_where_the_types_differ(root: Path, tmp_path: Path) -> None:
    picture(90).save(tmp_path / "a.avif")
    concept = dataclasses.replace(sample_concept(root), conversations={})
    write_concept(root, concept, {concept.train_images[0]: tmp_path / "a.avif"}, overwrite=True)
    with Image.open(concept.train_images[0]) as kept:
        assert kept.format == "PNG" and kept.size == picture(90).size
