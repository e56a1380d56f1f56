"""A person's face as the start of drawing tokens (UniCTokens; see models/concept_init.py)."""

from __future__ import annotations

import warnings

from torch import Tensor

from sync_r1.data.concepts import Concept
from sync_r1.data.pictures import load_image
from sync_r1.scorers.face import FaceScorer


def concept_face(concept: Concept, pack: str) -> Tensor | None:
    """Mean unit-norm ArcFace embedding [512] over the training photos that show a face, for `add_concept(..., face=)`.

    None when there is none to be had: quietly for what is no person, with a warning for a person without `pack` (a
    folder of an insightface pack) or without a face on any photo. ValueError for a folder that is no pack, or without
    onnxruntime.
    """
    if concept.category != "person":
        return None
    if not pack:
        warnings.warn(
            f"<{concept.name}> is a person, but scorers.face names no insightface pack; its drawing tokens start without a face",
            stacklevel=2,
        )
        return None
    features, found = FaceScorer.from_pretrained(pack).embed([load_image(photo) for photo in concept.train_images])
    if not found.any():
        warnings.warn(
            f"no photo of <{concept.name}> shows a face that was found; its drawing tokens start without one",
            stacklevel=2,
        )
        return None
    return features[found].mean(0)
