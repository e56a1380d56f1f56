"""A10: is it in the picture? By what the model would draw, against asking it in words.

Half of the pictures show the concept, half others, half of which differ in one attribute. The threshold comes from the
concept's photos for training and its negatives for training.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from recognition import lookalikes

from application_claims.feedback import differences
from application_claims.given import Given, Values
from sync_r1.session import Session


def measure(given: Given) -> Values:
    """Whether each vote is right, picture by picture."""
    session = given.trained()
    pictures, _ = lookalikes(given.concept, given.count("pictures"), given.seed)
    votes = rights(session, pictures, given.count("pictures"))
    return {
        "right by drawing": votes["drawing"],
        "right in words": votes["words"],
        "right by both": votes["both"],
        "over asking in words": differences(votes["drawing"], votes["words"]),
    }


def rights(session: Session, pictures: Sequence[Image.Image], shown: int) -> Values:
    """Of every picture whether each vote is right; the first `shown` pictures show the concept."""
    found = session.recognitions(pictures, "both")
    truth = [number < shown for number in range(len(found))]
    votes = {
        "words": [bool(one.words) for one in found],
        "drawing": [one.margin is not None and one.margin > 0 for one in found],
        "both": [one.present for one in found],
    }
    return {how: [float(vote == true) for vote, true in zip(row, truth, strict=True)] for how, row in votes.items()}
