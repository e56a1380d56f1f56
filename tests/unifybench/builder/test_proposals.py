"""Test sets for a user's own concept: what is proposed, how it is applied, and what never leaks."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sync_r1.commands.unifybench_builder import register
from sync_r1.data import QA, Layout, check_root, load_concept
from sync_r1.data.warm_up_items import derived_items
from sync_r1.unifybench.builder.apply import apply_review
from sync_r1.unifybench.builder.propose import Sizes, build_test_set
from sync_r1.unifybench.builder.review_file import review_path, write_review
from sync_r1.unifybench.builder.rules import normal
from sync_r1.unifybench.tasks import TASKS, runnable
from tests.unifybench.builder.conftest import no_leaks, noise, put, reviewed


def test_a_proposal_is_used_only_after_apply_and_leaks_nothing(root: Path) -> None:
    before = load_concept(root, "zed", allow_empty_facts=True)
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    made = build_test_set(root, "zed")
    assert made == build_test_set(root, "zed")
    assert Counter(pair.facts for pair in made.test) == {(0,): 4, (1,): 4, (2,): 4}
    assert (
        all(len(pair.facts) > 1 and pair.implicit.count(",") > 2 for pair in made.dense_pairs)
        and len(made.dense_pairs) == 12
    )
    assert any("no pair for fact 4" in note for note in made.notes) and any(
        "takes the place of 4" in note for note in made.notes
    )
    path = write_review(review_path(root, "zed"), made)
    assert {file: file.read_bytes() for file in files} == files  # nothing else changed
    done = apply_review(path)
    concept = load_concept(root, "zed")
    assert concept == done.concept and not done.report.errors and not done.report.doubts
    no_leaks(concept)
    assert set(runnable(concept)) == set(TASKS) and check_root(root).usable
    old = [before.conditions.implicit[i] for i in range(before.test_indices.start)]
    kept = concept.conditions.implicit[: concept.test_indices.start]
    assert kept[: len(set(old))] == list(dict.fromkeys(old)) != kept  # what runs may have been trained on
    assert (root / "review" / "zed-before" / "t2i_conditions.json").read_bytes() == files[
        Layout(root).conditions("zed")
    ]
    assert QA("Where does <zed> sleep?", "In a wicker basket.") in made.questions
    again = build_test_set(root, "zed")
    assert (again.train, again.test, again.questions, again.recognition) == (
        made.train,
        made.test,
        made.questions,
        made.recognition,
    )


def test_photos_are_held_out_where_none_is_for_testing(root: Path) -> None:
    layout = Layout(root)
    for path in layout.test("zed").iterdir():
        path.unlink()
    layout.test("zed").rmdir()
    layout.items("zed").unlink()
    first = load_concept(root, "zed").train_images
    for path in first:
        noise(7).save(path.with_name(f"{path.stem}_mask.png"))
        layout.cropped("zed").mkdir(exist_ok=True)
        Image.open(path).save(layout.cropped("zed") / path.name)
    layout.negatives("zed").mkdir()
    noise(200).save(layout.negatives("zed") / "0.png")
    put(
        layout.stage(1, "zed"),
        [{"image": str(first[0]), "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}],
    )
    put(
        layout.conversations("zed"),
        {path.name: [{"query": f"What is in photo {path.stem}?", "answer": "A."}] for path in first},
    )
    made = build_test_set(root, "zed", Sizes(test_fraction=0.4))
    assert len(made.held_out) == 2 and first[0].name not in made.held_out
    assert {row.photo.rsplit("/", 1)[1] for row in made.photo_questions} == set(made.held_out)
    assert "concept/train/zed/negative_example/0.png" in [row.photo for row in made.recognition if not row.shows_it]
    apply_review(write_review(review_path(root, "zed"), made))
    concept = load_concept(root, "zed")
    assert [path.name for path in concept.test_images] == ["0.png", "1.png"] and len(concept.train_images) == len(
        first
    ) - 2
    assert set(concept.conversations) == {path.name for path in concept.train_images}
    left = {
        path.stem.removesuffix("_mask")
        for path in [*layout.cropped("zed").iterdir(), *layout.train("zed").glob("*.png")]
    }
    assert left == {path.stem for path in concept.train_images} and (layout.negatives("zed") / "0.png").is_file()
    no_leaks(concept)


def test_a_concept_with_photos_only(root: Path) -> None:
    for path in (Layout(root).conditions("zed"), Layout(root).items("zed"), Layout(root).conversations("zed")):
        path.unlink()
    made = build_test_set(root, "zed")
    assert len(made.train) == len(made.test) == 12 and not made.held_out and not made.photo_questions
    apply_review(write_review(review_path(root, "zed"), made))
    no_leaks(load_concept(root, "zed"))


def test_questions_that_are_there_stay_and_the_warm_up_leaves_them_out(root: Path) -> None:
    path = Layout(root).items("zed")
    asked = [("What is <zed>?", "A dog."), ("Who is a friend of <zed>?", "Mia.")]
    items = [
        {"type": "text_only", "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}
        for q, a in asked
    ]
    put(path, [*json.loads(path.read_text()), *items])
    made = build_test_set(root, "zed")
    assert made.questions[:2] == [QA(*pair) for pair in asked]
    trained = [turn.question for item in derived_items(root, load_concept(root, "zed")) for turn in item.turns]
    assert trained and not {question for question, _ in asked} & set(trained)


@pytest.mark.parametrize("moves", [1, 2, 4])
def test_all_of_it_is_written_or_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    path = reviewed(root)
    files = {file: file.read_bytes() for file in (root / "concept").rglob("*") if file.is_file()}
    rename, done = os.rename, []

    def fails(source: Path, target: Path) -> None:
        done.append(target)
        if len(done) == moves:
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="disk full"):
        apply_review(path)
    assert {file: file.read_bytes() for file in (root / "concept").rglob("*") if file.is_file()} == files
    assert [left.name for left in root.iterdir() if left.name.startswith(".")] == [".lock"]


def test_commands(root: Path) -> None:
    app = typer.Typer()
    register(app)

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    before = Layout(root).conditions("zed").read_bytes()
    assert (
        "12 test pairs" in said("build", str(root), "--concept", "all")
        and Layout(root).conditions("zed").read_bytes() == before
    )
    with pytest.raises(
        ValueError,
        match=r"zed\.yaml: there already, perhaps with your edits; apply it, or build again with --overwrite",
    ):
        said("build", str(root), "--concept", "zed")
    with pytest.raises(ValueError, match="--judge-url and --model go together"):
        said("build", str(root), "--concept", "zed", "--judge-url", "http://localhost:1")
    assert "<zed> can be tested: 12 test prompts, 12 for training" in said("apply", str(review_path(root, "zed")))
    said("build", str(root), "--concept", "zed", "--overwrite", "--yes", "--per-fact", "2")
    assert len(load_concept(root, "zed").test_indices) == 6


def test_other_concepts_of_an_archive_without_index_stay_readable(root: Path) -> None:
    layout = Layout(root)
    shutil.copytree(layout.train("zed"), layout.train("yip"))
    layout.info("yip").write_text(layout.info("yip").read_text().replace("zed", "yip"))
    layout.train_images.unlink()
    before = {name: load_concept(root, name).train_images for name in ("zed", "yip")}
    apply_review(reviewed(root))
    assert {name: load_concept(root, name).train_images for name in ("zed", "yip")} == before


def test_repeated_training_prompts_stay_once(root: Path) -> None:
    path = Layout(root).conditions("zed")
    conditions = json.loads(path.read_text())
    implicit = conditions["personalized_driven_generation"]
    implicit[2], implicit[6] = implicit[3], implicit[7]
    path.write_text(json.dumps(conditions))
    made = build_test_set(root, "zed")
    texts = [normal(pair.implicit) for pair in made.train]
    assert len(set(texts)) == len(texts) and any("2 training prompts left out" in note for note in made.notes)
