"""What the embedded world says: captions, questions, facts, implicit and explicit prompts, and the way back from words
to attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from sync_r1.data.phrases import with_article
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.world.render import ATTRIBUTES, CONTEXT, IDENTITY, Pair, Still, Thing

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
CONTENT_QUESTION = "What is in the picture?"
COUNT_QUESTION = "How many are in the picture?"
HELD_QUESTION = "How many things is {name} holding?"
SIDE_QUESTION = "Which side is {name} on?"
ON_SIDE_QUESTION = "What is on the {side}?"
WHO_QUESTION = "Who is in the picture?"
WHO_ON_SIDE_QUESTION = "Who is on the {side}?"
TELL_QUESTION = "What does this picture tell about {name}?"
FRIEND_QUESTION = "Who is the friend of {name}?"
MEANING_QUESTION = "What does its {word} mean?"
FRIEND_WORDS = "with its friend"
FACT_QUESTIONS = {
    "hat": "What does {name} wear?",
    "item": "What does {name} carry?",
    "scene": "Where does {name} live?",
}
SAME_QUESTIONS = {
    "kind": "Are both the same?",
    "colour": "Do both have the same colour?",
    "pattern": "Do both have the same pattern?",
    "mark": "Do both have the same mark?",
    "hat": "Do both wear the same?",
}
NUMBERS = ("none", "one", "two")
SIDES = ("left", "middle", "right")

_DESCRIPTION = re.compile(r"(<[^<>\s]+>) is ([^.]*)\.")
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


def check_question(name: str, attribute: str, value: str) -> str:
    """A question that yes or no answers: ("<bo>", "mark", "star") → "Does <bo> have a star?"."""
    if attribute == "mark":
        return f"Does {name} have {answer(attribute, value)}?"
    if attribute in ("hat", "item"):
        return f"Is {name} {'wearing' if attribute == 'hat' else 'holding'} {answer(attribute, value)}?"
    return f"Is {name} {answer(attribute, value)}?"


def who_question(attribute: str, value: str) -> str:
    """Asks which of two has something: ("hat", "crown") → "Who is wearing a crown?"."""
    return check_question("Who", attribute, value).replace("Is Who", "Who is").replace("Does Who have", "Who has")


def pair_prompt(opening: str, subjects: Sequence[str], pair: Pair, dense: bool = False, place: bool = True) -> str:
    """A drawing prompt for two, left before right, each with its hat: "a photo of <bo> wearing a cap and <ana> at
    the beach"."""
    parts = []
    for subject, (_, thing) in zip(subjects, pair.sides, strict=True):
        parts.append(" ".join(word for word in (subject, phrase("hat", thing.hat)) if word))
    text = f"{opening} {parts[0]} and {parts[1]}"
    if place:
        return text + (", " if dense else " ") + PLACES[pair.scene]
    return text


def caption(picture: Thing | Pair | Still) -> str:
    """Everything in a picture, in a drawing prompt's words."""
    if isinstance(picture, Still):
        return scene_prompt("a photo of", with_article(picture.what), {"scene": picture.scene})
    if isinstance(picture, Pair):
        return pair_prompt("a photo of", [describe(identity_of(thing)) for _, thing in picture.sides], picture)
    return scene_prompt("a photo of", describe(identity_of(picture)), context_of(picture))


def content(picture: Thing | Pair | Still) -> str:
    """Who or what is in a picture, by kind: "a dog and a cat"."""
    if isinstance(picture, Still):
        return with_article(picture.what)
    if isinstance(picture, Pair):
        return f"{with_article(picture.left.kind)} and {with_article(picture.right.kind)}"
    return with_article(picture.kind)


def seen(picture: Thing | Pair | Still) -> str:
    """What is written before it is decided whether a concept is there: every character's identity.

    A missing mark is left out: "no mark" would hold the word no, which is kept for the decision.
    """
    if isinstance(picture, Still):
        return with_article(picture.what)
    if isinstance(picture, Thing):
        things = [picture]
    else:
        things = [thing for _, thing in picture.sides]
    identities = [identity_of(thing) for thing in things]
    parts = []
    for identity in identities:
        parts.append(describe({name: value for name, value in identity.items() if value != "none"}))
    return " and ".join(parts)


