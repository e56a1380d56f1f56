"""Test sets for a user's own concept: what is proposed, what a person may change, and what never leaks."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from sync_r1.commands.unifybench_builder import register
from sync_r1.data import QA, Concept, Layout, add_concept_folder, check_root, load_concept, write_root
from sync_r1.data.warm_up_items import derived_items
from sync_r1.unifybench.builder.apply import apply_review, look_alikes, problems
from sync_r1.unifybench.builder.chat_writer import ChatWriter
from sync_r1.unifybench.builder.fact_templates import read_fact, single_pairs, tell_apart
from sync_r1.unifybench.builder.propose import Sizes, TestSet, build_test_set
from sync_r1.unifybench.builder.review_file import read_review, review_path, write_review
from sync_r1.unifybench.builder.rules import Pair, alike, content_words, malformed, normal, repeats, told
from sync_r1.unifybench.tasks import TASKS, runnable
from tests.scorers.fake_endpoint import Body, Response, config, endpoint

FACTS = [
    "<zed> has a green raincoat.",
    "<zed> sleeps in a wicker basket.",
    "<zed>'s favourite toy is a rubber duck.",
    "<zed> is five years old.",
]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(6):
        noise(number).save(photos / f"{number}.png")
    write_root(folder / "data", [noise(100 + number) for number in range(6)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add_concept_folder(folder / "data", "zed", photos, "dog", "a small grey terrier", FACTS)
    return folder / "data"


@pytest.fixture
def root(added: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(added, tmp_path / "data"))


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def reviewed(root: Path, **changes: Any) -> Path:
    """A review file of the proposal, with some of its lists changed."""
    path = write_review(review_path(root, "zed"), build_test_set(root, "zed"))
    if changes:
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("fact", "implicit", "explicit", "question"),
    [
        (
            "<zed> has a green raincoat.",
            "with its raincoat",
            "with its green raincoat",
            "What kind of raincoat does <zed> have?",
        ),
        (
            "<zed> always wears red boots",
            "wearing its boots",
            "wearing its red boots",
            "What kind of boots does <zed> wear?",
        ),
        ("<zed> wears a hat.", "wearing something of its own", "wearing its hat", "What does <zed> wear?"),
        ("<zed>'s collar is red.", "with its collar", "with its red collar", "What is <zed>'s collar?"),
        ("<zed>'s toy is a duck", "with its toy", "with a duck as its toy", "What is <zed>'s toy?"),
        ("<zed> loves peanut butter.", "with what it loves", "with peanut butter", "What does <zed> love?"),
        (
            "<zed> sleeps in a box.",
            "at the place where it sleeps",
            "in a box where it sleeps",
            "Where does <zed> sleep?",
        ),
        (
            "<zed> was born in Hanoi.",
            "at the place where it was born",
            "in Hanoi where it was born",
            "Where was <zed> born?",
        ),
        (
            "<zed> is afraid of cats.",
            "with what it is afraid of",
            "with cats that it is afraid of",
            "What is <zed> afraid of?",
        ),
        (
            "<zed>'s favourite tea is smoked lapsang.",
            "with its favourite tea",
            "with smoked lapsang as its favourite tea",
            "What is <zed>'s favourite tea?",
        ),
        ("<zed>'s collar is dark red.", "with its collar", "with its dark red collar", "What is <zed>'s collar?"),
        ("<zed> carries a bag, and a rope", "carrying something of its own", "", ""),
        (
            "<zed> plays with a ball.",
            "with what it plays with",
            "with a ball that it plays with",
            "What does <zed> play with?",
        ),
        ("<zed> never barks.", None, "", ""),
        ("<zed> is five years old.", None, "", ""),
    ],
)
def test_facts_become_hints_and_questions(fact: str, implicit: str | None, explicit: str, question: str) -> None:
    hints, asked = read_fact(fact, "zed", "animal")
    if implicit is None:
        assert not hints and not asked
    elif question:
        assert (hints[0].implicit, hints[0].explicit, asked[0].question) == (implicit, explicit, question)
        assert told(Pair(f"<zed> {implicit}", f"<zed> {explicit}", (0,)), [fact], "<zed>") is None
    assert all("," not in hint.explicit for hint in hints)  # a comma would begin a clause of its own


def test_people_are_they_and_equal_hints_tell_nothing() -> None:
    assert read_fact("<ana> carries a red bag.", "ana", "person")[0][0].explicit == "carrying their red bag"
    assert read_fact("<ana> is allergic to nuts.", "ana", "person")[0][0].implicit == "with what they are allergic to"
    hats = [
        read_fact(fact, "zed", "animal")[0]
        for fact in ("<zed> has a red hat.", "<zed> has a blue hat.", "<zed> has a green coat.")
    ]
    assert [len(own) for own in tell_apart(hats)] == [0, 0, 1]


def test_rules() -> None:
    facts = ["<zed> has a green raincoat."]
    good = Pair("A photo of <zed> in its raincoat.", "A photo of <zed> in its green raincoat.", (0,))
    assert malformed(good, "<zed>") is None and told(good, facts, "<zed>") is None
    assert "gives fact 1 away (green, raincoat)" in str(told(Pair(good.explicit, good.explicit, (0,)), facts, "<zed>"))
    assert "leaves out green" in str(told(Pair(good.implicit, good.implicit, (0,)), facts, "<zed>"))
    assert "explicit prompt lacks <zed>" in str(malformed(Pair(good.implicit, "A dog in its green raincoat."), "<zed>"))
    assert "the same" in str(malformed(Pair(good.implicit, good.implicit.upper().replace("<ZED>", "<zed>")), "<zed>"))
    assert content_words("<zed> sleeps, sleeping and carries", "<zed>") == content_words("sleep carrying it")
    assert alike("A photo of <zed> in its raincoat!", "a picture of <zed> with the raincoat", "<zed>")
    assert not alike(
        "A photo of <zed> in its raincoat in a kitchen.", "A photo of <zed> in its raincoat on a bench.", "<zed>"
    )
    assert repeats(Pair("<zed> by a lake", good.explicit), [good], "<zed>")


def test_a_scene_never_tells_a_fact() -> None:
    hints = [read_fact("<zed> has an old workshop.", "zed", "animal")[0]]
    texts = [pair.implicit for pair in single_pairs(hints, ["<zed> has an old workshop."], "<zed>", train=False)]
    assert texts and not any("in a workshop" in text for text in texts)


def no_leaks(concept: Concept) -> None:
    tests = (
        [concept.conditions.implicit[i] for i in concept.test_indices]
        + concept.conditions.dense_implicit
        + concept.conditions.dense
    )
    trained = concept.conditions.implicit[: concept.test_indices.start]
    assert not any(alike(test, train, concept.placeholder) for test in tests for train in trained)
    assert not set(concept.rl_indices) & set(concept.test_indices) and concept.overlap == 0
    assert not set(concept.train_images) & {item.image for item in concept.items} | set(concept.train_images) & set(
        concept.test_images
    )


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


def chat(body: Body, _: int) -> Response | str:
    """A model that mixes good proposals with every kind of bad one."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    if not isinstance(content, str):
        assert content[1]["image_url"]["url"].startswith("data:image/png")
        return json.dumps(
            {
                "questions": [
                    {"question": "What is behind <zed>?", "answer": "noise"},
                    {"question": "Where?", "answer": "x"},
                ]
            }
        )
    if "The fact: <zed> is five" in text:
        good = {
            "implicit": "A photo of <zed> with a cake for its age",
            "explicit": "A photo of <zed>, five years old, with a cake.",
        }
        bad = [
            {"implicit": "A photo of <zed>, five years old.", "explicit": "A photo of <zed>, now five years old."},
            {"implicit": "A photo of a dog at its age.", "explicit": "A photo of <zed>, five years old."},
            {"implicit": "A photo of <zed> on its birthday.", "explicit": "A photo of <zed>, six years old."},
            {
                "implicit": "A photo of <zed>, with a cake for its age!",
                "explicit": "A photo of <zed>, five years old, and a cake.",
            },
        ]
        return json.dumps({"pairs": [good, *bad]})
    if "The fact:" in text:
        return Response(status=400, text="no")
    if "pairs of long" in text:
        row = {
            "implicit": "<zed> in its raincoat, where it sleeps, at noon",
            "explicit": "<zed> in its green raincoat, it sleeps in a wicker basket, at noon",
        }
        return json.dumps({"pairs": [{**row, "facts": [1, 2]}, {**row, "facts": [1]}, {**row, "facts": [1, 7]}]})
    if "long drawing prompts" in text:
        return json.dumps(
            {"prompts": ["A photo of <zed>, running, on ice.", "A photo of <zed>.", "A dog, on ice, at noon."]}
        )
    return json.dumps(
        {
            "questions": [
                {"question": "How old is <zed>?", "answer": "Five years old"},
                {"question": "Who?", "answer": "x"},
            ]
        }
    )


