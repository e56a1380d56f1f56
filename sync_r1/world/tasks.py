"""Drawing and rewriting in the world, each item a pure function of a random generator; readings.py and pair_readings.py
ask questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sync_r1.data.prompts import rewrite_prompt
from sync_r1.world import grammar
from sync_r1.world.render import (
    ATTRIBUTES,
    CONTEXT,
    CONTEXT_VALUES,
    Pair,
    Picture,
    Thing,
    make_pair,
    random_still,
    random_thing,
)

NAMES = "kip lou max nia oto pia quin ravi suki tess ugo vera wim xen yara zeb".split()
NAME_POOL = tuple(f"<{name}>" for name in NAMES)
SOFT_TOKENS = 4  # words before the name in a drawing prompt, later the concept's soft tokens


@dataclass(frozen=True)
class Drawing:
    """A prompt and a picture that fits it."""

    text: str
    picture: Picture


@dataclass(frozen=True)
class Edit(Drawing):
    """A drawing in which all but the place of one attribute is known from another picture, `before`."""

    before: Thing
    attribute: str


@dataclass(frozen=True)
class Reading:
    """A context (with or without a picture) and the text that should follow."""

    context: str
    answer: str
    picture: Picture | None


@dataclass(frozen=True)
class Character:
    """A concept as prompts see it."""

    name: str
    info: str
    facts: list[str]


def training_thing(rng: np.random.Generator) -> Thing:
    """A random thing whose identity pretraining may see; four in ten wear nothing, four in ten hold nothing."""
    while True:
        thing = random_thing(rng)
        if not grammar.held_out(grammar.identity_of(thing)):
            break
    return replace(
        thing,
        hat="none" if rng.random() < 0.3 else thing.hat,
        item="none" if rng.random() < 0.3 else thing.item,
    )


def training_pair(rng: np.random.Generator) -> Pair:
    """Two training things in one place."""
    return make_pair(training_thing(rng), training_thing(rng))


def subject_of(rng: np.random.Generator, thing: Thing) -> str:
    """How a prompt mentions a thing: a description, or keywords and a name (the shape of a personal concept), or both
    (the shape of what `look` draws)."""
    identity = grammar.identity_of(thing)
    form = rng.random()
    some = {name: value for name, value in identity.items() if name == "kind" or rng.random() < 0.75}
    subject = grammar.describe(some)
    if form > 0.4:
        subject = " ".join(grammar.keywords(rng, identity, SOFT_TOKENS)) + grammar.choose(rng, NAME_POOL)
    if form > 0.75:
        subject += ", " + grammar.describe(some)
    return subject


def drawing(rng: np.random.Generator, thing: Thing | None = None) -> Drawing:
    """A prompt for `thing`, or for a random one."""
    thing = thing or training_thing(rng)
    subject = subject_of(rng, thing)
    context = grammar.context_of(thing)
    if rng.random() < 0.15:
        del context["scene"]
    opening, dense = grammar.choose(rng, grammar.OPENINGS), rng.random() < 0.3
    return Drawing(grammar.scene_prompt(opening, subject, context, dense), thing)


def pair_drawing(rng: np.random.Generator, pair: Pair | None = None) -> Drawing:
    """A prompt for two, the left one first."""
    pair = pair or training_pair(rng)
    subjects = [subject_of(rng, thing) for _, thing in pair.sides]
    opening, dense, place = grammar.choose(rng, grammar.OPENINGS), rng.random() < 0.3, rng.random() < 0.85
    return Drawing(grammar.pair_prompt(opening, subjects, pair, dense, place), pair)


def still_drawing(rng: np.random.Generator) -> Drawing:
    """A prompt for a hat or an item alone."""
    still = random_still(rng)
    subject, scene = grammar.with_article(still.what), {"scene": still.scene}
    return Drawing(grammar.scene_prompt(grammar.choose(rng, grammar.OPENINGS), subject, scene), still)


def changed(rng: np.random.Generator, thing: Thing, attribute: str) -> Thing:
    """The thing with another value of an attribute; another hat or held thing is always one, never none."""
    values = CONTEXT_VALUES.get(attribute, ATTRIBUTES[attribute])
    change: dict[str, Any] = {
        attribute: grammar.choose(rng, [one for one in values if one != getattr(thing, attribute)])
    }
    return replace(thing, **change)


def edit(rng: np.random.Generator) -> Edit:
    """A prompt for a thing of which one attribute was changed; the prompt names the new value."""
    while True:
        before, attribute = training_thing(rng), grammar.choose(rng, list(ATTRIBUTES))
        after = changed(rng, before, attribute)
        if not grammar.held_out(grammar.identity_of(after)):
            return Edit(grammar.caption(after), after, before, attribute)


def any_drawing(rng: np.random.Generator, pairs: float = 0.3, edits: float = 0.0) -> Drawing:
    """What pretraining draws: one character, in a share `pairs` of the prompts two, in a share `edits` an edit, now and
    then a thing alone."""
    kind = rng.random()
    if kind < pairs:
        return pair_drawing(rng)
    if kind < pairs + 0.04:
        return still_drawing(rng)
    if kind < pairs + 0.04 + edits:
        return edit(rng)
    return drawing(rng)


def character(
    rng: np.random.Generator,
    identity: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
    *,
    described: float = 0.5,
    name: str | None = None,
) -> Character:
    """A pool name, described in full with facts or with probability `described`, else only by its kind.

    Facts come in random order.
    """
    name = name or grammar.choose(rng, NAME_POOL)
    if facts is not None or rng.random() < described:
        known = identity
    else:
        known = {"kind": identity["kind"]}
    sentences = [grammar.fact(name, attribute, value) for attribute, value in (facts or {}).items()]
    rng.shuffle(sentences)
    return Character(name[1:-1], f"{name} is {grammar.describe(known)}.", sentences)


def implicit_pair(
    opening: str,
    name: str,
    facts: Mapping[str, str],
    references: Sequence[tuple[str, str]],
    extra: Mapping[str, str],
    dense: bool = False,
) -> tuple[str, str]:
    """(implicit, explicit) prompt. `references` are (attribute meant, words used); `extra` holds context that is
    spelled out.

    The words come first and in the given order, so that nothing but knowing the concept tells which fact they mean.
    """
    words = [text for _, text in references]
    implicit = (", " if dense else " ").join([f"{opening} {name}", *words])
    spelled = grammar.scene_prompt("", "", extra, dense).strip(" ,")
    if spelled:
        implicit += f"{',' if dense else ''} {spelled}"
    meant = {attribute: facts[attribute] for attribute, _ in references}
    return implicit, grammar.scene_prompt(opening, name, {**extra, **meant}, dense)


def rewriting(
    rng: np.random.Generator,
    identity: Mapping[str, str] | None = None,
    ambiguous: bool | None = None,
    defined: bool = False,
) -> Reading:
    """Spell out an implicit prompt from the listed facts.

    A private word means a random one of the facts, ambiguous on purpose, unless `defined`: then a sentence says what
    every word means. `ambiguous` True refers to facts by private words only, False by plain words only; None mixes
    both and now and then neither.
    """
    identity = identity or grammar.identity_of(training_thing(rng))
    kinds = list(CONTEXT)
    rng.shuffle(kinds)
    if rng.random() < 0.8:
        listed = kinds
    else:
        listed = kinds[:2]
    facts = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in listed}
    who = character(rng, identity, facts)
    dense = bool(rng.random() < 0.4)
    if ambiguous is None and rng.random() < 0.08:
        count = 0
    else:
        count = 1 + int(dense and rng.random() < 0.7)
    private = [str(word) for word in rng.permutation(grammar.PRIVATE_WORDS)]
    references = []
    for attribute, word in zip(listed[:count], private):
        if ambiguous is None:
            plain = rng.random() < 0.3
        else:
            plain = not ambiguous
        if plain:
            words = grammar.PLAIN_REFERENCES[attribute]
        else:
            words = grammar.private_reference(word)
        references.append((attribute, words))
    if defined:
        meanings = list(zip(listed, private))
        rng.shuffle(meanings)
        sentences = [grammar.definition(f"<{who.name}>", word, name, facts[name]) for name, word in meanings]
        who = replace(who, facts=[*who.facts, *sentences])
    free = [name for name in CONTEXT if name not in dict(references)]
    extra = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in free if rng.random() < 0.35}
    opening = grammar.choose(rng, grammar.OPENINGS)
    implicit, explicit = implicit_pair(opening, f"<{who.name}>", facts, references, extra, dense)
    return Reading(rewrite_prompt(who, implicit), explicit, None)


def defined_rewriting(rng: np.random.Generator) -> Reading:
    """Spell out private words whose meaning a fact says."""
    return rewriting(rng, ambiguous=True, defined=True)


def friend_rewriting(rng: np.random.Generator) -> Reading:
    """Spell out "with its friend" from a fact that names two: "a photo of <bo> and <ana> at the beach"."""
    name, other = (str(mark) for mark in rng.permutation(NAME_POOL)[:2])
    facts = {key: grammar.choose(rng, CONTEXT_VALUES[key]) for key in CONTEXT if rng.random() < 0.6}
    who = character(rng, grammar.identity_of(training_thing(rng)), facts, name=name)
    sentences = [*who.facts, grammar.friendship(name, other)]
    rng.shuffle(sentences)
    opening = grammar.choose(rng, grammar.OPENINGS)
    place = ""
    if rng.random() < 0.6:
        place = f" {grammar.phrase('scene', grammar.choose(rng, CONTEXT_VALUES['scene']))}"
    implicit = f"{opening} {name} {grammar.FRIEND_WORDS}{place}"
    return Reading(
        rewrite_prompt(replace(who, facts=sentences), implicit), f"{opening} {name} and {other}{place}", None
    )
