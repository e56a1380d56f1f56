"""A12: private facts read from pictures, and what a training on those that the owner confirms is worth.

The owner shows three pictures of the thing with everything that is private to it and confirms what is true. Where that
gives other facts than typing them did, the concept is trained once more on them; else both trainings are the same one.
"""

from __future__ import annotations

import numpy as np

from application_claims.feedback import differences
from application_claims.given import CONFIRMED, Given, Values, new_values
from sync_r1.apps.facts import UNKNOWN, read_facts, unknown_thing
from sync_r1.world import grammar
from sync_r1.world.concepts import Persona
from sync_r1.world.render import CONTEXT, random_thing, render_image

SHOWN = 3  # pictures that an owner gives


def measure(given: Given) -> Values:
    """What is proposed of random pictures; then the confirmed facts against the typed ones."""
    persona = given.persona
    values = new_values()
    session, rng = unknown_thing(persona.identity["kind"], device=given.device), given.rng("facts")
    for _ in range(given.count("pictures")):
        thing = random_thing(rng, **persona.identity)
        true = {
            grammar.fact(f"<{UNKNOWN}>", attribute, getattr(thing, attribute))
            for attribute in CONTEXT
            if getattr(thing, attribute) != "none"
        }
        proposed = [one.sentence for one in read_facts(session, render_image(thing))]
        values["proposed sentence right"] += [float(sentence in true) for sentence in proposed]
        values["of what there is to find proposed"] += [float(sentence in proposed) for sentence in sorted(true)]
    confirmed, typed = confirmed_facts(persona, given.device), given.words_right()
    values["facts confirmed"] = [float(fact in confirmed) for fact in persona.sentences]
    trained = typed
    if not confirmed:
        trained = [0.0] * len(typed)  # nothing to rewrite with
    elif confirmed != persona.sentences:
        trained = given.words_right(CONFIRMED)
    values["words right, change by confirmed instead of typed facts"] = differences(trained, typed)
    return dict(values)


def confirmed_facts(persona: Persona, device: str = "cpu") -> list[str]:
    """The private facts that an owner could confirm after showing some pictures, in the order in which they are
    typed."""
    session, rng = unknown_thing(persona.identity["kind"], device=device), np.random.default_rng(len(persona.name))
    proposed: set[str] = set()
    for _ in range(SHOWN):
        picture = render_image(persona.thing(rng, **persona.facts))
        found = read_facts(session, picture)
        proposed |= {one.sentence.replace(f"<{UNKNOWN}>", persona.placeholder) for one in found}
    return [fact for fact in persona.sentences if fact in proposed]
