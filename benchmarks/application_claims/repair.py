"""A2: reading its own picture and drawing again what is wrong makes more pictures right, with the same seeds."""

from __future__ import annotations

from application_claims.given import Given, Values, new_values
from application_claims.pictures import is_right, named_prompt, random_context, seen
from sync_r1.apps.check import repair


def measure(given: Given) -> Values:
    """Pictures with a hat, a held thing and a place, as drawn and after their repair."""
    session, rng = given.trained(), given.rng("repair")
    values = new_values()
    for number in range(given.count("pictures")):
        context, seed = random_context(rng), 1000 * given.seed + number
        wanted = {**given.persona.identity, **context}
        prompt = named_prompt(session, context)
        drawing = session.draw_traced(prompt, seed=seed)[0]
        repaired = repair(session, drawing, prompt, given.count("tries"), seed)
        before, after = (float(is_right(found, wanted)) for found in seen([drawing.image, repaired.image]))
        values["whole picture right as drawn"].append(before)
        values["whole picture right after repair"].append(after)
        values["gain by repair"].append(after - before)
    return dict(values)
