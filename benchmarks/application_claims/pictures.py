"""What several claims need of pictures: the evaluator's reading, random prompts, and where attributes are seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sync_r1.data.regions import Square
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.readers import AttributeReader
from sync_r1.world.render import CONTEXT_VALUES, SIZE

Look = Mapping[str, str]  # attribute → value


@lru_cache(maxsize=1)
def evaluator() -> AttributeReader:
    """The reader that no reward uses."""
    return load_evaluator_reader()


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Pictures of 32 × 32 pixels → uint8 [B, 3, 32, 32]."""
    arrays = [np.asarray(image.convert("RGB")) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def seen(images: Sequence[Image.Image]) -> list[dict[str, str]]:
    """What the evaluator reads in pictures: attribute → value, for each."""
    return evaluator().read(to_pixels(images))


def is_right(found: Look, wanted: Look) -> bool:
    """Whether everything that is wanted was found."""
    return all(found[name] == value for name, value in wanted.items())


def random_context(rng: np.random.Generator, **fixed: str) -> dict[str, str]:
    """A hat, a held thing and a place, each something that words can ask for."""
    return {name: fixed.get(name) or grammar.choose(rng, values) for name, values in CONTEXT_VALUES.items()}


def another(rng: np.random.Generator, values: Sequence[str], value: str) -> str:
    """One of the other values."""
    return grammar.choose(rng, [other for other in values if other not in (value, "none")])


def named_prompt(session: Session, context: Look) -> str:
    """A drawing prompt for the session's concept, by its name."""
    return grammar.scene_prompt("a photo of", session.concept.placeholder, context)


def square_of(session: Session) -> Square:
    """The world's pictures, cut into the model's cells."""
    return Square(SIZE, SIZE, math.isqrt(session.model.num_image_tokens))
