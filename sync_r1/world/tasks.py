"""Training and test items of the world, each a pure function of a random generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sync_r1.data.prompts import RECOGNITION_QUESTION, rewrite_prompt, understanding_prompt
from sync_r1.world import grammar
from sync_r1.world.render import ATTRIBUTES, CONTEXT, CONTEXT_VALUES, IDENTITY, Thing, random_thing

NAME_POOL = tuple(
    f"<{name}>"
    for name in (
        "kip",
        "lou",
        "max",
        "nia",
        "oto",
        "pia",
        "quin",
        "ravi",
        "suki",
        "tess",
        "ugo",
        "vera",
        "wim",
        "xen",
        "yara",
        "zeb",
    )
)
SOFT_TOKENS = 4  # words before the name in a drawing prompt, later the concept's soft tokens


@dataclass(frozen=True)
class Drawing:
    """A prompt and a picture that fits it."""

    text: str
    thing: Thing


@dataclass(frozen=True)
class Reading:
    """A context (with or without a picture) and the text that should follow."""

    context: str
    answer: str
    thing: Thing | None


@dataclass(frozen=True)
class Somebody:
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


def drawing(rng: np.random.Generator, thing: Thing | None = None) -> Drawing:
    """A prompt for `thing`, or for a random one.

    It says a description, or keywords and a name (the shape of a personal concept), or both (the shape of what `look`
    draws).
    """
    thing = thing or training_thing(rng)
    identity = grammar.identity_of(thing)
    form = rng.random()
    some = {name: value for name, value in identity.items() if name == "kind" or rng.random() < 0.75}
    subject = grammar.describe(some)
    if form > 0.4:
        subject = " ".join(grammar.keywords(rng, identity, SOFT_TOKENS)) + grammar.choose(rng, NAME_POOL)
    if form > 0.75:
        subject += ", " + grammar.describe(some)
    context = grammar.context_of(thing)
    if rng.random() < 0.15:
        del context["scene"]
    return Drawing(
        grammar.scene_prompt(grammar.choose(rng, grammar.OPENINGS), subject, context, dense=rng.random() < 0.3), thing
    )


def somebody(rng: np.random.Generator, identity: Mapping[str, str], facts: Mapping[str, str] | None = None) -> Somebody:
    """A pool name described in full (or, without facts, half the time only by its kind), facts in random order."""
    name = grammar.choose(rng, NAME_POOL)
    known = identity if facts is not None or rng.random() < 0.5 else {"kind": identity["kind"]}
    sentences = [grammar.fact(name, attribute, value) for attribute, value in (facts or {}).items()]
    rng.shuffle(sentences)
    return Somebody(name[1:-1], f"{name} is {grammar.describe(known)}.", sentences)


def visual_question(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """A question about a picture, a description of its subject, or a caption."""
    thing = thing or training_thing(rng)
    who = somebody(rng, grammar.identity_of(thing))
    name = f"<{who.name}>"
    kind = int(rng.integers(len(grammar.QUESTIONS) + 2))
    if kind < len(grammar.QUESTIONS):
        attribute = list(grammar.QUESTIONS)[kind]
        return Reading(
            understanding_prompt(who, grammar.QUESTIONS[attribute].format(name=name)),
            grammar.answer(attribute, getattr(thing, attribute)),
            thing,
        )
    if kind == len(grammar.QUESTIONS):
        return Reading(
            understanding_prompt(who, grammar.DESCRIBE_QUESTION.format(name=name)),
            grammar.describe(grammar.identity_of(thing)),
            thing,
        )
    caption = grammar.scene_prompt(
        "a photo of", grammar.describe(grammar.identity_of(thing)), grammar.context_of(thing)
    )
    return Reading(understanding_prompt(who, grammar.CAPTION_QUESTION), caption, thing)


def text_question(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """A question that the info line answers, without a picture."""
    thing = thing or training_thing(rng)
    identity = grammar.identity_of(thing)
    who = somebody(rng, identity, {})
    attribute = grammar.choose(rng, IDENTITY)
    question = grammar.QUESTIONS[attribute].format(name=f"<{who.name}>")
    return Reading(understanding_prompt(who, question), grammar.answer(attribute, identity[attribute]), None)


def impostor(rng: np.random.Generator, thing: Thing) -> Thing:
    """Somebody else in the same scene: one or more identity attributes differ, half the time only one."""
    names = list(IDENTITY) if rng.random() < 0.5 else [grammar.choose(rng, IDENTITY)]
    other = thing
    while grammar.identity_of(other) == grammar.identity_of(thing):
        changes: dict[str, Any] = {name: grammar.choose(rng, ATTRIBUTES[name]) for name in names}
        other = replace(thing, **changes)
    return other


def recognition(rng: np.random.Generator, thing: Thing | None = None) -> Reading:
    """Is the described somebody in the picture?"""
    thing = thing or training_thing(rng)
    who = somebody(rng, grammar.identity_of(thing), {})
    question = RECOGNITION_QUESTION.format(name=f"<{who.name}>")
    present = bool(rng.random() < 0.5)
    return Reading(
        understanding_prompt(who, question), "yes" if present else "no", thing if present else impostor(rng, thing)
    )


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
    rng: np.random.Generator, identity: Mapping[str, str] | None = None, ambiguous: bool | None = None
) -> Reading:
    """Spell out an implicit prompt from the listed facts. A private word means a random one of them: ambiguous on
    purpose.

    `ambiguous` True refers to facts by private words only, False by plain words only; None mixes both and now and then
    neither.
    """
    identity = identity or grammar.identity_of(training_thing(rng))
    kinds = list(CONTEXT)
    rng.shuffle(kinds)
    listed = kinds if rng.random() < 0.8 else kinds[:2]
    facts = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in listed}
    who = somebody(rng, identity, facts)
    dense = bool(rng.random() < 0.4)
    count = 0 if ambiguous is None and rng.random() < 0.08 else 1 + int(dense and rng.random() < 0.7)
    private = iter(rng.permutation(grammar.PRIVATE_WORDS))
    references = []
    for attribute in listed[:count]:
        plain = rng.random() < 0.3 if ambiguous is None else not ambiguous
        references.append(
            (attribute, grammar.PLAIN_REFERENCES[attribute] if plain else grammar.private_reference(str(next(private))))
        )
    free = [name for name in CONTEXT if name not in dict(references)]
    extra = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in free if rng.random() < 0.35}
    implicit, explicit = implicit_pair(
        grammar.choose(rng, grammar.OPENINGS), f"<{who.name}>", facts, references, extra, dense
    )
    return Reading(rewrite_prompt(who, implicit), explicit, None)
