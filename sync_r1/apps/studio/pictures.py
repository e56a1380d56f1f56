"""Drawings of the studio: a PNG with its recipe inside, and beside it what the page needs to go on from it.

An edit is a drawing that names the one before it, so that undo is a step back and nothing is ever lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sync_r1.apps.studio.folder import StudioFolder, new_id, newest_first
from sync_r1.data import load_image
from sync_r1.data.regions import Square, read_region
from sync_r1.drawings import Drawing, save_picture
from sync_r1.files import read_json, write_json
from sync_r1.session import Session
from sync_r1.types import Sampling
from sync_r1.world.regions import NAMED_REGIONS

SHOWN_SIDE = 256  # px; smaller pictures are enlarged for the eye
MOST_PICTURES = 64  # of one prompt
MOST_SHOWN = 48
MOST_STEPS = 64


@dataclass(frozen=True)
class Record:
    """What is known about a drawing besides its pixels."""

    id: str
    thing: str
    weights: str
    prompt: str  # what was drawn, as its owner reads it
    asked: str  # what was asked for, before the model spelled it out
    seed: int
    how: str = "drawn"  # drawn, edited, varied, repaired, or brought
    parent: str = ""  # the drawing that it was made from


def keep(
    studio: StudioFolder,
    session: Session,
    drawing: Drawing,
    weights: str,
    asked: str = "",
    how: str = "drawn",
    parent: str = "",
) -> Record:
    """Write a drawing where the page finds it."""
    shown = session.concept.shown(drawing.prompt)
    record = Record(new_id(), session.concept.name, weights, shown, asked or shown, drawing.seed, how, parent)
    save_picture(drawing.image, studio.drawings / f"{record.id}.png")
    write_json(studio.drawings / f"{record.id}.json", asdict(record))
    return record


def keep_brought(studio: StudioFolder, image: Image.Image, thing: str, prompt: str) -> Record:
    """The same of a picture that its owner brought, to edit it."""
    record = Record(new_id(), thing, "", prompt, prompt, 0, "brought")
    save_picture(image, studio.drawings / f"{record.id}.png")
    write_json(studio.drawings / f"{record.id}.json", asdict(record))
    return record


def picture_file(studio: StudioFolder, name: str) -> Path:
    """The PNG of a drawing. ValueError for one that is not there."""
    path = studio.below(studio.drawings, name, ".png")
    if not path.is_file():
        raise ValueError("this drawing is gone; choose another")
    return path


def picture(studio: StudioFolder, name: str) -> Image.Image:
    """A drawing as RGB, with its recipe in `info`."""
    path = picture_file(studio, name)
    image = load_image(path)
    with Image.open(path) as file:
        image.info = dict(file.info)
    return image


def record(studio: StudioFolder, name: str) -> Record:
    """What is known about a drawing. ValueError for one that is not there."""
    stored = read_json(studio.below(studio.drawings, name, ".json"))
    return Record(**stored)


def recent(studio: StudioFolder, thing: str, most: int = MOST_SHOWN) -> list[Record]:
    """The newest drawings of a thing, the newest first."""
    found: list[Record] = []
    for path in newest_first(list(studio.drawings.glob("*.json"))):
        try:
            one = Record(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if one.thing == thing and path.with_suffix(".png").is_file():
            found.append(one)
        if len(found) == most:
            break
    return found


def history(studio: StudioFolder, name: str) -> list[Record]:
    """A drawing and what it was made from, the drawing itself first."""
    found = [record(studio, name)]
    while found[-1].parent and len(found) < 1000:
        found.append(record(studio, found[-1].parent))
    return found


def large(image: Image.Image, side: int = SHOWN_SIDE) -> Image.Image:
    """For the eye: small pictures in whole pixels, without what they say about themselves."""
    plain = image.convert("RGB")
    plain.info = {}
    times = side // max(plain.size)
    if times < 2:
        return plain
    return plain.resize((plain.width * times, plain.height * times), Image.Resampling.NEAREST)


def changed(sampling: Sampling, steps: float | None, guidance: float | None, temperature: float | None) -> Sampling:
    """The sampling with what was chosen; None leaves a value as it is. ValueError for a value that is not allowed."""
    from dataclasses import replace

    given: dict[str, Any] = {}
    if steps:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"steps is {steps:g}; it must be 1 to {MOST_STEPS}")
        given["generation_timesteps"] = int(steps)
    if guidance is not None:
        if not 0 <= guidance <= 20:
            raise ValueError(f"guidance is {guidance:g}; it must be 0 (off) to 20")
        given["guidance_scale"] = float(guidance)
    if temperature is not None:
        if not 0.05 <= temperature <= 5:
            raise ValueError(f"temperature is {temperature:g}; it must be 0.05 to 5")
        given["temperature"] = float(temperature)
    return replace(sampling, **given)


def check_count(count: float, seed: float) -> tuple[int, int]:
    """How many pictures and the first seed. ValueError for what is out of range."""
    if not 1 <= count <= MOST_PICTURES:
        raise ValueError(f"the number of pictures is {count:g}; it must be 1 to {MOST_PICTURES}")
    if seed < 0 or seed != int(seed):
        raise ValueError(f"the seed is {seed:g}; it must be a whole number from 0 on")
    return int(count), int(seed)


def painted(layers: Sequence[Any], width: int, height: int) -> np.ndarray:
    """What a brush painted on the layers of an editor, as pixels [height, width] bool of the picture.

    A pixel of the picture counts where half of it was painted on the enlarged one.
    """
    mask = np.zeros((height, width), dtype=bool)
    for layer in layers:
        if layer is None:
            continue
        alpha = Image.fromarray(np.asarray(layer)).convert("RGBA").getchannel("A")
        small = alpha.resize((width, height), Image.Resampling.BOX)
        mask |= np.asarray(small) >= 128
    return mask


def region_mask(image: Image.Image, names: Sequence[str], layers: Sequence[Any], grid: int) -> np.ndarray:
    """The union of named regions and of what was painted. ValueError where it is empty."""
    square = Square(image.width, image.height, grid)
    mask = painted(layers, image.width, image.height)
    for name in names:
        mask |= read_region(name, square, NAMED_REGIONS)
    if not mask.any():
        raise ValueError("nothing is marked; paint over what is to be drawn again, or tick a region")
    return mask


def download(studio: StudioFolder, name: str, recipe: bool) -> Path:
    """A copy to give away, with or without what made it."""
    source = record(studio, name)
    image = picture(studio, name)
    if not recipe:
        image.info = {}
    return save_picture(image, studio.temporary / "downloads" / name / f"{source.thing}-{source.seed}.png")


# what the screen of drawings does with a model


AT_ONCE = 4  # pictures of a batch: the first ones are seen while the others are drawn


@dataclass(frozen=True)
class Wish:
    """What is to be drawn."""

    prompt: str
    count: int = 4
    seed: int = 0
    steps: float | None = None
    guidance: float | None = None
    temperature: float | None = None
    asked: str = ""  # before the model spelled it out

    def sampling(self, session: Session) -> Sampling:
        return changed(session.image_sampling, self.steps, self.guidance, self.temperature)


Send = Callable[[Any], bool]  # hands something to the page; False once the page does not want any more


def draw(studio: StudioFolder, session: Session, weights: str, wish: Wish, send: Send) -> None:
    """Draw and keep pictures, and send the record of each. What is finished stays when the page wants no more."""
    count, seed = check_count(wish.count, wish.seed)
    sampling = wish.sampling(session)
    for start in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - start)
        for drawing in session.draw_traced(wish.prompt, size, seed + start, sampling):
            if not send(keep(studio, session, drawing, weights, wish.asked)):
                return


def edit(
    studio: StudioFolder,
    session: Session,
    weights: str,
    name: str,
    wish: Wish,
    names: Sequence[str],
    layers: Sequence[Any],
) -> list[Record]:
    """Draw what is marked of a drawing again. Every other pixel stays. Returns the records of the new drawings."""
    count, seed = check_count(wish.count, wish.seed)
    image = picture(studio, name)
    mask = region_mask(image, names, layers, math.isqrt(session.model.num_image_tokens))
    drawn = session.edit(image, mask, wish.prompt, count, seed, wish.sampling(session))
    return [keep(studio, session, one, weights, wish.asked, "edited", name) for one in drawn]


def vary(studio: StudioFolder, session: Session, weights: str, name: str, share: float, wish: Wish) -> list[Record]:
    """Draw a random share of a drawing again, another one for every seed."""
    count, seed = check_count(wish.count, wish.seed)
    image = picture(studio, name)
    drawn = session.vary(image, share, count, seed, prompt=record(studio, name).prompt, sampling=wish.sampling(session))
    return [keep(studio, session, one, weights, wish.asked, "varied", name) for one in drawn]
