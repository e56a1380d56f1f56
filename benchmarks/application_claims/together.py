"""A11: two concepts in one picture, each with the tokens of its own run, and questions about a picture of both.

Questions are about rendered pictures, so that what is true does not depend on the drawing.
"""

from __future__ import annotations

import numpy as np

from application_claims.given import Given, Values, new_values
from application_claims.pictures import evaluator, is_right, to_pixels
from sync_r1.apps.together import open_together
from sync_r1.data.prompts import several_prompt
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.types import TextContext
from sync_r1.world import grammar
from sync_r1.world.concepts import personas
from sync_r1.world.readers import half
from sync_r1.world.render import CONTEXT_VALUES, IDENTITY, make_pair, render_image

ASKED = (*IDENTITY, "hat")


def measure(given: Given) -> Values:
    """Nothing where there is no second concept."""
    if not given.partner:
        return {}
    runs = [given.run(), given.run(given.partner)]
    session = open_together(runs=runs, device=given.device)
    values = new_values()
    rng = given.rng("together")
    for number in range(given.count("pictures")):
        rights = drawn_right(given, session, rng, 1000 * given.seed + number)
        values["left one right"].append(rights[0])
        values["right one right"].append(rights[1])
        values["both identities right"].append(min(rights))
    for _ in range(given.count("questions")):
        values["questions about either right"] += answers_right(given, session, rng)
    return dict(values)


def drawn_right(given: Given, session: Session, rng: np.random.Generator, seed: int) -> list[float]:
    """Whether the left and the right half of a drawing show the identity that they should."""
    place = grammar.PLACES[grammar.choose(rng, CONTEXT_VALUES["scene"])]
    names = (given.concept, given.partner)
    image = session.draw(f"a photo of <{names[0]}> and <{names[1]}> {place}", 1, seed)[0]
    rights = []
    for side, name in zip(("left", "right"), names, strict=True):
        found = evaluator().read(half(to_pixels([image]), side))[0]
        rights.append(float(is_right(found, personas()[name].identity)))
    return rights


def answers_right(given: Given, session: Session, rng: np.random.Generator) -> list[float]:
    """Whether the model answers what each of both is, looks like and wears in a picture of them."""
    concepts = [session.concept, *session.others]
    pair = make_pair(*(personas()[concept.name].thing(rng) for concept in concepts))
    codes = session.encode([render_image(pair)])[0]
    contexts, truths = [], []
    for concept, (_, thing) in zip(concepts, pair.sides, strict=True):
        for attribute in ASKED:
            question = grammar.QUESTIONS[attribute].format(name=concept.placeholder)
            contexts.append(TextContext(several_prompt(concepts, question), codes))
            truths.append(grammar.answer(attribute, getattr(thing, attribute)))
    return [exact(text, truth) for text, truth in zip(session.answers(contexts), truths, strict=True)]
