"""Every answer that pretraining is taught is true of the picture or the text that the question is about."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from sync_r1.scorers.text import recognition
from sync_r1.world import grammar, pair_readings, readings
from sync_r1.world.render import ATTRIBUTES, IDENTITY, Pair, Still, Thing, make_pair, random_pair, random_thing
from sync_r1.world.tasks import NAME_POOL, Reading

NAME = re.compile("|".join(NAME_POOL))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def question_of(reading: Reading) -> str:
    """The question with names taken out: "Where is {name}?"."""
    return NAME.sub("{name}", reading.context.splitlines()[-1].removesuffix(" ASSISTANT:"))


def introduced_in(reading: Reading) -> dict[str, dict[str, str]]:
    """name → attributes of its info line."""
    lines = re.findall(r"info: (<\w+>) is (.*)\.", reading.context)
    return {name: grammar.parse(description) for name, description in lines}


def test_open_questions_are_answered_by_the_picture() -> None:
    asked = set()
    for seed in range(120):
        thing = random_thing(rng(seed))
        answers = {question: grammar.answer(name, getattr(thing, name)) for name, question in grammar.QUESTIONS.items()}
        item = readings.visual_question(rng(seed), thing)
        asked.add(question_of(item))
        assert (item.picture, item.answer) == (thing, answers[question_of(item)])
    assert asked == set(grammar.QUESTIONS.values())


def test_captions_name_everything_in_the_picture() -> None:
    asked = set()
    for seed in range(40):
        thing = random_thing(rng(seed))
        item = readings.caption(rng(seed), thing)
        asked.add(question_of(item))
        wanted = IDENTITY if question_of(item) == grammar.DESCRIBE_QUESTION else ATTRIBUTES
        seen = {name: getattr(thing, name) for name in wanted}
        context = {name: "none" for name in ("hat", "item") if seen.get(name) == "none"}
        assert {**grammar.parse(item.answer), **context} == seen
    assert asked == {grammar.DESCRIBE_QUESTION, grammar.CAPTION_QUESTION}


def test_yes_and_no_are_true_and_as_frequent() -> None:
    answers = []
    for seed in range(200):
        thing = random_thing(rng(seed))
        item = readings.checked(rng(seed), thing)
        name = item.context.split("name: ")[1].split("\n")[0]
        true = {grammar.check_question(f"<{name}>", key, getattr(thing, key)) for key in ATTRIBUTES}
        question = item.context.splitlines()[-1].removesuffix(" ASSISTANT:")
        assert (item.answer == "yes") == (question in true)
        answers.append(item.answer)
    assert 80 < answers.count("yes") < 120 and set(answers) == {"yes", "no"}


def test_counts_are_those_of_the_picture() -> None:
    seen = set()
    for seed in range(200):
        item = readings.counting(rng(seed))
        question = question_of(item)
        if question == grammar.HELD_QUESTION:
            assert isinstance(item.picture, Thing)
            held = [value for value in (item.picture.item, item.picture.spare) if value != "none"]
            assert item.answer == ("none", "one", "two")[len(held)]
        if question == grammar.COUNT_QUESTION:
            assert item.answer == ("two" if isinstance(item.picture, Pair) else "one")
        if question == grammar.CONTENT_QUESTION and isinstance(item.picture, Pair):
            assert [f"{left} and {right}" for left, right in [_nouns(item.picture)]] == [item.answer]
        seen.add((question, item.answer if question != grammar.CONTENT_QUESTION else ""))
    assert {(grammar.HELD_QUESTION, "two"), (grammar.HELD_QUESTION, "none"), (grammar.COUNT_QUESTION, "two")} <= seen


def _nouns(pair: Pair) -> tuple[str, str]:
    return grammar.with_article(pair.left.kind), grammar.with_article(pair.right.kind)


def test_a_picture_tells_facts() -> None:
    stills = 0
    for seed in range(80):
        item = readings.told_by_picture(rng(seed))
        if question_of(item) != grammar.TELL_QUESTION:
            continue
        if isinstance(item.picture, Still):
            stills += 1
            verb = "wears" if item.picture.attribute == "hat" else "carries"
            assert re.fullmatch(rf"<\w+> {verb} an? {item.picture.what}\.", item.answer)
        else:
            assert isinstance(item.picture, Thing)
            worn = {name: value for name, value in grammar.context_of(item.picture).items() if value != "none"}
            assert grammar.parse(item.answer) == worn
    assert stills > 20


@pytest.mark.parametrize("seed", range(8))
def test_questions_about_two_by_their_own_descriptions(seed: int) -> None:
    """Who stands where and who has what follows from the info lines and the picture alone."""
    for offset in range(40):
        item = pair_readings.pair_question(rng(1000 * seed + offset))
        assert isinstance(item.picture, Pair)
        names = introduced_in(item)
        sides = {}
        for name, known in names.items():
            for side, thing in item.picture.sides:
                if known == dict(grammar.identity_of(thing).items()):
                    sides[name] = side
        assert set(sides) == set(names)
        question, asked = question_of(item), NAME.findall(item.context.splitlines()[-1])
        if question == grammar.SIDE_QUESTION:
            assert sides[asked[0]] == item.answer
        elif question.startswith("Who is on the"):
            side = question.removesuffix("?").rsplit(" ", 1)[1]
            assert dict(item.picture.sides)[side] == dict(item.picture.sides)[sides[item.answer]]
        elif question.startswith("What is on the"):
            side = question.removesuffix("?").rsplit(" ", 1)[1]
            assert item.answer == grammar.describe(grammar.identity_of(dict(item.picture.sides)[side]))
        elif question in grammar.SAME_QUESTIONS.values():
            key = next(name for name, text in grammar.SAME_QUESTIONS.items() if text == question)
            same = getattr(item.picture.left, key) == getattr(item.picture.right, key)
            assert (item.answer == "yes") == same
        elif question.startswith("Who is in"):
            assert [sides[name] for name in item.answer.split(" and ")] == ["left", "right"]
        elif question.startswith("Who"):
            told = {
                name
                for name in names
                for key in (*IDENTITY, "hat")
                if grammar.who_question(key, getattr(dict(item.picture.sides)[sides[name]], key)) == question
            }
            assert set(item.answer.split(" and ")) == told


def test_which_of_mine_is_the_one_whose_description_fits() -> None:
    answers = []
    for seed in range(80):
        item = pair_readings.who_of_mine(rng(seed))
        assert isinstance(item.picture, Thing)
        fits = [name for name, known in introduced_in(item).items() if known == grammar.identity_of(item.picture)]
        assert item.answer == (" and ".join(fits) or "none")
        answers.append(item.answer)
    assert 10 < answers.count("none") < 45


def test_recognition_looks_and_then_decides() -> None:
    decided = []
    for seed in range(150):
        thing = random_thing(rng(seed))
        item = readings.recognition(rng(seed), thing)
        assert item.picture is not None and not isinstance(item.picture, Still)
        seen, _, decision = item.answer.rpartition(". ")
        assert seen == grammar.seen(item.picture)
        shown = [item.picture] if isinstance(item.picture, Thing) else [side for _, side in item.picture.sides]
        present = grammar.identity_of(thing) in [grammar.identity_of(one) for one in shown]
        assert decision == ("yes" if present else "no")
        assert recognition(item.answer, "Yes.") == float(present) and recognition(item.answer, "No.") == float(
            not present
        )
        decided.append(decision)
    assert 30 < decided.count("yes") < 75  # a third shows the same one


@pytest.mark.parametrize(("how", "differing"), [("same", {0}), ("one attribute", {1}), ("other kind", {1, 2, 3, 4})])
def test_lookalikes_differ_as_much_as_they_say(how: str, differing: set[int]) -> None:
    for seed in range(50):
        thing = random_thing(rng(seed))
        other = readings.lookalike(rng(seed), thing, how)
        assert grammar.context_of(other) == grammar.context_of(thing)
        assert sum(getattr(other, name) != getattr(thing, name) for name in IDENTITY) in differing
        if how == "other kind":
            assert other.kind != thing.kind


def test_an_impostor_differs_in_identity_only() -> None:
    differences = set()
    for seed in range(50):
        thing = random_thing(rng(seed))
        other = readings.impostor(rng(seed), thing)
        assert grammar.context_of(other) == grammar.context_of(thing)
        differences.add(sum(getattr(other, name) != getattr(thing, name) for name in IDENTITY))
    assert 0 not in differences and 1 in differences and max(differences) > 1


def test_the_info_line_answers_text_questions() -> None:
    checks = []
    for seed in range(60):
        thing = random_thing(rng(seed))
        for maker in (readings.text_question, readings.text_checked):
            item = maker(rng(seed), thing)
            assert item.picture is None and grammar.describe(grammar.identity_of(thing)) in item.context
            question = item.context.splitlines()[-1].removesuffix(" ASSISTANT:")
            name = NAME.findall(question)[0]
            true = {grammar.check_question(name, key, getattr(thing, key)) for key in IDENTITY}
            if maker is readings.text_checked:
                assert item.answer == ("yes" if question in true else "no")
                checks.append(item.answer)
                continue
            key = next(key for key in IDENTITY if grammar.QUESTIONS[key].format(name=name) == question)
            assert item.answer == grammar.answer(key, getattr(thing, key))
    assert 20 < checks.count("yes") < 50


def test_the_facts_answer_fact_questions() -> None:
    kinds = set()
    for seed in range(150):
        item = readings.fact_question(rng(seed))
        facts, question = item.context.split("facts: ")[1].split("\n")
        if question.startswith("Who"):
            assert re.search(rf"<\w+> and {item.answer} are friends", facts)
        elif "mean" in question:
            word = re.findall(r"its (\w+) mean", question)[0]
            assert f"its {word} means {item.answer}." in facts
        else:
            assert f" {item.answer}." in facts
        kinds.add(question.split()[0])
    assert kinds == {"Who", "What", "Where"}


def test_everything_follows_from_the_generator() -> None:
    makers: list[Callable[[np.random.Generator], object]] = [
        readings.visual_question,
        readings.caption,
        readings.checked,
        readings.counting,
        readings.told_by_picture,
        pair_readings.pair_question,
        pair_readings.pair_caption,
        pair_readings.pair_question_partly,
        pair_readings.who_of_mine,
        pair_readings.who_of_mine_partly,
        pair_readings.introduced_question,
        readings.checked_closely,
        readings.recognition,
        readings.text_question,
        readings.text_checked,
        readings.fact_question,
    ]
    for make in makers:
        assert make(rng(5)) == make(rng(5))


def test_a_pair_caption_names_both() -> None:
    pair = random_pair(rng(3))
    item = pair_readings.pair_caption(rng(1), pair)
    left, right = grammar.subjects(item.answer)
    for side, told in (("left", left), ("right", right)):
        thing = dict(pair.sides)[side]
        assert {name: told[name] for name in IDENTITY} == grammar.identity_of(thing)
        assert told.get("hat", "none") == thing.hat and told["scene"] == pair.scene
    assert make_pair(pair.left, pair.right) == pair


def test_a_name_and_its_description_belong_together() -> None:
    asked = set()
    for seed in range(60):
        item = pair_readings.introduced_question(rng(seed))
        known = dict(re.findall(r"info: (<\w+>) is (.+)\.", item.context))
        question = item.context.split("\n")[-1].removesuffix(" ASSISTANT:")
        assert item.picture is None and len(known) == 2
        if question.startswith("Who"):
            words = {word for word in question.removesuffix("?").split()[2:] if word not in ("a", "an", "no")}
            having = [name for name, told in known.items() if words <= set(told.split())]
            assert item.answer in having and (len(having) == 1 or " no " in question)
        else:
            (name,) = re.findall(r"<\w+>", question)
            assert set(item.answer.split()) <= set(known[name].split())
        asked.add(question.split()[0])
    assert asked == {"Who", "What"}


def test_who_is_shown_is_told_by_the_kind() -> None:
    for seed in range(30):
        item = pair_readings.who_of_mine_partly(rng(seed))
        assert isinstance(item.picture, Thing)
        described = dict(re.findall(r"info: (<\w+>) is (.+)\.", item.context))
        shown = [name for name, told in described.items() if item.picture.kind in told.split()]
        assert shown == [item.answer]


def test_what_is_asked_closely_is_neither_kind_nor_colour() -> None:
    for seed in range(40):
        question = readings.checked_closely(rng(seed)).context.split("\n")[-1]
        for value in (*ATTRIBUTES["kind"], *ATTRIBUTES["colour"]):
            assert f" {value}?" not in question
