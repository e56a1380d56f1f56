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
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.data.regions import Square
from sync_r1.recognition import picture_evidence
from sync_r1.session import Session
from sync_r1.world import grammar

WHOLE = (RECOGNITION_QUESTION, grammar.SIDE_QUESTION)  # these are about the whole picture


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
    if not asked:
        return found
    images = [as_image(pictures[row]) for row in asked]
    counts = session.answers([session.question_context(grammar.COUNT_QUESTION, own) for own in session.encode(images)])
    twos = [(row, image) for row, image, count in zip(asked, images, counts, strict=True) if count == "two"]
    if twos:
        halves = [half(image, side) for _, image in twos for side in ("left", "right")]
        model, concept, size = session.model, session.concept, session.options.batch_size
        evidence = picture_evidence(model, concept, session.tokens, halves, size, described=True)
        better = evidence.sum(1).view(-1, 2).argmax(1).tolist()
        for number, (row, _) in enumerate(twos):
            found[row] = halves[2 * number + better[number]]
    return found


def _about_one(session: Session, question: str) -> bool:
    asked, named = session.mention(question).strip(), session.concept.placeholder
    about_it = set(re.findall(r"<[^<>\s]+>", asked)) == {named}
    return session.draws_world and about_it and asked not in [whole.format(name=named) for whole in WHOLE]


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
