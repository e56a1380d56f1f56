"""Pictures that the model drew, read again, and kept only where it found nothing wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sync_r1.apps.check import Check, check_all, in_words
from sync_r1.data import load_image
from sync_r1.data.prompts import with_looks
from sync_r1.drawings import Drawing
from sync_r1.session import Session

READ_RIGHT = 0.9  # share of the photos of which every word must be read right


@dataclass(frozen=True)
class CheckedDrawing:
    """A drawing with what the model reads in it."""

    drawing: Drawing
    checks: list[Check]
    tries: int  # how many pictures were drawn for it

    @property
    def image(self) -> Image.Image:
        return self.drawing.image

    @property
    def mistakes(self) -> list[Check]:
        """What is not as it was asked for."""
        return [one for one in self.checks if not one.right]

    @property
    def right(self) -> bool:
        return not self.mistakes


def reads_its_photos(session: Session) -> bool:
    """Whether the model reads the look of the concept right in nine of ten of its own photos, word by word.

    Only then its check of a drawing says something: a model that takes the stripes of a real photo for dots cannot tell
    whether they were drawn.
    """
    if not session.draws_world:
        return False
    photos = [load_image(path) for path in session.concept.train_images]
    read = check_all(session, photos, f"a photo of {session.concept.placeholder}")
    rights = np.array([[one.right for one in checks] for checks in read])
    return bool(np.all(rights.mean(axis=0) >= READ_RIGHT))


def draw_checked(
    session: Session, prompt: str, seed: int = 0, tries: int = 3, described: bool = False
) -> CheckedDrawing:
    """Draw with the seeds seed, seed+1, … until the model finds nothing wrong.

    Args:
        tries: pictures at most; without a right one the one with the fewest mistakes counts, of these the first.
        described: whether what the info line tells of the look stands after the name and, in as many more pictures
            where that fails, in its place. A name that settled on a wrong look is put right by it.
    Raises:
        ValueError: what `apps.asked.asked_things` refuses, or less than one try.
    """
    if tries < 1:
        raise ValueError(f"tries is {tries}; it must be at least 1")
    prompts = [prompt] * tries
    if described:
        text = session.mention(prompt)
        prompts = [with_looks(text, [session.concept], least=1)] * tries
        worded = in_words(session, prompt)
        prompts += [worded] * (tries if worded != text else 0)
    best: CheckedDrawing | None = None
    for number, text in enumerate(prompts):
        found = _drawn(session, text, prompt, seed + number, number + 1)
        if best is None or len(found.mistakes) < len(best.mistakes):
            best = found
        if best.right:
            break
    assert best is not None
    return CheckedDrawing(best.drawing, best.checks, number + 1)


def _drawn(session: Session, text: str, wanted: str, seed: int, tries: int) -> CheckedDrawing:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the prompt does not mention")  # it is described in words
        drawing = session.draw_traced(text, 1, seed)[0]
    return CheckedDrawing(drawing, check_all(session, [drawing], wanted)[0], tries)


def draw_right(session: Session, prompts: Sequence[str], seed: int = 0, tries: int = 2) -> list[Image.Image] | None:
    """One picture for every prompt, each without a mistake, or None when one of them has no such picture."""
    images = []
    for number, prompt in enumerate(prompts):
        found = draw_checked(session, prompt, seed + 10 * number, tries, described=True)
        if not found.right:
            return None
        images.append(found.image)
    return images
