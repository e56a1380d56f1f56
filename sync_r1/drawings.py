"""Drawn pictures: how they came about, and files that say so."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sync_r1.data.prompts import placeholder
from sync_r1.data.regions import Square, paste
from sync_r1.files import write_bytes
from sync_r1.models.base import UnifiedModel
from sync_r1.types import ImageTrace, Sampling

METADATA = ("prompt", "seed", "run", "concept", "software")  # text chunks of a saved picture
EDIT = "edit"  # one more, of a picture that was drawn over another: which region of which


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture with what made it."""

    prompt: str
    seed: int
    trace: ImageTrace  # one row; of an edit the kept tokens have unmask_step -1
    image: Image.Image
    sampling: Sampling
    region: np.ndarray | None = None  # of an edit: the pixels [height, width] bool that were drawn again
    original: Image.Image | None = None  # of an edit: the picture before


@dataclass(frozen=True)
class Preview:
    """What a picture looks like after `step` of `timesteps` steps; after the last it is finished."""

    step: int
    timesteps: int
    image: Image.Image


@dataclass(frozen=True)
class Canvas:
    """A picture to draw over."""

    picture: Image.Image
    square: Square  # what the model sees of it
    codes: Tensor  # [N] of the square

    @classmethod
    def of(cls, model: UnifiedModel, image: Image.Image | Drawing) -> Canvas:
        """A drawing keeps the tokens it was drawn from; any other picture is encoded."""
        if isinstance(image, Drawing):
            picture = image.image
        else:
            picture = image.convert("RGB")
        square = Square(picture.width, picture.height, math.isqrt(model.num_image_tokens))
        if isinstance(image, Drawing):
            return cls(picture, square, image.trace.tokens[0])
        return cls(picture, square, model.encode_image([picture.crop(square.box)])[0])

    @property
    def digest(self) -> str:
        """Short name of the picture by its content."""
        return hashlib.sha256(self.picture.tobytes()).hexdigest()[:8]

    def paste(self, image: Image.Image, mask: np.ndarray) -> Image.Image:
        """The picture with what was drawn of its square inside the mask; on large pictures the edge fades inside it."""
        return paste(self.picture, image, mask, self.square, feather=self.square.side // 128)


def drawings(
    model: UnifiedModel,
    traces: Iterable[ImageTrace],
    prompt: str,
    seeds: Sequence[int],
    sampling: Sampling,
    canvas: Canvas | None = None,
    masks: Sequence[np.ndarray] = (),
) -> list[Drawing]:
    """Finished traces as drawings, one per seed; on a canvas they are pasted into it, each inside its own mask."""
    drawn: list[Drawing] = []
    for trace in traces:
        for row, image in enumerate(to_images(model.decode_image(trace.tokens))):
            number = len(drawn)
            mask = None
            if canvas is not None:
                mask = masks[number]
            drawn.append(
                Drawing(
                    prompt=prompt,
                    seed=seeds[number],
                    trace=trace.select([row]),
                    image=image if canvas is None or mask is None else canvas.paste(image, mask),
                    sampling=sampling,
                    region=mask,
                    original=None if canvas is None else canvas.picture,
                )
            )
    return drawn


def to_images(pictures: Tensor) -> list[Image.Image]:
    """uint8 [B, 3, H, W] → PIL."""
    return [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures.cpu()]


def picture_bytes(image: Image.Image) -> bytes:
    """A PNG file with the picture's `info` (prompt, seed, run, concept, version, edit) as text in it."""
    info = PngInfo()
    for key in (*METADATA, EDIT):
        if key in image.info:
            info.add_itxt(key, str(image.info[key]))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def save_picture(image: Image.Image, path: Path) -> Path:
    """Write `picture_bytes` to a file and return its path."""
    return write_bytes(path, picture_bytes(image))


def save_pictures(images: Sequence[Image.Image], folder: Path | str) -> list[Path]:
    """Write drawn pictures as `<concept>_<words of the prompt>_<hash>_<seed>.png`.

    Another prompt, run or edit never overwrites them.
    """
    return [save_picture(image, Path(folder) / _file_name(image.info)) for image in images]


def _file_name(info: dict[Any, Any]) -> str:
    words = (
        re.sub(r"[^a-z0-9]+", "-", str(info["prompt"]).replace(placeholder(info["concept"]), "").lower())
        .strip("-")[:40]
        .strip("-")
    )
    source = "\n".join(str(info[key]) for key in ("prompt", "run", EDIT) if key in info)
    made = hashlib.sha256(source.encode()).hexdigest()[:6]
    return "_".join([info["concept"], *([words] if words else []), made, str(info["seed"])]) + ".png"