def test_a_model_proposes_and_templates_fill_up(root: Path) -> None:
    with endpoint(chat) as server:
        made = build_test_set(root, "zed", writer=ChatWriter(config(server, max_retries=0)))
    aged = [pair for pair in made.test if pair.facts == (3,)]
    assert [pair.implicit for pair in aged] == ["A photo of <zed> with a cake for its age."]
    assert (
        Counter(pair.facts for pair in made.test) == {(0,): 4, (1,): 4, (2,): 4, (3,): 1}
        and made.made_by == "eyes-1 and templates"
    )
    assert made.dense_pairs[0].facts == (0, 1) and len(made.dense_pairs) == 12 and len(made.dense) == 12
    assert (
        made.dense[0] == "A photo of <zed>, running, on ice."
        and QA("How old is <zed>?", "Five years old.") in made.questions
    )
    assert {row.question for row in made.photo_questions} == {"What is behind <zed>?", "What does <zed> look like?"}
    notes = " | ".join(made.notes)
    for reason in (
        "1 proposals left out: the implicit prompt gives",
        "the implicit prompt lacks",
        "the explicit prompt leaves out",
    ):
        assert reason in notes
    assert (
        "it asks what another prompt asks" in notes
        and "3 × no reply" in notes
        and "2 × dense pairs that name no two facts" in notes
    )
    apply_review(write_review(review_path(root, "zed"), made))
    no_leaks(load_concept(root, "zed"))


def test_a_dead_endpoint_leaves_the_templates(root: Path) -> None:
    writer = ChatWriter(config("http://127.0.0.1:9/v1", max_retries=0))
    made, plain = build_test_set(root, "zed", writer=writer), build_test_set(root, "zed")
    assert (made.test, made.dense, made.questions) == (plain.test, plain.dense, plain.questions)
    assert any("no reply" in note for note in made.notes)


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
