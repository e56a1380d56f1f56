"""Questions about two or three characters whose descriptions are given, and about pictures of two, with their true
answers, each a pure function of a generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sync_r1.data.prompts import several_prompt, understanding_prompt
from sync_r1.world import grammar
from sync_r1.world.readings import DESCRIBED, impostor, yes_or_no
from sync_r1.world.render import ATTRIBUTES, IDENTITY, Pair, Thing
from sync_r1.world.tasks import NAME_POOL, Character, Reading, character, training_pair, training_thing


def introduced(rng: np.random.Generator, things: Sequence[Thing]) -> list[Character]:
    """Every thing in full, each with a name of its own."""
    names = [str(name) for name in rng.permutation(NAME_POOL)[: len(things)]]
    return [
        character(rng, grammar.identity_of(thing), described=1.0, name=name)
        for thing, name in zip(things, names, strict=True)
    ]


def pair_question(rng: np.random.Generator, pair: Pair | None = None) -> Reading:
    """Who is where, who has what, what is on a side, do they agree: about two whose descriptions are given."""
    pair = pair or training_pair(rng)
    things = [thing for _, thing in pair.sides]
    known = introduced(rng, things)
    context = [known[int(index)] for index in rng.permutation(2)]
    question, answer = _pair_question(rng, pair, [f"<{who.name}>" for who in known])
    return Reading(several_prompt(context, question), answer, pair)


def introduced_partly(rng: np.random.Generator, things: Sequence[Thing]) -> list[Character]:
    """Every thing by its kind and now and then by some attributes, so that one word alone tells them apart."""
    names = [str(name) for name in rng.permutation(NAME_POOL)[: len(things)]]
    known = []
    for thing, name in zip(things, names, strict=True):
        identity = grammar.identity_of(thing)
        some = {key: value for key, value in identity.items() if key == "kind" or rng.random() < 0.2}
        known.append(character(rng, some, described=1.0, name=name))
    return known


def pair_question_partly(rng: np.random.Generator) -> Reading:
    """`pair_question` about two of different kinds, of which little but the kinds is known."""
    while True:
        pair = training_pair(rng)
        if pair.left.kind != pair.right.kind:
            break
    known = introduced_partly(rng, [thing for _, thing in pair.sides])
    context = [known[int(index)] for index in rng.permutation(2)]
    question, answer = _pair_question(rng, pair, [f"<{who.name}>" for who in known])
    return Reading(several_prompt(context, question), answer, pair)


def _pair_question(rng: np.random.Generator, pair: Pair, names: Sequence[str]) -> tuple[str, str]:
    kind = grammar.choose(rng, ("side", "on side", "who", "who on side", "who has", "same", "attribute", "check"))
    index = int(rng.integers(2))
    side, thing = pair.sides[index]
    if kind == "side":
        return grammar.SIDE_QUESTION.format(name=names[index]), side
    if kind == "on side":
        return grammar.ON_SIDE_QUESTION.format(side=side), grammar.describe(grammar.identity_of(thing))
    if kind == "who":
        return grammar.WHO_QUESTION, " and ".join(names)
    if kind == "who on side":
        return grammar.WHO_ON_SIDE_QUESTION.format(side=side), names[index]
    if kind == "same":
        attribute = grammar.choose(rng, list(grammar.SAME_QUESTIONS))
        same = getattr(pair.left, attribute) == getattr(pair.right, attribute)
        return grammar.SAME_QUESTIONS[attribute], yes_or_no(same)
    attribute = grammar.choose(rng, (*IDENTITY, "hat"))
    value = getattr(thing, attribute)
    if kind == "attribute":
        return grammar.QUESTIONS[attribute].format(name=names[index]), grammar.answer(attribute, value)
    if kind == "check":
        if rng.random() < 0.5:
            asked = value
        else:
            asked = grammar.choose(rng, ATTRIBUTES[attribute])
        return grammar.check_question(names[index], attribute, asked), yes_or_no(asked == value)
    both = getattr(pair.left, attribute) == getattr(pair.right, attribute)
    return grammar.who_question(attribute, value), " and ".join(names) if both else names[index]


def pair_caption(rng: np.random.Generator, pair: Pair | None = None) -> Reading:
    """Everything in a picture of two."""
    pair = pair or training_pair(rng)
    who = character(rng, grammar.identity_of(pair.left), described=DESCRIBED)
    return Reading(understanding_prompt(who, grammar.CAPTION_QUESTION), grammar.caption(pair), pair)


def who_of_mine(rng: np.random.Generator) -> Reading:
    """Which of two or three known ones is in a picture of one, or none of them."""
    things = [training_thing(rng) for _ in range(2 + int(rng.integers(2)))]
    known = introduced(rng, things)
    shown = int(rng.integers(len(things) + 1))
    names = [f"<{who.name}>" for who in known]
    if shown < len(things):
        picture = things[shown]
    else:
        picture = impostor(rng, things[0])
    matching = [
        name
        for name, thing in zip(names, things, strict=True)
        if grammar.identity_of(thing) == grammar.identity_of(picture)
    ]
    return Reading(several_prompt(known, grammar.WHO_QUESTION), " and ".join(matching) or "none", picture)


def who_of_mine_partly(rng: np.random.Generator) -> Reading:
    """Which of two known ones of different kinds is in a picture of one; little but the kinds is known."""
    things = two_kinds(rng)
    known = introduced_partly(rng, things)
    shown = int(rng.integers(2))
    context = [known[int(index)] for index in rng.permutation(2)]
    return Reading(several_prompt(context, grammar.WHO_QUESTION), f"<{known[shown].name}>", things[shown])


def two_kinds(rng: np.random.Generator) -> list[Thing]:
    """Two training things of different kinds."""
    while True:
        things = [training_thing(rng), training_thing(rng)]
        if things[0].kind != things[1].kind:
            return things


def introduced_question(rng: np.random.Generator) -> Reading:
    """Without a picture: who of two is something, and what one of two is."""
    things = two_kinds(rng)
    if rng.random() < 0.5:
        known = introduced(rng, things)
        differing = [name for name in IDENTITY if getattr(things[0], name) != getattr(things[1], name)]
    else:
        known, differing = introduced_partly(rng, things), ["kind"]
    index, attribute = int(rng.integers(2)), grammar.choose(rng, differing)
    name, value = f"<{known[index].name}>", getattr(things[index], attribute)
    if rng.random() < 0.6:
        question, answer = grammar.who_question(attribute, value), name
    else:
        question, answer = grammar.QUESTIONS[attribute].format(name=name), grammar.answer(attribute, value)
    context = [known[int(place)] for place in rng.permutation(2)]
    return Reading(several_prompt(context, question), answer, None)
