"""What a thing looks like, told by the drawing half: the description under which it finds the photos likeliest.

No label and no training is needed. The line that it finds is what the words read when they answer, so that what the
image part knows reaches the text part (docs/log.md, "The drawing half as teacher of the words, by what it says").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from sync_r1.data import Picture
from sync_r1.data.phrases import with_article
from sync_r1.recognition import token_logps
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.render import ATTRIBUTES, IDENTITY

SWEEPS = 3  # over the attributes, at most: a value found later may change one found before


@dataclass(frozen=True)
class Description:
    """A look in words, and how likely it makes the photos."""

    text: str  # "a red dog with a star"
    nats: float  # mean log-probability of a photo's tokens under "a photo of <text>"


def describe_photos(session: Session, photos: Sequence[Picture]) -> list[Description]:
    """Descriptions of what is in all the photos, the likeliest first.

    In the embedded world every value of every attribute is tried, one attribute after another, with the class of the
    session's concept as its kind where it is one. Other models choose among what they write about each photo.

    Raises:
        ValueError: no photos, a file that is no usable picture, or a model that writes nothing about any of them.
    """
    if not photos:
        raise ValueError("there is no photo to describe; give at least one")
    codes = session.encode(photos)
    scores: dict[str, float] = {}
    if session.draws_world:
        _try_attributes(session, codes, scores)
    else:
        contexts = [session.question_context(grammar.CAPTION_QUESTION, row) for row in codes]
        _score(session, codes, filter(None, map(str.strip, session.answers(contexts))), scores)
    if not scores:
        raise ValueError(f"the model writes nothing about any of {len(codes)} photos; describe it yourself")
    found = [Description(text, nats) for text, nats in scores.items()]
    return sorted(found, key=lambda one: one.nats, reverse=True)


def _try_attributes(session: Session, codes: Tensor, scores: dict[str, float]) -> None:
    look = {"kind": session.concept.class_noun}
    if look["kind"] not in ATTRIBUTES["kind"]:
        kinds = {with_article(kind): kind for kind in ATTRIBUTES["kind"]}
        look["kind"] = kinds[_score(session, codes, kinds, scores)]
    for _ in range(SWEEPS):
        before = dict(look)
        for attribute in IDENTITY[1:]:
            tried = {}
            for value in ATTRIBUTES[attribute]:
                known = {name: value if name == attribute else look.get(name) for name in IDENTITY}
                candidate = {name: word for name, word in known.items() if word is not None}
                tried[grammar.describe(candidate)] = candidate
            look = tried[_score(session, codes, tried, scores)]
        if look == before:
            break


def _score(session: Session, codes: Tensor, texts: Iterable[str], scores: dict[str, float]) -> str:
    """Score every text that has no score yet; the best of these texts, "" of none."""
    asked = list(dict.fromkeys(texts))
    for text in asked:
        if text not in scores:
            logps = token_logps(session.model, f"a photo of {text}", codes, session.options.batch_size)
            scores[text] = float(logps.sum(1).mean())
    return max(asked, key=lambda text: scores[text], default="")
