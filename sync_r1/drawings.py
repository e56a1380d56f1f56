"""Draw pictures and previews step by step, and save them as PNG files that record how each was made."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sync_r1.config_fields import LARGEST
from sync_r1.data.prompts import placeholder
from sync_r1.data.regions import Box, Region, Square, paste, read_region
from sync_r1.files import write_bytes
from sync_r1.models.base import UnifiedModel
from sync_r1.models.sampling import random_cells
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
class Patch:
    """What of a canvas is drawn again, a row per drawing."""

    masks: list[np.ndarray]  # pixels [height, width] bool
    cells: Tensor  # [n, N] bool, the image tokens that these touch
    what: str  # for the record


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

    def region(self, mask: Region, count: int, names: Mapping[str, Sequence[Box]] | None = None) -> Patch:
        """The same region for `count` drawings. Warns when the model sees nothing but the region.

        Args:
            mask, names: see `data.regions.read_region`.
        Raises:
            ValueError: a mask that is empty, of another size or unknown.
        """
        pixels = read_region(mask, self.square, names)
        cells = self.square.cells(pixels)
        if cells.all():
            warnings.warn("the region touches every image token, so nothing guides it: a new drawing", stacklevel=3)
        what = f"{int(pixels.sum())} px"
        if isinstance(mask, str):
            what = mask
        return Patch([pixels] * count, torch.from_numpy(cells).expand(count, -1), what)

    def random_share(self, share: float, seeds: Sequence[int]) -> Patch:
        """Another random share of the image tokens for every seed. ValueError when it is not above 0 and at most 1."""
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it must be above 0 and at most 1")
        cells = random_cells(len(self.codes), share, seeds)
        return Patch([self.square.pixels(row) for row in cells.numpy()], cells, f"share {share:g}")

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


def following_seeds(seed: int, count: int) -> list[int]:
    """seed, seed+1, … of `count` pictures. ValueError when there is none, or a seed is out of range."""
    if count < 1:
        raise ValueError(f"n is {count}; it must be at least 1 picture")
    last = LARGEST - count + 1
    if not 0 <= seed <= last:
        raise ValueError(f"seed is {seed}; it must lie between 0 and {last}, so that {count} fit behind it")
    return list(range(seed, seed + count))


def preview_steps(previews: int | None, total: int) -> list[int]:
    """The steps, of `total`, after which a drawing is shown: all, or that many, evenly spaced; the last is `total`."""
    count = total
    if previews is not None:
        count = previews
    if not 1 <= count <= total:
        raise ValueError(f"previews is {previews}; it must be 1 to {total}, the number of steps")
    return [total * (number + 1) // count for number in range(count)]


def drawing_previews(
    model: UnifiedModel, text: str, seed: int, stops: Sequence[int], sampling: Sampling, info: dict[Any, Any]
) -> Iterator[Preview]:
    """One drawing as it looks after each of the steps `stops`, with `info` in every picture."""
    state = model.generate_image([text], sampling, [seed], stop_at=0)
    for stop in stops:
        state = model.generate_image([text], sampling, state=state, stop_at=stop)
        image = to_images(model.preview(state))[0]
        image.info = dict(info)
        yield Preview(stop, sampling.generation_timesteps, image)


def decoded(model: UnifiedModel, traces: Iterable[ImageTrace]) -> Iterator[Image.Image]:
    """The pictures of finished traces, one after the other."""
    for trace in traces:
        yield from to_images(model.decode_image(trace.tokens))


def to_images(pictures: Tensor) -> list[Image.Image]:
    """uint8 [B, 3, H, W] → PIL."""
    return [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pictures.cpu()]


def save_picture(image: Image.Image, path: Path) -> Path:
    """Write a PNG with the picture's `info` as text in it."""
    return write_bytes(path, png_bytes(image))


def png_bytes(image: Image.Image) -> bytes:
    """A PNG with the picture's `info` (prompt, seed, run, concept, version, edit) as text in it."""
    info = PngInfo()
    for key in (*METADATA, EDIT):
        if key in image.info:
            info.add_itxt(key, str(image.info[key]))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


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
