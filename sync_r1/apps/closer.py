"""Of a picture of two, the half that a question is about.

Asked about a picture of two, the shipped model answers 0.64 of the questions about either right, because it mixes them
up; asked about the right half alone, which looks like the pictures of one that it knows best, 0.98 (docs/log.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sync_r1.data import Picture, as_image
from sync_r1.data.regions import Square
from sync_r1.recognition import picture_evidence
from sync_r1.session import Session
from sync_r1.world import grammar

WHOLE = re.compile(r"\b(picture|side)\b", re.IGNORECASE)  # in questions about a whole picture


def closer(session: Session, question: str, picture: Picture) -> Picture:
    """The picture that answers a question best: of two side by side the one that is meant, else what was given.

    That is for a question that mentions the session's concept and no other, and asks what it is, looks like or wears. A
    model that does not draw the embedded world always gets what was given.
    """
    return closer_all(session, [question], [picture])[0]


def closer_all(session: Session, questions: Sequence[str], pictures: Sequence[Picture]) -> list[Picture]:
    """The same for several questions, each with its picture, read together."""
    found = list(pictures)
    asked = [row for row, question in enumerate(questions) if _about_one(session, question)]
    for row, nearer in zip(asked, the_one_meant(session, [pictures[row] for row in asked]), strict=True):
        found[row] = nearer
    return found


def the_one_meant(session: Session, pictures: Sequence[Picture]) -> list[Picture]:
    """Of each picture in which the model counts two the half that is more like the concept; else what was given."""
    found = list(pictures)
    if not pictures or not session.draws_world:
        return found
    images = [as_image(picture) for picture in pictures]
    counts = session.answers([session.question_context(grammar.COUNT_QUESTION, own) for own in session.encode(images)])
    twos = [row for row, count in enumerate(counts) if count == "two"]
    halves = [half(images[row], side) for row in twos for side in ("left", "right")]
    model, concept, size = session.model, session.concept, session.options.batch_size
    evidence = picture_evidence(model, concept, session.tokens, halves, size, described=True)
    for number, better in enumerate(evidence.sum(1).view(-1, 2).argmax(1).tolist()):
        found[twos[number]] = halves[2 * number + better]
    return found


def _about_one(session: Session, question: str) -> bool:
    asked = session.mention(question)
    about_it = set(re.findall(r"<[^<>\s]+>", asked)) == {session.concept.placeholder}
    return session.draws_world and about_it and not WHOLE.search(asked)


def half(image: Image.Image, side: str) -> Image.Image:
    """One side of what a model sees of a picture, in the middle of a square whose space repeats its outer columns.

    Args:
        side: "left" or "right".
    """
    pixels = np.asarray(image.convert("RGB").crop(Square(image.width, image.height, grid=1).box))
    width = pixels.shape[1]
    kept = pixels[:, : width // 2] if side == "left" else pixels[:, width // 2 :]
    before = (width - kept.shape[1]) // 2
    after = width - kept.shape[1] - before
    return Image.fromarray(np.pad(kept, ((0, 0), (before, after), (0, 0)), mode="edge"))
