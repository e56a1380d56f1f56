"""A7: an owner likes pictures in one place where the prompt names none; the model practises to draw them so.

Four thumbs up are for pictures of the wished place that were asked for by name and are liked for the plain prompt, four
thumbs down for what the plain prompt gives by itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from application_claims.feedback import differences, some_logps
from application_claims.given import Given, Values, new_values
from application_claims.pictures import another, is_right, named_prompt, random_context, seen
from sync_r1.apps.feedback import Store, belief, learn, rate_picture, undo
from sync_r1.drawings import save_picture
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.render import CONTEXT_VALUES

THUMBS = 4  # of each kind


def measure(given: Given) -> Values:
    """Before and after some seconds of practice, and after undo."""
    session = given.trained()
    wish = grammar.choose(given.rng("wish"), CONTEXT_VALUES["scene"])
    with tempfile.TemporaryDirectory() as folder:
        store = Store.of(given.concept, folder)
        give_thumbs(session, store, wish, Path(folder), given.seed)
        understood = belief(store).wish == ("scene", wish)
        start, before = some_logps(session), look(given, session, wish)
        after = before
        if understood:
            update = learn(session, store, given.counts["practice_s"], seed=given.seed)
            after = look(given, session, wish)
            undo(session, update)
    return {
        "wish shown before": before["wish shown"],
        "wish shown after practice": after["wish shown"],
        "named places obeyed after practice": after["named place"],
        "identity right, change": differences(after["identity"], before["identity"]),
        "hat and held thing right, change": differences(after["context"], before["context"]),
        "undo bit-equal": [float(torch.equal(start, some_logps(session)))],
    }


def give_thumbs(session: Session, store: Store, wish: str, folder: Path, seed: int) -> None:
    """Thumbs for pictures of the plain prompt."""
    plain = named_prompt(session, {})
    wished = session.draw(named_prompt(session, {"scene": wish}), THUMBS, 1000 * seed + 500)
    usual = session.draw(plain, 4 * THUMBS, 1000 * seed + 600)
    others = [image for image, found in zip(usual, seen(usual), strict=True) if found["scene"] != wish]
    thumbs = [(image, True) for image in wished] + [(image, False) for image in others[:THUMBS]]
    for number, (image, good) in enumerate(thumbs):
        rate_picture(session, store, save_picture(image, folder / f"{number}.png"), good, plain)


def look(given: Given, session: Session, wish: str) -> Values:
    """What the evaluator sees in pictures of prompts that leave the place open, and of prompts that name another."""
    values = new_values()
    rng = given.rng("wish prompts")
    for number in range(given.count("pictures")):
        seed = 1000 * given.seed + number
        context = random_context(rng)
        worn = {name: context[name] for name in ("hat", "item")}
        place = another(rng, CONTEXT_VALUES["scene"], wish)
        prompts = [named_prompt(session, worn), named_prompt(session, {**worn, "scene": place})]
        free, named = seen([session.draw(prompt, 1, seed)[0] for prompt in prompts])
        values["wish shown"].append(float(free["scene"] == wish))
        values["named place"].append(float(named["scene"] == place))
        for found in (free, named):
            values["identity"].append(float(is_right(found, given.persona.identity)))
            values["context"].append(float(is_right(found, worn)))
    return dict(values)
