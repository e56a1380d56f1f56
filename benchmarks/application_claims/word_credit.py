"""A5: the credit of a word for hat, held thing or place lies in the cells where that is seen."""

from __future__ import annotations

import numpy as np

from application_claims.given import Given, Values, new_values
from application_claims.pictures import named_prompt, random_context, square_of
from sync_r1.apps.why_picture import split_words, word_credit
from sync_r1.session import Session
from sync_r1.world.regions import seen_mask

NAMES = {"hat": "hat", "item": "held thing", "scene": "place"}


def measure(given: Given) -> Values:
    """The share of each word's credit in its own cells, and whether it is the highest there."""
    session, rng = given.trained(), given.rng("words")
    values = new_values()
    square = square_of(session)
    for number in range(given.count("pictures")):
        context = separable_context(session, rng)
        drawing = session.draw_traced(named_prompt(session, context), seed=1000 * given.seed + number)[0]
        credits = word_credit(session, drawing)
        for attribute, value in context.items():
            cells = square.cells(seen_mask(attribute))
            own = next(one for one in credits if value in one.words.split())
            highest = max(credits, key=lambda one: float(one.cells[cells].sum()))
            name = NAMES[attribute]
            values[f"{name}, share in its own cells"].append(own.share(cells))
            values[f"{name}, its word is named"].append(float(highest is own))
    return dict(values)


def separable_context(session: Session, rng: np.random.Generator) -> dict[str, str]:
    """A context whose every value is in a piece of the prompt of its own."""
    while True:
        context = random_context(rng)
        pieces = [piece.split() for piece in split_words(named_prompt(session, context))]
        if all(any(value in piece for piece in pieces) for value in context.values()):
            return context
