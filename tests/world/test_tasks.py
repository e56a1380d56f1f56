"""What pretraining is taught is true of the pictures and facts it is taught with."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from sync_r1.world import grammar, tasks
from sync_r1.world.render import CONTEXT, Pair, Still, random_thing

NAME = re.compile("|".join(tasks.NAME_POOL))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_drawing_prompts_fit_their_pictures_and_take_every_form() -> None:
    forms = set()
    for seed in range(200):
        item = tasks.drawing(rng(seed))
        mentioned = grammar.parse(item.text)
        assert mentioned.items() <= vars(item.picture).items()
        assert mentioned["kind"] == item.picture.kind
        named = NAME.search(item.text)
        described = not named or item.text[named.end() :].startswith((", a ", ", an "))
        forms.add((named is not None, described))
        if named:
            words = item.text[: named.start()].removeprefix("a ").split("of ", 1)[1].split()
            assert len(words) == tasks.SOFT_TOKENS and item.picture.kind in words
    assert forms == {(False, True), (True, False), (True, True)}
    thing = random_thing(rng(1))
    assert tasks.drawing(rng(2), thing).picture == thing


def test_training_things_often_wear_and_hold_nothing() -> None:
    things = [tasks.training_thing(rng(seed)) for seed in range(300)]
    for name in ("hat", "item"):
        assert 0.3 < np.mean([getattr(thing, name) == "none" for thing in things]) < 0.5


def test_a_character_is_described_in_full_when_facts_are_listed() -> None:
    identity, facts = (
        {"kind": "dog", "colour": "red", "pattern": "plain", "mark": "star"},
        {"hat": "cap", "scene": "snow"},
    )
    for seed in range(20):
        who = tasks.character(rng(seed), identity, facts)
        assert f"<{who.name}>" in tasks.NAME_POOL
        assert who.info == f"<{who.name}> is a red plain dog with a star."
        assert sorted(who.facts) == [f"<{who.name}> lives in the snow.", f"<{who.name}> wears a cap."]
    assert {tasks.character(rng(seed), identity).info.split(" is ")[1] for seed in range(20)} == {
        "a dog.",
        "a red plain dog with a star.",
    }


def test_prompts_for_two_name_the_left_one_first() -> None:
    for seed in range(100):
        item = tasks.pair_drawing(rng(seed))
        assert isinstance(item.picture, Pair)
        left, right = grammar.subjects(item.text)
        assert {name: left[name] for name in left if name != "scene"}.items() <= vars(item.picture.left).items()
        assert {name: right[name] for name in right if name != "scene"}.items() <= vars(item.picture.right).items()
        assert left["kind"] == item.picture.left.kind and right["kind"] == item.picture.right.kind
        assert left.get("scene", item.picture.scene) == right.get("scene", item.picture.scene) == item.picture.scene


def test_pretraining_draws_one_two_and_things_alone() -> None:
    kinds = [type(tasks.any_drawing(rng(seed)).picture) for seed in range(400)]
    assert 0.2 < kinds.count(Pair) / 400 < 0.4 and 0.01 < kinds.count(Still) / 400 < 0.1


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
        assert item.picture is None and spelled.items() <= answered.items()
        assert added.items() <= facts_in(item.context).items()
        assert len(added) == len(private.findall(prompt)) + len(plain.findall(prompt))
        kinds |= {kind for kind, pattern in (("private", private), ("plain", plain)) if pattern.search(prompt)} or {
            "neither"
        }
    assert kinds == {None: {"private", "plain", "neither"}, True: {"private"}, False: {"plain"}}[ambiguous]


def test_private_words_are_ambiguous_in_pretraining() -> None:
    """The same words mean different facts for different people, so a model must ask to know."""
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


def test_defined_words_mean_what_a_fact_says() -> None:
    for seed in range(60):
        item = tasks.defined_rewriting(rng(seed))
        facts, prompt = item.context.split("facts: ")[1].split("\nrewrite: ")
        words = re.findall(r"with its (\w+)", prompt)
        assert words
        for word in words:
            (meaning,) = re.findall(rf"its {word} means ([^.]*)\.", facts)
            assert meaning in item.answer


def test_a_friend_is_the_other_of_the_fact() -> None:
    for seed in range(40):
        item = tasks.friend_rewriting(rng(seed))
        name, other = re.findall(r"(<\w+>) and (<\w+>) are friends", item.context)[0]
        assert name != other and f"{name} and {other}" in item.answer and "with its friend" in item.context
        assert item.answer.replace(f" and {other}", " with its friend") in item.context


def test_everything_follows_from_the_generator() -> None:
    makers: list[Callable[[np.random.Generator], object]] = [
        tasks.training_thing,
        tasks.drawing,
        tasks.any_drawing,
        tasks.defined_rewriting,
        tasks.friend_rewriting,
        tasks.rewriting,
    ]
    for make in makers:
        assert make(rng(5)) == make(rng(5))
        assert len({repr(make(rng(seed))) for seed in range(10)}) > 5


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a red dog with a star wearing a cap at the beach",
        "a photo of <bo>, a red dog and <ana>, a girl wearing a bow in a room",
        "<bo> is a red dog. <ana> is a girl. a photo of <bo> and <ana>",
        "a photo of dog dog dog dog<kip> and cat cat<lou> at the beach",
    ],
)
def test_one_or_two_characters_may_be_asked_for(text: str) -> None:
    grammar.check_subjects(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a photo of a dog and a cat and a girl", "3 characters \\(dog, cat, girl\\)"),
        ("a photo of a dog, a cat and <ana>", "3 characters \\(dog, cat, <ana>\\)"),
        ("<a> and <b> and <c> and <d>", "4 characters"),
    ],
)
def test_three_characters_are_refused(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=found + ".*the embedded world draws two at most"):
        grammar.check_subjects(text)
