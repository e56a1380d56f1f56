"""A3: a story keeps one identity, drawn by the name of a trained concept, against described in words.

Both are checked and drawn again as stories are, by name also in words where the name fails. In words alone the shipped
model draws, which never saw the concept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from application_claims.given import Given, Values, new_values
from application_claims.pictures import is_right, seen
from sync_r1.apps.check import in_words
from sync_r1.apps.checked import draw_checked
from sync_r1.apps.story import TRIES, Page, plan
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.render import CONTEXT, CONTEXT_VALUES

LINES = (
    "{name} finds a {item} {place} and takes it home",
    "{name} puts on a {hat}, goes out {place} and finds a {item}",
    "{name} loses a {item} {place} and then finds a {other}",
)


def measure(given: Given) -> Values:
    """The same stories by name and in words."""
    session, plain, rng = given.trained(), given.untrained(), given.rng("story")
    values = new_values()
    for number in range(given.count("stories")):
        line = story_line(rng, given.concept)
        pages = plan(session.concept, line, given.count("pages"), seed=10_000 * given.seed + 1000 * number).pages
        first = [session.draw(page.prompt, 1, page.seed)[0] for page in pages]
        named = checked(session, pages)
        described = checked(plain, pages, described=True)
        values["all pages as drawn at first"].append(all_right(given, first))
        values["all pages the right identity"].append(all_right(given, named))
        values["described in words"].append(all_right(given, described))
        difference = values["all pages the right identity"][-1] - values["described in words"][-1]
        values["over described in words"].append(difference)
        values["hat, held thing and place right"] += context_right(pages, named)
    return dict(values)


def story_line(rng: np.random.Generator, name: str) -> str:
    """What happens, by one of three plots."""
    item, other = (str(value) for value in rng.permutation(CONTEXT_VALUES["item"])[:2])
    place = grammar.PLACES[grammar.choose(rng, CONTEXT_VALUES["scene"])]
    hat = grammar.choose(rng, CONTEXT_VALUES["hat"])
    return grammar.choose(rng, LINES).format(name=name, item=item, other=other, hat=hat, place=place)


def checked(session: Session, pages: Sequence[Page], described: bool = False) -> list[Image.Image]:
    """Every page drawn, read again, and drawn anew where it was wrong."""
    images = []
    for page in pages:
        prompt = in_words(session, page.prompt) if described else page.prompt
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the prompt does not mention")  # it is described
            images.append(draw_checked(session, prompt, page.seed, TRIES, described=True).image)
    return images


def all_right(given: Given, images: Sequence[Image.Image]) -> float:
    """1 when every page shows the concept's identity."""
    return float(all(is_right(found, given.persona.identity) for found in seen(images)))


def context_right(pages: Sequence[Page], images: Sequence[Image.Image]) -> list[float]:
    """Of every page, whether it shows what its prompt asks for beside the concept."""
    rights = []
    for page, found in zip(pages, seen(images), strict=True):
        asked = {name: value for name, value in grammar.parse(page.prompt).items() if name in CONTEXT}
        rights.append(float(is_right(found, asked)))
    return rights
