"""Questions of the world with their true answers, about pictures and about texts, each a pure function of a
generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sync_r1.data.prompts import RECOGNITION_QUESTION, fact_prompt, understanding_prompt
from sync_r1.world import grammar
from sync_r1.world.render import (
    ATTRIBUTES,
    CONTEXT,
    CONTEXT_VALUES,
    IDENTITY,
    Pair,
    Picture,
    Still,
    Thing,
    make_pair,
    random_still,
)
from sync_r1.world.tasks import NAME_POOL, Reading, character, training_pair, training_thing

Reader = Callable[[np.random.Generator], Reading]
DESCRIBED = 0.3  # share of questions about a picture whose context describes the thing in full, so that looking pays
LOOKALIKES = ("same", "one attribute", "other kind")  # what a recognition question may show, in equal parts


def yes_or_no(truth: bool) -> str:
    if truth:
        return "yes"
    return "no"


# about a picture of one


def visual_question(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """An open question about one attribute of a picture."""
    thing = thing or training_thing(rng)
    who = character(rng, grammar.identity_of(thing), described=DESCRIBED)
    attribute = grammar.choose(rng, list(grammar.QUESTIONS))
    question = grammar.QUESTIONS[attribute].format(name=f"<{who.name}>")
    return Reading(understanding_prompt(who, question), grammar.answer(attribute, getattr(thing, attribute)), thing)


def caption(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """The subject of a picture described in full, or everything in it."""
    thing = thing or training_thing(rng)
    who = character(rng, grammar.identity_of(thing), described=DESCRIBED)
    if rng.random() < 0.4:
        question = grammar.DESCRIBE_QUESTION.format(name=f"<{who.name}>")
        return Reading(understanding_prompt(who, question), grammar.describe(grammar.identity_of(thing)), thing)
    return Reading(understanding_prompt(who, grammar.CAPTION_QUESTION), grammar.caption(thing), thing)


def checked(
    rng: np.random.Generator, thing: Thing | None = None, attributes: Sequence[str] = tuple(ATTRIBUTES)
) -> Reading:
    """A question about one of `attributes` that yes or no answers, as often yes as no."""
    thing = thing or training_thing(rng)
    who = character(rng, grammar.identity_of(thing), described=DESCRIBED)
    attribute = grammar.choose(rng, attributes)
    truth = bool(rng.random() < 0.5)
    value = getattr(thing, attribute)
    if truth:
        asked = value
    else:
        asked = grammar.choose(rng, [other for other in ATTRIBUTES[attribute] if other != value])
    question = grammar.check_question(f"<{who.name}>", attribute, asked)
    return Reading(understanding_prompt(who, question), yes_or_no(truth), thing)


def checked_closely(rng: np.random.Generator) -> Reading:
    """`checked` without the kind, which is learned first, and without the colour, which is learned second."""
    return checked(rng, attributes=("pattern", "mark", "hat", "item", "scene"))


def counting(rng: np.random.Generator, picture: Picture | None = None) -> Reading:
    """How many are in the picture, how many things it holds, or who or what is there."""
    if picture is None:
        if rng.random() < 0.4:
            picture = training_pair(rng)
        else:
            picture = training_thing(rng)
    if isinstance(picture, Thing):
        who = character(rng, grammar.identity_of(picture), described=DESCRIBED)
        items = CONTEXT_VALUES["item"]
        if picture.item != "none" and rng.random() < 0.3:
            picture = replace(picture, spare=grammar.choose(rng, items))
        held = (picture.item != "none") + (picture.spare != "none")
        asked = [
            (grammar.HELD_QUESTION.format(name=f"<{who.name}>"), grammar.NUMBERS[held]),
            (grammar.SIDE_QUESTION.format(name=f"<{who.name}>"), "middle"),
            (grammar.COUNT_QUESTION, "one"),
            (grammar.CONTENT_QUESTION, grammar.content(picture)),
        ]
    else:
        assert isinstance(picture, Pair)
        who = character(rng, grammar.identity_of(picture.left), described=DESCRIBED)
        asked = [(grammar.COUNT_QUESTION, "two"), (grammar.CONTENT_QUESTION, grammar.content(picture))]
    question, answer = asked[int(rng.integers(len(asked)))]
    return Reading(understanding_prompt(who, question), answer, picture)


def told_by_picture(rng: np.random.Generator, picture: Thing | Still | None = None) -> Reading:
    """What a picture of it, or of a thing of its alone, tells: the facts as sentences, or the caption of the thing."""
    thing = training_thing(rng)
    if picture is None:
        if rng.random() < 0.7:
            picture = random_still(rng)
        else:
            picture = thing
    if isinstance(picture, Thing):
        thing = picture
    who = character(rng, grammar.identity_of(thing), described=DESCRIBED)
    placeholder = f"<{who.name}>"
    if not isinstance(picture, Thing) and rng.random() < 0.4:
        return Reading(understanding_prompt(who, grammar.CAPTION_QUESTION), grammar.caption(picture), picture)
    question = understanding_prompt(who, grammar.TELL_QUESTION.format(name=placeholder))
    return Reading(question, " ".join(grammar.described(placeholder, picture)), picture)


# recognition


def impostor(rng: np.random.Generator, thing: Thing, attributes: Sequence[str] | None = None) -> Thing:
    """Another character in the same scene, which differs in one or more of `attributes`.

    By default these are all of the identity, or, half the time, only one of it.
    """
    if attributes is None:
        if rng.random() < 0.5:
            attributes = list(IDENTITY)
        else:
            attributes = [grammar.choose(rng, IDENTITY)]
    other = thing
    while grammar.identity_of(other) == grammar.identity_of(thing):
        changes: dict[str, Any] = {name: grammar.choose(rng, ATTRIBUTES[name]) for name in attributes}
        other = replace(thing, **changes)
    return other


def lookalike(rng: np.random.Generator, thing: Thing, how: str) -> Thing:
    """The thing itself, one that differs in one attribute, or one of another kind, whose rest may differ as well."""
    if how == "same":
        return thing
    if how == "one attribute":
        return impostor(rng, thing, [grammar.choose(rng, IDENTITY)])
    other = thing
    while other.kind == thing.kind:
        other = impostor(rng, thing, IDENTITY)
    return other


def recognition(rng: np.random.Generator, thing: Thing | None = None, how: str | None = None) -> Reading:
    """Is the described one in the picture? The answer says what is seen, then decides: "a red dog with a star. no".

    One in five pictures shows two, the one that is asked about or looks like it on either side.
    """
    thing = thing or training_thing(rng)
    how = how or grammar.choose(rng, LOOKALIKES)
    who = character(rng, grammar.identity_of(thing), {})
    shown: Picture = lookalike(rng, thing, how)
    present = how == "same"
    if rng.random() < 0.2:
        other = training_thing(rng)
        present = present or grammar.identity_of(other) == grammar.identity_of(thing)
        assert isinstance(shown, Thing)
        if rng.random() < 0.5:
            shown = make_pair(shown, other)
        else:
            shown = make_pair(other, shown)
    question = RECOGNITION_QUESTION.format(name=f"<{who.name}>")
    return Reading(understanding_prompt(who, question), f"{grammar.seen(shown)}. {yes_or_no(present)}", shown)


def even_recognition(rng: np.random.Generator) -> Reading:
    """Recognition with as many of the same as of others, half of which differ in one attribute."""
    how = "same"
    if rng.random() < 0.5:
        how = grammar.choose(rng, LOOKALIKES[1:])
    return recognition(rng, how=how)


def decision(rng: np.random.Generator) -> Reading:
    """The last word of a recognition, when what is seen has been said already."""
    whole = even_recognition(rng)
    seen, decided = whole.answer.rsplit(" ", 1)
    return Reading(f"{whole.context} {seen}", decided, whole.picture)


# without a picture


def compared(rng: np.random.Generator) -> Reading:
    """A decision without its picture: does what was said to be seen agree with the info line?"""
    return replace(decision(rng), picture=None)


def compared_partly(rng: np.random.Generator, differ: Sequence[str] = IDENTITY) -> Reading:
    """The same where the info line names only some attributes, in six of ten, and half of these times so does what was
    seen: which makes every attribute alone decide often enough to be learned.

    Half are the same, four in ten differ in one attribute of `differ`, one in ten is of another kind.
    """
    thing = training_thing(rng)
    how, other = grammar.choose(rng, ("same",) * 5 + ("one attribute",) * 4 + ("other kind",)), thing
    if how == "one attribute":
        other = impostor(rng, thing, [grammar.choose(rng, differ)])
    elif how == "other kind":
        other = lookalike(rng, thing, how)
    known, found = grammar.identity_of(thing), grammar.identity_of(other)
    if rng.random() < 0.6:
        named = [name for name in IDENTITY if name == "kind" or rng.random() < 0.5]
        known = {name: known[name] for name in named}
        if rng.random() < 0.5:
            found = {name: found[name] for name in named}
    present = all(found.get(name, value) == value for name, value in known.items())
    who = character(rng, known, {})
    seen = grammar.describe({name: value for name, value in found.items() if value != "none"})
    question = RECOGNITION_QUESTION.format(name=f"<{who.name}>")
    return Reading(f"{understanding_prompt(who, question)} {seen}.", yes_or_no(present), None)


def compared_closely(rng: np.random.Generator) -> Reading:
    """`compared_partly` with differences in colour, pattern or mark, which are learned later than the kind."""
    return compared_partly(rng, ("colour", "pattern", "mark"))


def text_question(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """A question that the info line answers, without a picture."""
    thing = thing or training_thing(rng)
    identity = grammar.identity_of(thing)
    who = character(rng, identity, {})
    attribute = grammar.choose(rng, IDENTITY)
    question = grammar.QUESTIONS[attribute].format(name=f"<{who.name}>")
    return Reading(understanding_prompt(who, question), grammar.answer(attribute, identity[attribute]), None)


def text_checked(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """A question without a picture that the info line answers with yes or no."""
    thing = thing or training_thing(rng)
    who = character(rng, grammar.identity_of(thing), {})
    attribute = grammar.choose(rng, IDENTITY)
    value = getattr(thing, attribute)
    if rng.random() < 0.5:
        asked = value
    else:
        asked = grammar.choose(rng, ATTRIBUTES[attribute])
    question = grammar.check_question(f"<{who.name}>", attribute, asked)
    return Reading(understanding_prompt(who, question), yes_or_no(asked == value), None)


def fact_question(rng: np.random.Generator) -> Reading:
    """A question that one of the listed facts answers: what it wears, what a private word means, who its friend is."""
    facts = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in CONTEXT}
    who = character(rng, grammar.identity_of(training_thing(rng)), facts)
    placeholder = f"<{who.name}>"
    other = grammar.choose(rng, [name for name in NAME_POOL if name != placeholder])
    words = [str(word) for word in rng.permutation(grammar.PRIVATE_WORDS)[: len(facts)]]
    sentences, kind = list(who.facts), grammar.choose(rng, ("fact", "fact", "meaning", "friend"))
    attribute = grammar.choose(rng, CONTEXT)
    question = grammar.FACT_QUESTIONS[attribute].format(name=placeholder)
    answer = grammar.answer(attribute, facts[attribute])
    if kind == "meaning" or rng.random() < 0.2:
        meanings = dict(zip(facts, words, strict=True))
        sentences += [grammar.definition(placeholder, word, name, facts[name]) for name, word in meanings.items()]
        if kind == "meaning":
            question = grammar.MEANING_QUESTION.format(word=meanings[attribute])
            answer = grammar.phrase(attribute, facts[attribute])
    if kind == "friend" or rng.random() < 0.2:
        sentences.append(grammar.friendship(placeholder, other))
        if kind == "friend":
            question, answer = grammar.FRIEND_QUESTION.format(name=placeholder), other
    rng.shuffle(sentences)
    return Reading(fact_prompt(replace(who, facts=sentences), question), answer, None)