def friendship(name: str, other: str) -> str:
    """A fact about two: "<bo> and <ana> are friends."."""
    return f"{name} and {other} are friends."


def definition(name: str, word: str, attribute: str, value: str) -> str:
    """A fact that says what a private word means: "For <bo>, its treasure means holding a kite."."""
    return f"For {name}, its {word} means {phrase(attribute, value)}."


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
        if value == "none":
            return {"mark": "no mark"}.get(attribute, "nothing")
        return with_article(value)
    return value


def described(name: str, picture: Thing | Still) -> list[str]:
    """The facts that a picture tells about `name`: what it wears and holds, or the thing alone as its own."""
    if isinstance(picture, Still):
        return [fact(name, picture.attribute, picture.what)]
    context = context_of(picture)
    return [fact(name, attribute, value) for attribute, value in context.items() if value != "none"]


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


def subjects(text: str) -> list[dict[str, str]]:
    """What a drawing text asks for, a dict of attributes per character, the left one first.

    "<bo> is a red dog. <ana> is a girl. a photo of <bo> wearing a cap and <ana> at the beach" gives two, each with what
    its description says and both with the place. The world draws two at most: of more the first two count.
    """
    described = {name: parse(words) for name, words in _DESCRIPTION.findall(text)}
    prompt = _DESCRIPTION.sub("", text)
    parts = prompt.split(" and ")[:2]
    if len(parts) == 1:
        return [parse(text)]
    scene = {name: value for name, value in parse(prompt).items() if name == "scene"}
    asked = []
    for part in parts:
        names = [name for name in described if name in part]
        known = {}
        if names:
            known = described[names[0]]
        asked.append({**known, **parse(part), **scene})
    return asked


def check_subjects(text: str) -> int:
    """How many characters a drawing prompt asks for. ValueError for more than two, which the world cannot draw."""
    asked: list[str] = []
    for part in _DESCRIPTION.sub("", text).split(" and "):
        kinds = [word for word in re.findall(r"[a-z]+", part.lower()) if word in ATTRIBUTES["kind"]]
        names = re.findall(r"<[^<>\s]+>", part)
        asked += list(dict.fromkeys(kinds)) or names[-1:]
    if len(asked) > 2:
        raise ValueError(
            f"the prompt asks for {len(asked)} characters ({', '.join(asked)}); the embedded world draws two at most: "
            "leave some out"
        )
    return len(asked)


def keywords(rng: np.random.Generator, identity: Mapping[str, str], count: int) -> list[str]:
    """`count` draws with repetition from the identity's words, the kind always among them: the shape that soft concept
    tokens take."""
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
    lines += [CONTENT_QUESTION, COUNT_QUESTION, WHO_QUESTION, FRIEND_WORDS, friendship(name, name), *NUMBERS, *SIDES]
    named = (HELD_QUESTION, SIDE_QUESTION, TELL_QUESTION, FRIEND_QUESTION, *FACT_QUESTIONS.values())
    lines += [question.format(name=name) for question in named]
    lines += [question.format(side=side) for question in (ON_SIDE_QUESTION, WHO_ON_SIDE_QUESTION) for side in SIDES]
    lines += [MEANING_QUESTION.format(word=word) for word in PRIVATE_WORDS]
    lines += [definition(name, word, "item", "kite") for word in PRIVATE_WORDS]
    lines += SAME_QUESTIONS.values()
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
        lines += [check_question(name, attribute, value) for value in values]
        lines += [who_question(attribute, value) for value in values]
        lines += [phrase(attribute, value) + "," for value in values if attribute in CONTEXT]
        lines += [fact(name, attribute, value) for value in values if attribute in CONTEXT and value != "none"]
    return [text for line in lines for text in (line, " " + line)]


def choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of `options`, uniformly."""
    return str(options[int(rng.integers(len(options)))])
