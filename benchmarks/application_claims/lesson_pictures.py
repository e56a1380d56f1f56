"""A9: how many of the drawn pictures of a lesson are wrong, as drawn and as they are shown to a learner."""

from __future__ import annotations

from application_claims.given import Given, Values, new_values
from application_claims.pictures import is_right, seen
from sync_r1.apps.checked import draw_checked, reads_its_photos
from sync_r1.apps.learn import facts_of


def measure(given: Given) -> Values:
    """A picture of every fact, `rounds` times, with the tries that a lesson gives it."""
    session = given.trained()
    values = new_values()
    trusted = reads_its_photos(session)
    for number in range(given.count("rounds")):
        for place, fact in enumerate(facts_of(session.concept)):
            wanted = {**given.persona.identity, fact.attribute: fact.value}
            seed = 100_000 * given.seed + 10_000 * number + 100 * place
            first = session.draw(fact.prompt, 1, seed)[0]
            found = draw_checked(session, fact.prompt, seed, 2, described=True)
            drawn, kept = (float(not is_right(one, wanted)) for one in seen([first, found.image]))
            values["wrong as drawn"].append(drawn)
            values["shown"].append(float(found.right and trusted))
            if found.right:
                values["wrong of those that pass the check"].append(kept)
            if found.right and trusted:
                values["wrong of those that are shown"].append(kept)
    return dict(values)
