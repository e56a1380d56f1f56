"""What the embedded world says:

captions, questions, facts, implicit and explicit prompts, and the way back from words to attributes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from sync_r1.data.phrases import with_article
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.world.render import ATTRIBUTES, CONTEXT, IDENTITY, Thing

OPENINGS = ("a photo of", "a picture of", "a drawing of", "a portrait of")
PRIVATE_WORDS = ("treasure", "pride", "secret", "joy", "comfort", "habit")
PLAIN_REFERENCES = {"hat": "wearing its hat", "item": "holding its toy", "scene": "at its home"}
PLACES = {
    "beach": "at the beach",
    "forest": "in the forest",
    "city": "in the city",
    "snow": "in the snow",
    "desert": "in the desert",
    "night": "under the night sky",
    "room": "in a room",
    "meadow": "in a meadow",
}
QUESTIONS = {
    "kind": "What is {name}?",
    "colour": "What colour is {name}?",
    "pattern": "What pattern does {name} have?",
    "mark": "What mark does {name} have?",
    "hat": "What is {name} wearing?",
    "item": "What is {name} holding?",
    "scene": "Where is {name}?",
}
DESCRIBE_QUESTION = "Describe {name}."
CAPTION_QUESTION = "Describe the picture."

_VALUE_OF_WORD = {value: name for name, values in ATTRIBUTES.items() for value in values if value != "none"}


def phrase(attribute: str, value: str) -> str:
    """The words for one context attribute: ("hat", "crown") → "wearing a crown"; nothing worn or held is ""."""
    if value == "none":
        return ""
    if attribute == "scene":
        return PLACES[value]
    return f"{'wearing' if attribute == 'hat' else 'holding'} {with_article(value)}"


def describe(attributes: Mapping[str, str]) -> str:
    """Noun phrase from any subset of the identity that includes the kind: "a red striped robot with a star"."""
    words = [attributes[name] for name in ("colour", "pattern", "kind") if name in attributes]
    head = with_article(" ".join(words))
    mark = attributes.get("mark")
    if mark is None:
        return head
    return f"{head} with {'no mark' if mark == 'none' else with_article(mark)}"


def scene_prompt(opening: str, subject: str, context: Mapping[str, str], dense: bool = False) -> str:
    """A drawing prompt in the world's fixed order hat, item, scene; dense prompts separate the parts by commas."""
    parts = [phrase(name, context[name]) for name in CONTEXT if context.get(name, "none") != "none"]
    return (", " if dense else " ").join([f"{opening} {subject}", *parts])


def fact(name: str, attribute: str, value: str) -> str:
    """One private fact as a sentence."""
    verb = {"hat": "wears", "item": "carries", "scene": "lives"}[attribute]
    return f"{name} {verb} {PLACES[value] if attribute == 'scene' else with_article(value)}."


def private_reference(word: str) -> str:
    """How a prompt uses a private word: "treasure" → "with its treasure"."""
    return f"with its {word}"


def answer(attribute: str, value: str) -> str:
    """The short true answer to QUESTIONS[attribute]."""
    if attribute == "scene":
        return PLACES[value]
    if attribute in ("kind", "hat", "item", "mark"):
        return {"mark": "no mark"}.get(attribute, "nothing") if value == "none" else with_article(value)
    return value


def identity_of(thing: Thing) -> dict[str, str]:
    """What stays with a thing: kind, colour, pattern, mark."""
    return {name: value for name, value in asdict(thing).items() if name in IDENTITY}


def context_of(thing: Thing) -> dict[str, str]:
    """What changes from picture to picture: hat, item, scene."""
    return {name: value for name, value in asdict(thing).items() if name in CONTEXT}


def parse(text: str) -> dict[str, str]:
    """Attributes that a text mentions, by whole word: "a red robot at the beach" → kind, colour, scene.

    The first mention wins.
    """
    found: dict[str, str] = {}
    for word in re.findall(r"[a-z]+", text.lower()):
        name = _VALUE_OF_WORD.get(word)
        if name is not None:
            found.setdefault(name, word)
    if "no mark" in text.lower():
        found.setdefault("mark", "none")
    return found


def keywords(rng: np.random.Generator, identity: Mapping[str, str], count: int) -> list[str]:
    """`count` draws with repetition from the identity's words, the kind always among them:

    the shape that soft concept tokens take.
    """
    words = [identity["kind"], *(value for name, value in identity.items() if name != "kind" and value != "none")]
    if rng.random() < 0.25:  # only the kind: where a new concept starts
        return [identity["kind"]] * count
    drawn = [str(rng.choice(words)) for _ in range(count)]
    if identity["kind"] not in drawn:
        drawn[int(rng.integers(count))] = identity["kind"]
    return drawn


def held_out(identity: Mapping[str, str]) -> bool:
    """One identity in eight never appears in pretraining: concepts and every evaluation picture are made of these."""
    indices = [ATTRIBUTES[name].index(identity[name]) for name in IDENTITY]
    return (indices[0] + 3 * indices[1] + 5 * indices[2] + 7 * indices[3]) % 8 == 0


def vocabulary() -> list[str]:
    """Sentences that together hold every word of the world, for training the text tokenizer."""
    name = "<x>"
    lines: list[str] = [
        *OPENINGS,
        *PLACES.values(),
        *PLAIN_REFERENCES.values(),
        RECOGNITION_QUESTION,
        DESCRIBE_QUESTION,
        CAPTION_QUESTION,
    ]
    lines += [private_reference(word) for word in PRIVATE_WORDS]
    lines += [question.format(name=name) for question in QUESTIONS.values()]
    lines += [
        "yes",
        "no",
        "nothing",
        "no mark",
        "USER: name: info: ASSISTANT:",
        "facts: rewrite:",
        "\nfacts: x\nrewrite: a photo of",
    ]
    for attribute, values in ATTRIBUTES.items():
        lines += [f" {value} {with_article(value)}, {with_article(value)}." for value in values]
        lines += [phrase(attribute, value) + "," for value in values if attribute in CONTEXT]
        lines += [fact(name, attribute, value) for value in values if attribute in CONTEXT and value != "none"]
    return [text for line in lines for text in (line, " " + line)]


def choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of `options`, uniformly."""
    return str(options[int(rng.integers(len(options)))])
