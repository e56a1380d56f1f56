"""Lessons: what is asked next, what counts as right, which pictures are shown, and what is kept."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps import checked
from sync_r1.apps.check import Check, in_words
from sync_r1.apps.checked import draw_checked, draw_right, reads_its_photos
from sync_r1.apps.learn import Learner, Lesson, facts_of, items, report
from sync_r1.apps.learn.items import Item, Source, make_item, picture_of
from sync_r1.apps.learn.memory import ENOUGH, GUESS, PRIOR, Belief, Memory, traced
from sync_r1.cli import app
from sync_r1.data import load_image
from sync_r1.session import Session
from sync_r1.world.concepts import personas
from tests.helpers import tiny_model

MONDAY = date(2026, 3, 2)
IVO = personas()["ivo"]


@pytest.fixture(scope="module")
def world() -> Session:
    return Session.open(concept="ivo", device="cpu")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Drawings are blank and right; returns the prompts that were drawn."""
    drawn: list[Sequence[str]] = []

    def draw(session: Session, prompts: Sequence[str], seed: int = 0, tries: int = 2) -> list[Image.Image]:
        drawn.append(prompts)
        return [Image.new("RGB", (32, 32), (number, 0, 0)) for number in range(len(prompts))]

    monkeypatch.setattr(items, "draw_right", draw)
    monkeypatch.setattr(items, "reads_its_photos", lambda session: True)
    return drawn


# which fact next


def test_an_answer_moves_what_is_believed() -> None:
    for level in range(3):
        assert traced(PRIOR, True, level) > traced(PRIOR, False, level)
    assert traced(PRIOR, True, 2) > traced(PRIOR, True, 1) > traced(PRIOR, True, 0)  # a typed answer is no guess
    wrong = Belief().after(False, 1, MONDAY)
    right = Belief().after(True, 1, MONDAY)
    later = MONDAY + timedelta(days=10)
    assert wrong.at(later) < right.at(later) < right.at(MONDAY)
    assert (wrong.level, right.level) == (0, 2) and right.after(True, 2, MONDAY).level == len(GUESS) - 1


def test_every_fact_is_asked_before_one_is_asked_again() -> None:
    memory, facts = Memory(), ["a", "b", "c"]
    asked = []
    for _ in range(3):
        choice = memory.choose(facts, MONDAY)
        assert choice.reason == "new"
        memory.answered(choice.fact, True, choice.level, MONDAY)
        asked.append(choice.fact)
    assert asked == facts
    assert memory.choose(facts, MONDAY).reason == f"asked today, known with probability {memory.known('a', MONDAY):.2f}"


def test_what_is_known_waits_until_it_is_due() -> None:
    memory, facts = Memory(), ["known", "missed"]
    for number in (0, 2, 6):
        memory.answered("known", True, 2, MONDAY + timedelta(days=number))
        memory.answered("missed", False, 1, MONDAY + timedelta(days=number))
    memory.last = ""
    tomorrow = MONDAY + timedelta(days=7)
    assert memory.open(facts, tomorrow) == ["missed"] and memory.choose(facts, tomorrow).fact == "missed"
    due = memory.belief("known").due
    assert due is not None and due > tomorrow
    assert memory.open(["known"], due + timedelta(days=30)) == ["known"]
    assert memory.known("known", tomorrow) >= ENOUGH > memory.known("missed", tomorrow)
    with pytest.raises(ValueError, match="nothing to ask"):
        memory.choose([], MONDAY)


# what there is to learn


def test_facts_of_a_thing(world: Session) -> None:
    facts = {fact.name: fact for fact in facts_of(world.concept)}
    assert set(facts) == {"kind", "colour", "pattern", "mark", "hat", "item", "scene", *IVO.meanings}
    assert facts["mark"].answer == f"a {IVO.identity['mark']}" and facts["mark"].question == "What mark does ivo have?"
    assert facts["hat"].sentence == f"ivo wears a {IVO.facts['hat']}." and "<" not in facts["hat"].question
    for word, attribute in IVO.meanings.items():
        assert facts[word].value == IVO.facts[attribute] and facts[word].id == f"ivo/{word}"
    assert facts["hat"].is_answered(f"it wears its {IVO.facts['hat']}") and not facts["hat"].is_answered("a crown")
    assert not facts["hat"].is_answered("")


def test_facts_in_free_words(world: Session) -> None:
    free = dataclasses.replace(
        world.concept, info="<ivo> has a big smile.", facts=["<ivo> has a green raincoat."], class_noun="uncle"
    )
    look, told, *words = facts_of(free)
    assert look.answer == "ivo has a big smile." and told.answer == "ivo has a green raincoat."
    assert told.is_answered("a green raincoat it has") and not told.is_answered("a red bicycle")
    assert told.others([look, told]) == [look.answer] and [word.name for word in words]


# questions


