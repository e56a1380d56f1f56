"""What a prompt of the embedded world asks for: of one character, or of two side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sync_r1.asked_texts import asks_for_two
from sync_r1.data import Concept
from sync_r1.data.regions import Square, read_region
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.regions import ATTRIBUTE_REGIONS, NAMED_REGIONS
from sync_r1.world.render import ATTRIBUTES, SIZE

Side = Literal["", "left", "right", "both"]
PAIR_ATTRIBUTES = ("kind", "colour", "pattern", "mark", "hat")  # of each of two, who hold nothing


@dataclass(frozen=True)
class Asked:
    """What is asked for of one character, or of the place of both."""

    side: Side  # "" where there is one
    noun: str  # what it is, as far as the prompt and the concepts say
    values: dict[str, str]  # attribute → value, in the order of the questions

    def word(self, attribute: str) -> str:
        """How a check is called: "hat", "left hat"; "scene" is that of both."""
        return f"{self.side} {attribute}" if self.side in ("left", "right") else attribute

    def cells(self, attribute: str, square: Square) -> np.ndarray:
        """The cells [N] bool that are drawn again to change an attribute; for the place of two all of them."""
        if self.side == "both":
            return square.cells(np.ones((square.height, square.width), dtype=bool))
        mask = np.any([read_region(name, square, NAMED_REGIONS) for name in ATTRIBUTE_REGIONS[attribute]], axis=0)
        moved = {"": 0, "left": -1, "right": 1}[self.side] * (square.side // 4)
        return square.cells(np.roll(mask, moved, axis=1))


def asked_things(session: Session, prompt: str) -> list[Asked]:
    """What the prompt asks for and, of concepts that it mentions, what their info lines say; at least one value.

    Raises:
        ValueError: a model that does not draw the embedded world, a prompt that names a concept that is not open here,
            asks for what `asks_for_two` refuses, or for nothing that can be checked.
    """
    model = session.model
    if not session.draws_world:
        raise ValueError(
            f"this model draws {model.image_size} × {model.image_size} pixels; checking asks the questions of the "
            f"embedded world, whose pictures have {SIZE} × {SIZE}"
        )
    text, concepts = session.mention(prompt), [session.concept, *session.others]
    unknown = set(re.findall(r"<[^<>\s]+>", text)) - {concept.placeholder for concept in concepts}
    if unknown:
        raise ValueError(
            f"the prompt names {', '.join(sorted(unknown))}; what is open here is "
            f"{', '.join(concept.placeholder for concept in concepts)}"
        )
    if asks_for_two(text, concepts):
        asked = _two(text, concepts)
    else:
        asked = [_one(text, concepts)]
    asked = [one for one in asked if one.values]
    if not asked:
        raise ValueError(
            f"the prompt {prompt!r} asks for nothing that can be checked: no {', '.join(grammar.QUESTIONS)} of the "
            "embedded world; spell it out first, for example with `sync-r1 rewrite`"
        )
    return asked


def _one(text: str, concepts: Sequence[Concept]) -> Asked:
    mentioned = _mentioned(text, concepts)
    return Asked("", (mentioned or concepts[0]).class_noun, _ordered({**_known(mentioned), **grammar.parse(text)}))


def _two(text: str, concepts: Sequence[Concept]) -> list[Asked]:
    asked: list[Asked] = []
    sides: tuple[Side, Side] = ("left", "right")
    for side, part in zip(sides, _parts(text), strict=False):
        mentioned = _mentioned(part, concepts)
        found = {**_known(mentioned), **grammar.parse(part)}
        noun = mentioned.class_noun if mentioned else found["kind"]
        asked.append(Asked(side, noun, _ordered({name: found[name] for name in PAIR_ATTRIBUTES if name in found})))
    scene = {name: value for name, value in grammar.parse(text).items() if name == "scene"}
    return [*asked, Asked("both", asked[0].noun, scene)]


def _parts(text: str) -> list[str]:
    """The text cut at every "and" before another character: "<bo> with a cap and a kite and <ana>" has two parts."""
    parts: list[str] = []
    for piece in text.split(" and "):
        if parts and not grammar.check_subjects(piece):
            parts[-1] += f" and {piece}"
        else:
            parts.append(piece)
    return parts


def _mentioned(text: str, concepts: Sequence[Concept]) -> Concept | None:
    return next((concept for concept in concepts if concept.placeholder in text), None)


def _known(concept: Concept | None) -> dict[str, str]:
    """What a concept's class and info line tell of its look."""
    if concept is None:
        return {}
    kind = {"kind": concept.class_noun} if concept.class_noun in ATTRIBUTES["kind"] else {}
    return {**kind, **grammar.parse(concept.info)}


def _ordered(values: dict[str, str]) -> dict[str, str]:
    return {name: values[name] for name in grammar.QUESTIONS if name in values}
