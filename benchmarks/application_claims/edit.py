"""A1: an edit draws what was asked for and keeps everything else.

Hat, held thing and place are changed in pictures drawn by name; the colour in pictures of the same look in words,
because a name stands for its colour.
"""

from __future__ import annotations

import numpy as np

from application_claims.given import Given, Values, new_values
from application_claims.pictures import Look, another, named_prompt, random_context, seen, square_of
from sync_r1.apps.why_picture import token_likelihoods
from sync_r1.drawings import Drawing
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.regions import redrawn_mask
from sync_r1.world.render import ATTRIBUTES, CONTEXT

EDITED = {"hat": "hat", "item": "held thing", "scene": "place", "colour": "colour"}  # attribute → its name in measures
REPLAY_GAP = 1e-5  # nats


def measure(given: Given) -> Values:
    """One edit of every kind on each of `pictures` random looks."""
    session, rng = given.trained(), given.rng("edit")
    values = new_values()
    for number in range(given.count("pictures")):
        look = {**given.persona.identity, **random_context(rng)}
        for attribute, name in EDITED.items():
            wanted = another(rng, ATTRIBUTES[attribute], look[attribute])
            original, edited = draw_and_edit(session, look, attribute, wanted, 1000 * given.seed + number)
            before, after = seen([original.image, edited.image])
            right = float(after[attribute] == wanted)
            values["asked attribute right"].append(right)
            values[f"{name} right"].append(right)
            others = [after[other] == before[other] for other in ATTRIBUTES if other != attribute]
            values["every other attribute kept"].append(float(np.mean(others)))
            values["tokens and pixels outside bit-equal"].append(float(same_outside(session, original, edited)))
            values["replayed within 1e-5"].append(float(replay_gap(session, edited) < REPLAY_GAP))
    return dict(values)


def draw_and_edit(session: Session, look: Look, attribute: str, value: str, seed: int) -> tuple[Drawing, Drawing]:
    """A drawing of a look, and the same with another value of one attribute."""
    original = session.draw_traced(prompt_for(session, look, attribute), seed=seed)[0]
    prompt = prompt_for(session, {**look, attribute: value}, attribute)
    return original, session.edit(original, redrawn_mask(attribute), prompt, seed=seed)[0]


def prompt_for(session: Session, look: Look, attribute: str) -> str:
    """By name where the context is edited, in words where the look is."""
    context = {name: look[name] for name in CONTEXT}
    if attribute in CONTEXT:
        return named_prompt(session, context)
    identity = {name: value for name, value in look.items() if name not in CONTEXT}
    return grammar.scene_prompt("a photo of", grammar.describe(identity), context)


def same_outside(session: Session, original: Drawing, edited: Drawing) -> bool:
    """Whether every token and every pixel outside the region is what it was."""
    assert edited.region is not None
    kept = ~square_of(session).cells(edited.region)
    tokens = [drawing.trace.tokens[0].cpu().numpy()[kept] for drawing in (original, edited)]
    pixels = [np.asarray(drawing.image)[~edited.region] for drawing in (original, edited)]
    return bool(np.array_equal(*tokens) and np.array_equal(*pixels))


def replay_gap(session: Session, edited: Drawing) -> float:
    """The largest difference, in nats, between what a token was drawn with and what its replay gives."""
    replayed = token_likelihoods(session, edited, [session.with_tokens(edited.prompt)])[0]
    drawn = edited.trace.drawn[0].cpu()
    return float((replayed - edited.trace.logps[0].cpu())[drawn].abs().max())
