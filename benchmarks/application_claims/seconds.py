"""How long a person waits: seconds of an edit, a chat answer, a page about why, and a round of feedback."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from application_claims.fact_credit import meanings
from application_claims.feedback import give_thumbs
from application_claims.given import Given, Values, new_values
from application_claims.pictures import named_prompt, random_context
from sync_r1.apps.chat import Chat
from sync_r1.apps.feedback import Store, learn, undo
from sync_r1.apps.why_page import explain, write_why
from sync_r1.session import Session


def measure(given: Given) -> Values:
    """Every application `repeats` times; a round of feedback once, from its first question to the changed model."""
    session, rng = given.trained(), given.rng("seconds")
    values = new_values()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chat = Chat({given.concept: session}, folder)
        for number in range(given.count("repeats") + 1):
            prompt = named_prompt(session, random_context(rng))
            drawing = session.draw_traced(prompt, seed=number)[0]
            found = {
                "an edit": timed(session.edit, drawing, "hat", prompt, seed=number),
                "a chat answer with its sources": timed(chat.ask, f"What colour is {given.concept}?"),
                "a page about why": timed(why_page, session, prompt, folder),
            }
            if number:  # the first of everything fills caches
                for what, seconds in found.items():
                    values[what].append(seconds)
        practice_s = given.counts["practice_s"]
        round_s = timed(feedback_round, given, given.looked(), folder, practice_s)
        values[f"a round of feedback with {practice_s:g} s of practice"] = [round_s]
    return dict(values)


def why_page(session: Session, prompt: str, folder: Path) -> None:
    """Draw, explain, and write the page."""
    write_why(explain(session, prompt), session, folder / "why.html")


def feedback_round(given: Given, session: Session, folder: Path, seconds: float) -> None:
    """Questions, thumbs, practice, the guard, and the way back."""
    store = Store.of(given.concept, folder)
    give_thumbs(session, store, meanings(given.persona), given.seed)
    undo(session, learn(session, store, seconds, seed=given.seed))


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """Seconds by the clock."""
    began = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - began
