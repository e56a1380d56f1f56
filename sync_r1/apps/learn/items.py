"""Questions about a fact, from a picture that shows it to a prompt of the learner's own.

No drawn picture is used unless the model, reading it again, finds nothing wrong in it; otherwise a real photo takes its
place, or the question is asked without pictures. Of a thing whose own photos the model misreads nothing is drawn at all
(`Source.draws`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sync_r1.apps.checked import draw_right, reads_its_photos
from sync_r1.apps.learn.facts import Fact
from sync_r1.data import load_image
from sync_r1.data.warm_up_items import negative_images
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.render import ATTRIBUTES, CONTEXT, CONTEXT_VALUES

LETTERS = "abcd"
CHOICES = (2, 4, 0)  # by level; 0 is typed


@dataclass(frozen=True)
class Source:
    """Where the pictures of a thing come from."""

    session: Session
    draws: bool  # whether drawings are used beside photos

    @classmethod
    def of(cls, session: Session) -> Source:
        """Drawings are used where the model can tell a right one from a wrong one."""
        return cls(session, reads_its_photos(session))


@dataclass(frozen=True)
class Item:
    """One question. Its answer is the letter of a choice or of a picture, or a typed text."""

    fact: Fact
    kind: str  # look, recall, word, which, draw
    level: int
    question: str
    reason: str = ""  # why this question now
    choices: tuple[str, ...] = ()
    pictures: tuple[Image.Image, ...] = ()
    right: int | None = None  # the index of the right choice or picture

    def is_right(self, given: str) -> bool:
        """Whether an answer is right: a letter, or the text itself."""
        text = given.strip()
        if self.right is None:
            return bool(text) and self.fact.is_answered(text)
        if len(text.rstrip(").")) == 1 and text[0].lower() in LETTERS:
            return LETTERS.index(text[0].lower()) == self.right
        return bool(self.choices) and text.casefold() == self.choices[self.right].casefold()


def make_item(
    source: Source, fact: Fact, level: int, facts: Sequence[Fact], rng: np.random.Generator, reason: str = ""
) -> Item:
    """A question about a fact at a level. Where a kind needs pictures that cannot be had, words take its place."""
    if level == 0:
        return _look(source, fact, facts, rng, reason)
    if level == 1 and fact.which and rng.random() < 0.5:
        item = _which(source, fact, rng, reason)
        if item is not None:
            return item
    if level == 2 and fact.order and rng.random() < 0.5:
        return Item(fact, "draw", level, fact.order, reason)
    return _recall(fact, level, facts, rng, reason)


def picture_of(source: Source, fact: Fact, rng: np.random.Generator) -> Image.Image:
    """A picture that shows the fact: drawn and found right, else one of the real photos."""
    if source.draws:
        drawn = draw_right(source.session, [fact.prompt], int(rng.integers(1 << 20)))
        if drawn is not None:
            return drawn[0]
    photos = source.session.concept.train_images
    return load_image(photos[int(rng.integers(len(photos)))])


def own_drawing(source: Source, prompt: str, rng: np.random.Generator) -> Image.Image | None:
    """What a learner asked for, drawn and found right; None where it cannot be checked or was not drawn right."""
    if not source.draws:
        return None
    try:
        drawn = draw_right(source.session, [source.session.mention(prompt)], int(rng.integers(1 << 20)))
    except ValueError:  # it names another thing, or nothing that can be checked
        return None
    return None if drawn is None else drawn[0]


def _recall(fact: Fact, level: int, facts: Sequence[Fact], rng: np.random.Generator, reason: str) -> Item:
    kind = "word" if fact.attribute and fact.name != fact.attribute else "recall"
    count = CHOICES[level]
    others = fact.others(facts)
    if count == 0 or not others:
        return Item(fact, kind, level, fact.question, reason)
    picked = [str(text) for text in rng.permutation(others)[: count - 1]]
    place = int(rng.integers(len(picked) + 1))
    choices = (*picked[:place], fact.answer, *picked[place:])
    return Item(fact, kind, level, fact.question, reason, choices, right=place)


def _look(source: Source, fact: Fact, facts: Sequence[Fact], rng: np.random.Generator, reason: str) -> Item:
    asked = _recall(fact, 0, facts, rng, reason)
    picture = picture_of(source, fact, rng)
    return Item(fact, "look", 0, asked.question, reason, asked.choices, (picture,), asked.right)


def _which(source: Source, fact: Fact, rng: np.random.Generator, reason: str) -> Item | None:
    """Four pictures that differ in the fact's attribute alone; or photos, where drawings cannot be checked."""
    if source.draws:
        prompts = _lookalike_prompts(source.session, fact, rng)
        pictures = draw_right(source.session, prompts, int(rng.integers(1 << 20)))
    else:
        pictures = _photos(source.session, fact, rng)
    if pictures is None:
        return None
    order = [int(place) for place in rng.permutation(len(pictures))]
    shuffled = tuple(pictures[place] for place in order)
    return Item(fact, "which", 1, fact.which, reason, pictures=shuffled, right=order.index(0))


def _lookalike_prompts(session: Session, fact: Fact, rng: np.random.Generator) -> list[str]:
    """The thing itself first, then three that are one attribute away, all in one place."""
    look = grammar.parse(session.concept.info)
    look.setdefault("kind", session.concept.class_noun)
    wrong = [value for value in ATTRIBUTES[fact.attribute] if value not in (fact.value, "none")]
    values = [fact.value, *(str(value) for value in rng.permutation(wrong)[:3])]
    scene = grammar.choose(rng, CONTEXT_VALUES["scene"])
    prompts = []
    for value in values:
        shown = {**look, "scene": scene, fact.attribute: value}
        identity = {name: shown[name] for name in grammar.QUESTIONS if name in look or name == fact.attribute}
        context: dict[str, str] = {name: shown[name] for name in CONTEXT if name in shown}
        prompts.append(grammar.scene_prompt("a photo of", grammar.describe(identity), context))
    return prompts


def _photos(session: Session, fact: Fact, rng: np.random.Generator) -> list[Image.Image] | None:
    """A photo of the thing and three of others. None where there are too few, or the fact is not about its look."""
    if session.root is None or fact.order:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = negative_images(session.root, session.concept)
    if len(others) < 3:
        return None
    photos = session.concept.train_images
    picked = rng.permutation(len(others))[:3]
    own = photos[int(rng.integers(len(photos)))]
    return [load_image(path) for path in (own, *(others[int(place)] for place in picked))]