def test_a_question_of_every_level(world: Session, quick: list[Sequence[str]]) -> None:
    facts = facts_of(world.concept)
    hat = next(fact for fact in facts if fact.name == "hat")
    kinds: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for level in kinds:
        for seed in range(12):
            item = make_item(Source(world, True), hat, level, facts, np.random.default_rng(seed))
            kinds[level].add(item.kind)
            if item.choices:
                assert item.right is not None and item.choices[item.right] == hat.answer
                assert len(set(item.choices)) == len(item.choices) == (2, 4)[level]
                assert item.is_right("abcd"[item.right]) and item.is_right(hat.answer.upper())
                assert not item.is_right("abcd"[item.right - 1]) and not item.is_right("")
            else:
                assert item.kind == "which" or item.is_right(f"ivo wearing a {hat.value}")
    assert kinds == {0: {"look"}, 1: {"which", "recall"}, 2: {"recall", "draw"}}


def test_lookalikes_are_one_attribute_away(world: Session, quick: list[Sequence[str]]) -> None:
    mark = next(fact for fact in facts_of(world.concept) if fact.name == "mark")
    made = [make_item(Source(world, True), mark, 1, [], np.random.default_rng(seed)) for seed in range(8)]
    item = next(item for item in made if item.kind == "which")
    prompts = quick[-1]
    assert len(item.pictures) == len(set(prompts)) == 4 and item.right is not None
    assert item.pictures[item.right].getpixel((0, 0)) == (0, 0, 0), "the first that was drawn is the thing itself"
    values = [prompt.split(" with a ")[1].split()[0] for prompt in prompts]
    assert values[0] == IVO.identity["mark"]
    assert len({prompt.replace(value, "…") for prompt, value in zip(prompts, values)}) == 1


