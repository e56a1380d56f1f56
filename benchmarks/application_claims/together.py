"""A11: two concepts in one picture, each with the tokens of its own run, and questions about a picture of both.

Pictures are drawn, checked and, where the model crosses a word, repaired, as `draw` and `check --repair` do. Questions
are about rendered pictures, so that what is true does not depend on the drawing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from application_claims.given import Given, Values, new_values
from application_claims.pictures import evaluator, is_right, to_pixels
from sync_r1.apps.check import repair
from sync_r1.apps.closer import closer
from sync_r1.apps.together import open_together
from sync_r1.scorers.text import exact
from sync_r1.session import Session
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
        drawn, repaired = rights_of(given, session, rng, 1000 * given.seed + number)
        values["both right as drawn"].append(min(drawn))
        values["left one right"].append(repaired[0])
        values["right one right"].append(repaired[1])
        values["both identities right"].append(min(repaired))
    for _ in range(given.count("questions")):
        values["questions about either right"] += answers_right(given, session, rng)
    return dict(values)


def rights_of(given: Given, session: Session, rng: np.random.Generator, seed: int) -> list[list[float]]:
    """Whether the left and the right half show the identity that they should: as drawn, and after check and repair."""
    place = grammar.PLACES[grammar.choose(rng, CONTEXT_VALUES["scene"])]
    prompt = f"a photo of <{given.concept}> and <{given.partner}> {place}"
    drawing = session.draw_traced(prompt, 1, seed)[0]
    return [both_right(given, image) for image in (drawing.image, repair(session, drawing, prompt, seed=seed).image)]


def both_right(given: Given, image: Image.Image) -> list[float]:
    """Whether the evaluator reads the identity of the concept on the left, and that of its partner on the right."""
    rights = []
    for side, name in (("left", given.concept), ("right", given.partner)):
        found = evaluator().read(half(to_pixels([image]), side))[0]
        rights.append(float(is_right(found, personas()[name].identity)))
    return rights


def answers_right(given: Given, session: Session, rng: np.random.Generator) -> list[float]:
    """Whether the model answers what each of both is, looks like and wears in a picture of them, asked as in a chat."""
    concepts = [session.concept, *session.others]
    pair = make_pair(*(personas()[concept.name].thing(rng) for concept in concepts))
    image = render_image(pair)
    rights = []
    for concept, (_, thing) in zip(concepts, pair.sides, strict=True):
        alone = replace(session, concept=concept, others=[])
        for attribute in ASKED:
            question = grammar.QUESTIONS[attribute].format(name=concept.placeholder)
            answer = alone.ask(question, closer(alone, question, image))
            rights.append(exact(answer, grammar.answer(attribute, getattr(thing, attribute))))
    return rights
