"""What pretraining is taught is true of the pictures and facts it is taught with."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from sync_r1.world import grammar, tasks
from sync_r1.world.render import ATTRIBUTES, CONTEXT, IDENTITY, random_thing

NAME = re.compile("|".join(tasks.NAME_POOL))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_drawing_prompts_fit_their_pictures_and_take_every_form() -> None:
    forms = set()
    for seed in range(200):
        item = tasks.drawing(rng(seed))
        mentioned = grammar.parse(item.text)
        assert mentioned.items() <= vars(item.thing).items()
        assert mentioned["kind"] == item.thing.kind
        named = NAME.search(item.text)
        described = not named or item.text[named.end() :].startswith((", a ", ", an "))
        forms.add((named is not None, described))
        if named:
            words = item.text[: named.start()].removeprefix("a ").split("of ", 1)[1].split()
            assert len(words) == tasks.SOFT_TOKENS and item.thing.kind in words
    assert forms == {(False, True), (True, False), (True, True)}
    thing = random_thing(rng(1))
    assert tasks.drawing(rng(2), thing).thing == thing


def test_training_things_often_wear_and_hold_nothing() -> None:
    things = [tasks.training_thing(rng(seed)) for seed in range(300)]
    for name in ("hat", "item"):
        assert 0.3 < np.mean([getattr(thing, name) == "none" for thing in things]) < 0.5


def test_somebody_is_described_in_full_when_facts_are_listed() -> None:
    identity, facts = (
        {"kind": "dog", "colour": "red", "pattern": "plain", "mark": "star"},
        {"hat": "cap", "scene": "snow"},
    )
    for seed in range(20):
        who = tasks.somebody(rng(seed), identity, facts)
        assert f"<{who.name}>" in tasks.NAME_POOL
        assert who.info == f"<{who.name}> is a red plain dog with a star."
        assert sorted(who.facts) == [f"<{who.name}> lives in the snow.", f"<{who.name}> wears a cap."]
    assert {tasks.somebody(rng(seed), identity).info.split(" is ")[1] for seed in range(20)} == {
        "a dog.",
        "a red plain dog with a star.",
    }


def question_of(reading: tasks.Reading) -> str:
    """The question with the name taken out: "Where is {name}?"."""
    return NAME.sub("{name}", reading.context.splitlines()[-1].removesuffix(" ASSISTANT:"))


def test_visual_questions_are_answered_by_the_picture() -> None:
    asked = set()
    for seed in range(150):
        thing = random_thing(rng(seed))
        subject = grammar.describe(grammar.identity_of(thing))
        answers = {question: grammar.answer(name, getattr(thing, name)) for name, question in grammar.QUESTIONS.items()}
        answers[grammar.DESCRIBE_QUESTION] = subject
        answers[grammar.CAPTION_QUESTION] = grammar.scene_prompt("a photo of", subject, grammar.context_of(thing))
        item = tasks.visual_question(rng(seed), thing)
        asked.add(question_of(item))
        assert (item.thing, item.answer) == (thing, answers[question_of(item)])
    assert asked == set(answers)


def test_text_questions_are_answered_by_the_info_line() -> None:
    for seed in range(60):
        thing = random_thing(rng(seed))
        item = tasks.text_question(rng(seed), thing)
        attribute = next(name for name in IDENTITY if grammar.QUESTIONS[name] == question_of(item))
        assert item.thing is None
        assert item.answer == grammar.answer(attribute, getattr(thing, attribute))
        assert grammar.describe(grammar.identity_of(thing)) in item.context


def test_recognition_says_yes_to_the_described_thing_only() -> None:
    answers = []
    for seed in range(60):
        thing = random_thing(rng(seed))
        item = tasks.recognition(rng(seed), thing)
        assert grammar.describe(grammar.identity_of(thing)) in item.context and item.thing is not None
        assert (item.answer == "yes") == (grammar.identity_of(item.thing) == grammar.identity_of(thing))
        answers.append(item.answer)
    assert 20 < answers.count("yes") < 40 and set(answers) == {"yes", "no"}


def test_an_impostor_differs_in_identity_only() -> None:
    differences = set()
    for seed in range(50):
        thing = random_thing(rng(seed))
        other = tasks.impostor(rng(seed), thing)
        assert grammar.context_of(other) == grammar.context_of(thing)
        differences.add(sum(getattr(other, name) != getattr(thing, name) for name in IDENTITY))
    assert 0 not in differences and 1 in differences and max(differences) > 1


def test_implicit_pair_by_hand() -> None:
    facts = {"hat": "crown", "item": "fish", "scene": "snow"}
    references = [("item", "with its joy"), ("hat", "with its pride")]
    assert tasks.implicit_pair("a photo of", "<bo>", facts, references, {"scene": "beach"}, dense=True) == (
        "a photo of <bo>, with its joy, with its pride, at the beach",
        "a photo of <bo>, wearing a crown, holding a fish, at the beach",
    )
    assert (
        tasks.implicit_pair("a photo of", "<bo>", facts, [("scene", "with its joy")], {})[1]
        == "a photo of <bo> in the snow"
    )


def facts_in(context: str) -> dict[str, str]:
    return grammar.parse(context.split("facts: ")[1].split("\n")[0])


@pytest.mark.parametrize("ambiguous", [None, True, False])
def test_rewrites_follow_from_the_facts(ambiguous: bool | None) -> None:
    """What the answer adds to the prompt are listed facts.

    The words that ask for them are private, plain, or either.
    """
    private = re.compile("with its (" + "|".join(grammar.PRIVATE_WORDS) + ")")
    plain = re.compile("|".join(grammar.PLAIN_REFERENCES.values()))
    kinds = set()
    for seed in range(150):
        item = tasks.rewriting(rng(seed), ambiguous=ambiguous)
        prompt = item.context.split("rewrite: ")[1].removesuffix(" ASSISTANT:")
        spelled, answered = grammar.parse(prompt), grammar.parse(item.answer)
        added = {name: value for name, value in answered.items() if name not in spelled}
        assert item.thing is None and spelled.items() <= answered.items()
        assert added.items() <= facts_in(item.context).items()
        assert len(added) == len(private.findall(prompt)) + len(plain.findall(prompt))
        kinds |= {kind for kind, pattern in (("private", private), ("plain", plain)) if pattern.search(prompt)} or {
            "neither"
        }
    assert kinds == {None: {"private", "plain", "neither"}, True: {"private"}, False: {"plain"}}[ambiguous]


def test_private_words_are_ambiguous_in_pretraining() -> None:
    """The same words mean different facts for different people, so nobody can know without asking."""
    meant = dict.fromkeys(CONTEXT, 0)
    for seed in range(300):
        item = tasks.rewriting(rng(seed), ambiguous=True)
        prompt = item.context.split("rewrite: ")[1]
        if prompt.count("with its") != 1:
            continue
        added = set(grammar.parse(item.answer)) - set(grammar.parse(prompt))
        assert len(added) == 1
        meant[added.pop()] += 1
    assert min(meant.values()) > 30, meant


def test_everything_follows_from_the_generator() -> None:
    makers: list[Callable[[np.random.Generator], object]] = [
        tasks.training_thing,
        tasks.drawing,
        tasks.visual_question,
        tasks.text_question,
        tasks.recognition,
        tasks.rewriting,
    ]
    for make in makers:
        assert make(rng(5)) == make(rng(5))
        assert len({repr(make(rng(seed))) for seed in range(10)}) > 5
    assert set(IDENTITY) | set(CONTEXT) == set(ATTRIBUTES)
