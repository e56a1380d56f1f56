"""A thumb becomes an event: together with what the model used, and what is seen in a picture."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sync_r1.apps.feedback.events import Event, Store
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.apps.why import answer_credit
from sync_r1.asked_texts import checked_text
from sync_r1.data import load_image
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.assets import load_reward_reader
from sync_r1.world.readers import AttributeReader
from sync_r1.world.render import CONTEXT, SIZE


def rate_rewrite(
    session: Session, store: Store, prompt: str, output: str, good: bool, correction: str = ""
) -> list[Event]:
    """A thumb for a rewrite of a drawing prompt. A correction is what it should have said: a thumb up for that text.

    Returns the events that were stored.

    Raises:
        ValueError: an empty or very long text, a correction beside a thumb up, or a thing without facts.
    """
    if correction and good:
        raise ValueError("a correction goes with a thumb down; leave it out, or say bad")
    texts = [(output, good)]
    if correction:
        texts.append((correction, True))
    events = []
    for text, verdict in texts:
        (named,) = facts_named(session, [(checked_text(prompt, "prompt"), checked_text(text, "text"))])
        events.append(
            Event(
                what="rewrite",
                prompt=session.mention(prompt.strip()),
                output=session.mention(text.strip()),
                good=verdict,
                named=named,
                facts=[session.concept.shown(fact) for fact in session.concept.facts],
            )
        )
    return _stored(store, events)


def rate_answer(
    session: Session, store: Store, question: str, answer: str, good: bool, image: Path | str | None = None
) -> list[Event]:
    """A thumb for an answer. It is kept with what the answer came from; see docs/applications.md for what is learned.

    Returns the event that was stored, in a list.

    Raises ValueError for an empty text or an unreadable picture.
    """
    credits = answer_credit(session, checked_text(question, "question"), checked_text(answer, "answer"), image)
    event = Event(
        what="answer",
        prompt=session.mention(question.strip()),
        output=answer.strip(),
        good=good,
        named=[one.fact for one in credits if one.used],
        picture="" if image is None else str(image),
    )
    return _stored(store, [event])


def rate_picture(session: Session, store: Store, picture: Path | str, good: bool, prompt: str = "") -> list[Event]:
    """A thumb for a picture: what it shows that its prompt does not ask for is evidence of a wish.

    Returns the event that was stored, in a list.

    Args:
        prompt: what it was drawn from; by default as the picture's file says.
    Raises:
        ValueError: an unreadable picture, one that says no prompt, or a model that does not draw the embedded world.
    """
    image = load_image(picture)
    with Image.open(picture) as file:
        text = prompt or str(file.info.get("prompt", ""))
    text = session.mention(checked_text(text, f"prompt of {picture}"))
    seen = unasked(session, [image], text)[0]
    return _stored(store, [Event(what="picture", prompt=text, output=str(picture), good=good, seen=seen)])


def unasked(session: Session, images: list[Image.Image], prompt: str) -> list[dict[str, str]]:
    """What pictures show of hat, held thing and place where the prompt names none, read by the reward's reader."""
    if not session.draws_world:
        raise ValueError(
            f"this model draws {session.model.image_size} × {session.model.image_size} pixels; thumbs for pictures "
            f"are read with the embedded world's reader, whose pictures have {SIZE} × {SIZE}; rate texts instead"
        )
    asked = grammar.parse(prompt)
    small = [image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for image in images]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2)
    return [
        {name: row[name] for name in CONTEXT if name not in asked} for row in reward_reader().read(pixels.contiguous())
    ]


@lru_cache(maxsize=1)
def reward_reader() -> AttributeReader:
    """The reader that rewards are read with; the evaluator's is another network."""
    return load_reward_reader()


def _stored(store: Store, events: list[Event]) -> list[Event]:
    for event in events:
        store.add(event)
    return events