def test_pictures_that_are_not_right_are_not_shown(world: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other seeds are tried, then a real photo is taken; a question with look-alikes is asked in words."""
    monkeypatch.setattr(items, "draw_right", lambda *given: None)
    facts = facts_of(world.concept)
    photos = [load_image(path).tobytes() for path in world.concept.train_images]
    assert picture_of(Source(world, True), facts[0], np.random.default_rng(0)).tobytes() in photos
    made = {make_item(Source(world, True), facts[0], 1, facts, np.random.default_rng(seed)).kind for seed in range(12)}
    assert made == {"recall"}


def test_drawing_goes_on_until_nothing_is_wrong(world: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.zeros(64, dtype=bool)
    seen: list[int] = []

    def verdict(session: Session, drawings: Sequence[object], prompt: str) -> list[list[Check]]:
        seen.append(drawings[0].seed)  # type: ignore[attr-defined]
        return [[Check("hat", "a crown", "a crown" if len(seen) >= need else "a cap", cells)]]

    monkeypatch.setattr(checked, "check_all", verdict)
    need, prompt = 2, "a photo of ivo wearing a crown"
    found = draw_checked(world, prompt, seed=7, tries=3)
    assert found.right and found.tries == 2 and found.drawing.seed == 8 and seen == [7, 8]
    need = 99
    found = draw_checked(world, prompt, seed=0, tries=1, described=True)
    assert not found.right and found.tries == 2 and [one.read for one in found.mistakes] == ["a cap"]
    assert found.drawing.prompt == "a photo of <ivo>, a purple striped man with a bolt wearing a crown", (
        "the first is kept"
    )
    assert draw_right(world, [prompt], tries=1) is None
    assert in_words(world, prompt).startswith("a photo of a purple striped man with a bolt wearing")
    with pytest.raises(ValueError, match="tries is 0"):
        draw_checked(world, prompt, tries=0)


def test_a_thing_is_drawn_only_where_its_photos_are_read_right(world: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, wrong = np.zeros(64, dtype=bool), 1

    def verdict(session: Session, photos: Sequence[object], prompt: str) -> list[list[Check]]:
        read = ["a star"] * wrong + ["a bolt"] * (len(photos) - wrong)
        return [[Check("kind", "a man", "a man", cells), Check("mark", "a bolt", one, cells)] for one in read]

    monkeypatch.setattr(checked, "check_all", verdict)
    assert len(world.concept.train_images) == 10 and reads_its_photos(world)
    wrong = 2
    assert not reads_its_photos(world)
    assert not reads_its_photos(dataclasses.replace(world, model=tiny_model(max_text_tokens=60)))
    facts = facts_of(world.concept)
    monkeypatch.setattr(items, "draw_right", lambda *given: pytest.fail("nothing is drawn"))
    source = Source.of(world)
    photos = [load_image(path).tobytes() for path in world.concept.train_images]
    assert picture_of(source, facts[0], np.random.default_rng(0)).tobytes() in photos
    assert items.own_drawing(source, "ivo wearing a crown", np.random.default_rng(0)) is None
    assert make_item(source, facts[4], 1, facts, np.random.default_rng(2)).kind == "recall"


def test_a_model_of_another_world_shows_photos(world: Session) -> None:
    other = dataclasses.replace(world, model=tiny_model(max_text_tokens=60))
    facts = facts_of(other.concept)
    made = [make_item(Source.of(other), facts[0], 1, facts, np.random.default_rng(seed)) for seed in range(8)]
    which = next(item for item in made if item.kind == "which")
    photos = [load_image(path).tobytes() for path in other.concept.train_images]
    shown = [picture.tobytes() in photos for picture in which.pictures]
    assert shown.count(True) == 1 and shown.index(True) == which.right


# lessons


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 18, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


def script(item: Item, misses: str) -> str:
    """Right answers to everything but one fact."""
    if item.fact.name == misses:
        return ""
    return item.fact.answer if item.right is None else "abcd"[item.right]


def test_what_is_missed_is_asked_more_often(world: Session, tmp_path: Path, quick: list[Sequence[str]]) -> None:
    clock, asked = Clock(), {}
    for name, misses in (("mia", "mark"), ("tom", "")):
        lesson = Lesson({"ivo": world}, Learner(name, tmp_path), clock=clock)
        for number in range(32):
            clock.now = datetime(2026, 3, 2 + number // 16, 18, tzinfo=timezone.utc)
            item = lesson.next_item()
            told = lesson.answer(item, script(item, misses))
            assert told.right == (item.fact.name != misses) and item.fact.sentence in told.sentence
        asked[name] = sum(answer.fact == "ivo/mark" for answer in lesson.learner.answers)
    assert asked["mia"] > asked["tom"]
    known = {}
    for name in ("mia", "tom"):
        again = Lesson({"ivo": world}, Learner(name, tmp_path), clock=clock)  # read back from the file
        known[name] = {row.fact: row.known for row in report(again.learner, again.facts, clock().date())}
        assert again.next_day is not None
    assert known["mia"]["ivo/mark"] < known["tom"]["ivo/mark"]


def test_answers_survive_a_half_written_line(tmp_path: Path, world: Session, quick: list[Sequence[str]]) -> None:
    lesson = Lesson({"ivo": world}, Learner("mia", tmp_path))
    lesson.answer(lesson.next_item(), "a")
    path = tmp_path / "mia.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"time": "2026-')
    again = Lesson({"ivo": world}, Learner("mia", tmp_path))
    assert len(again.learner.answers) == 1
    again.answer(again.next_item(), "a")
    assert len(Learner("mia", tmp_path).answers) == 2
    again.learner.reset()
    assert Learner("mia", tmp_path).answers == [] and len(path.read_text(encoding="utf-8").splitlines()) == 4
    path.write_text('{"time": "2026-03-02", "fact": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"mia.jsonl, line 1: this is no answer"):
        Learner("mia", tmp_path)


def test_mistakes_are_explained(world: Session, tmp_path: Path, quick: list[Sequence[str]]) -> None:
    with pytest.raises(ValueError, match=r"learner is '\.\./x'"):
        Learner("../x", tmp_path)
    lesson = Lesson({"ivo": world}, Learner("mia", tmp_path))
    with pytest.raises(ValueError, match="the answer has 501 letters; at most 500"):
        lesson.answer(lesson.next_item(), "x" * 501)
    with pytest.raises(ValueError, match="there is no learner 'mia' to delete"):
        lesson.learner.delete()
    with pytest.raises(ValueError, match="name at least one concept"):
        Lesson({}, Learner("mia", tmp_path))


def test_command(tmp_path: Path, quick: list[Sequence[str]]) -> None:
    """A lesson from a pipe, the report, a table that is safe to open, and everything removed."""
    given = ["learn", "--learner", "mia", "--folder", str(tmp_path / "lessons")]
    thing = ["--concept", "ivo", "--device", "cpu"]

    def run(*options: str, text: str = "") -> str:
        return CliRunner().invoke(app, [*given, *options], input=text, catch_exceptions=False).output

    said = run(*thing, "--questions", "3", text=f"=SUM(A1)\n{'x' * 501}\n\nq\n")
    assert "1. What is ivo?   (new)" in said and "error: the answer has 501 letters" in said
    assert "0 of 2 right" in said and len(list((tmp_path / "lessons" / "mia").glob("*_answer.png"))) == 2
    assert "ivo/kind" in run(*thing, "--report") and "0/1" in run(*thing, "--report")
    table = tmp_path / "mia.csv"
    run("--csv", str(table))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["given"] for row in rows] == ["'=SUM(A1)", ""]
    run("--reset")
    assert "0/0" in run(*thing, "--report") and "0/1" not in run(*thing, "--report")
    run("--delete")
    assert not any((tmp_path / "lessons").iterdir())


def test_the_adaptive_choice_is_better_in_the_published_figures() -> None:
    """docs/learners.json: every interval against round robin and random lies above zero; the page shows these."""
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "applications.md").read_text(encoding="utf-8")
    figures = json.loads((docs / "learners.json").read_text(encoding="utf-8"))
    for kind in ("mastery", "half-life", "activation"):
        for course, delays in figures[kind].items():
            for delay, found in delays.items():
                gains = [found["adaptive over"][way] for way in ("round robin", "random")]
                assert all(gain["ci95"][0] > 0 for gain in gains), (kind, course, delay)
            shown = delays["a day later"]
            row = f"| {kind}, {course.split()[0]} | {shown['known']['adaptive']:.3f} |"
            gain = shown["adaptive over"]["round robin"]
            low, high = gain["ci95"]
            assert row in text and f"| {gain['difference']:+.3f} [{low:+.3f}, {high:+.3f}] |" in text
