"""The review file: mistakes in it are named, and what a person may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.data import Layout
from sync_r1.unifybench.builder.apply import apply_review, look_alikes, problems
from sync_r1.unifybench.builder.propose import TestSet, build_test_set
from sync_r1.unifybench.builder.review_file import read_review
from tests.unifybench.builder.conftest import noise, reviewed


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (("shows_it: "
            "true"), ("shows_it: "
                "perhaps"), r"line \d+: field 'recognition\[0\].shows_it' is 'perhaps'; it must be true or false"),
        ("  - fact: 1\n", "  - fact: 9\n", r"field 'test\[0\].fact' is '9'; it must be the number of a fact, 1 to 4"),
        ("  - fact: 1\n", "  - fakt: 1\n", r"field 'test\[0\].fakt' is unknown; did you mean fact\?"),
        (("  - fact: 1\n    implicit: "
            "A photo of <zed>"), "  - fact: 1\n    implicit: A photo", r"test\[0\].*implicit prompt lacks <zed>"),
        ("concept: zed\n", "concept: zed\nconcept: zed\n", "field 'concept' is twice, before on line "),
        ("concept: zed\n", "", "field 'concept' is missing"),
        (("  1: <zed> has "
            "a green"), "  1: <zed> has a blue", "field 'facts': they are not those of .*info.json; build again"),
        ("question: Where does", "question: [x", r"line \d+, column \d+: not valid YAML"),
        ("answer: A dog.", "answer:", r"field 'questions\[3\].answer' is ''; it must be text that is not empty"),
        ("photo: random_images/0.png", "photo: concept/train/zed/0.png", r"recognition\[\d\].*is a training photo"),
        ("photo: random_images/0.png", "photo: random_images/99.png", r"recognition\[\d\].*no such picture"),
        ("photo: random_images/0.png", "photo: ../photos/0.png", r"must be a picture below"),
        ("question: Where does <zed> sleep?", "question: What do you know about <zed>?", "is asked in training"),
        ("held_out: []", "held_out: [99.png]", r"held_out\[0\].*must be a training photo"),
        ("on a forest path", "at home", r"field 'test\[0\]': is like a training prompt"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_line_and_field(root: Path, old: str, new: str, message: str) -> None:
    path = reviewed(root)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    before = Layout(root).conditions("zed").read_bytes()
    with pytest.raises(ValueError, match=message):
        apply_review(path)
    assert Layout(root).conditions("zed").read_bytes() == before and not (root / "review" / "zed-before").exists()


def test_line_numbers_are_right(root: Path) -> None:
    path = reviewed(root)
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith("dense:")) + 1
    lines[number] = "  - A dog, in the snow, at night."
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"zed.yaml, line {number + 1}: field 'dense\[0\]': lacks <zed>"):
        apply_review(path)


def test_more_test_pairs_than_training_pairs(root: Path) -> None:
    made, _ = read_review(reviewed(root))
    assert made == TestSet(**{**vars(build_test_set(root, "zed")), "notes": []})
    made.train = made.train[:3]
    assert any(
        field == "train" and "3 training pairs for 12 test pairs" in message for field, message in problems(root, made)
    )
    made.train, made.test = [], [*made.test, made.test[0]]
    assert ("test[12]", "repeats the implicit prompt of test[0]") in problems(root, made)


def test_what_a_person_may_do_but_probably_did_not_mean(root: Path) -> None:
    path = reviewed(root)
    text = path.read_text()
    path.write_text(
        text.replace(
            "implicit: A photo of <zed> with its raincoat on a forest", "implicit: <zed>, green raincoat, on a forest"
        )
    )
    assert any("test[0]: the implicit prompt gives fact 1 away" in doubt for doubt in apply_review(path).doubts)


def test_photos_of_one_moment_are_pointed_out(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    image = noise(1).resize((96, 96))
    image.save(paths[0])
    image.crop((1, 1, 96, 96)).save(paths[1])
    noise(2).resize((96, 96)).save(paths[2])
    assert look_alikes([paths[0], paths[2]], [paths[1]]) == ["b.png: looks nearly like the training photo a.png"]
