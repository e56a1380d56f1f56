"""Draw a `Thing` as 32×32 pixels. Everything is aligned to the 4×4 cells that become image tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from sync_r1.world import sprites

SIZE = 32
PEOPLE = ("man", "woman", "boy", "girl")
ANIMALS = ("dog", "cat", "rabbit", "bear")
OBJECTS = ("robot", "mug", "lantern", "vase")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": PEOPLE + ANIMALS + OBJECTS,
    "colour": tuple(sprites.COLOURS),
    "pattern": ("plain", "striped", "dotted", "checked"),
    "mark": ("none", *sprites.MARKS),
    "hat": ("none", *sprites.HATS),
    "item": ("none", *sprites.ITEMS),
    "scene": tuple(sprites.SCENES),
}
IDENTITY = ("kind", "colour", "pattern", "mark")
CONTEXT = ("hat", "item", "scene")
CONTEXT_VALUES = {  # that words can ask for
    name: tuple(value for value in ATTRIBUTES[name] if value != "none") for name in CONTEXT
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A picture of one character. `flip` and `decor` are free variation that no caption mentions.

    `spare` is a second held item, in the other hand: no prompt asks for one, so it stands for what was not asked for.
    With two held items, `item` is the one on the left of the picture.
    """

    kind: str
    colour: str
    pattern: str = "plain"
    mark: str = "none"
    hat: str = "none"
    item: str = "none"
    scene: str = "meadow"
    spare: str = "none"
    flip: bool = False  # the held item is on the left
    decor: int = 0  # 0 left corner, 1 right corner, 2 both

    def __post_init__(self) -> None:
        """ValueError for a value that the world cannot draw."""
        for name, allowed in ATTRIBUTES.items():
            _check(name, getattr(self, name), allowed)
        _check("spare", self.spare, ATTRIBUTES["item"])
        if self.spare != "none" and self.item == "none":
            raise ValueError(f"spare is {self.spare!r} where nothing is held; name the first thing as item")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture of two characters side by side in one place. They hold nothing: there is no room beside them."""

    left: Thing
    right: Thing

    def __post_init__(self) -> None:
        """ValueError for two places, or for a held thing."""
        if self.left.scene != self.right.scene:
            raise ValueError(f"a pair is in one place, but left is in {self.left.scene}, right in {self.right.scene}")
        for side, thing in (("left", self.left), ("right", self.right)):
            if thing.item != "none":
                raise ValueError(f"{side} holds {thing.item!r}; in a picture of two there is room for hats only")

    @property
    def scene(self) -> str:
        return self.left.scene

    @property
    def sides(self) -> tuple[tuple[str, Thing], ...]:
        """("left", thing) and ("right", thing)."""
        return (("left", self.left), ("right", self.right))


@dataclass(frozen=True, kw_only=True)
class Still:
    """A picture of a hat or an item alone, twice its usual size: how an owner shows a private fact."""

    what: str
    scene: str = "room"
    decor: int = 0

    def __post_init__(self) -> None:
        """ValueError for what the world cannot draw."""
        _check("what", self.what, STILL_VALUES)
        _check("scene", self.scene, ATTRIBUTES["scene"])

    @property
    def attribute(self) -> str:
        """Whether it is a "hat" or an "item"."""
        if self.what in ATTRIBUTES["hat"]:
            return "hat"
        return "item"


Picture = Thing | Pair | Still
STILL_VALUES = (*CONTEXT_VALUES["hat"], *CONTEXT_VALUES["item"])


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; the world knows {', '.join(allowed)}")


Overlay = tuple[np.ndarray, np.ndarray]  # where to paint [32, 32] bool, what [n, 3] float


def _grid(text: str, width: int) -> np.ndarray:
    rows = [row[:width].ljust(width, ".") for row in text.strip("\n").split("\n")]
    return np.array([list(row) for row in rows])


def _mirror(half: np.ndarray) -> np.ndarray:
    return np.concatenate([half, half[:, ::-1]], axis=1)


def _paint(canvas: np.ndarray, grid: np.ndarray, top: int, left: int) -> None:
    for letter in np.unique(grid):
        if letter in sprites.PALETTE:
            canvas[top : top + grid.shape[0], left : left + grid.shape[1]][grid == letter] = sprites.PALETTE[letter]


def _overlay(canvas: np.ndarray) -> Overlay:
    painted = canvas[..., 0] >= 0
    return painted, canvas[painted]


def _blank() -> np.ndarray:
    return np.full((SIZE, SIZE, 3), -1.0)


@cache
def _background(scene: str, decor: int) -> np.ndarray:
    canvas = _blank()
    canvas[:24], canvas[24:] = sprites.SCENES[scene]
    corner = _grid(sprites.DECOR[scene], 8)
    if decor in (0, 2):
        _paint(canvas, corner, 0, 0)
    if decor in (1, 2):
        _paint(canvas, corner[:, ::-1], 0, 24)
    return canvas


@cache
def _body(kind: str, colour: str, pattern: str) -> Overlay:
    canvas = _blank()
    grid = _mirror(_grid(sprites.BODIES[kind], 8))
    _paint(canvas, grid, 6, 8)
    base = np.array(sprites.COLOURS[colour], dtype=np.float64)
    y, x = np.mgrid[6:30, 8:24]
    accent = {
        "plain": np.zeros_like(x, dtype=bool),
        "striped": y % 4 < 2,
        "dotted": (x % 4 % 3 > 0) & (y % 4 % 3 > 0),
        "checked": (x // 4 + y // 4) % 2 == 0,
    }[pattern] & (y >= 16)
    region = canvas[6:30, 8:24]
    region[(grid == "c") & ~accent] = base
    region[(grid == "c") & accent] = 250
    region[grid == "l"] = (0.45 * base + 0.55 * 255).round()
    return _overlay(canvas)


@cache
def _extra(attribute: str, value: str, flip: bool) -> Overlay:
    canvas = _blank()
    if attribute == "mark":
        _paint(canvas, _grid(sprites.MARKS[value], 8), 16, 12)
    elif attribute == "hat":
        _paint(canvas, _mirror(_grid(sprites.HATS[value], 8)), 0, 8)
    else:
        glyph = _grid(sprites.ITEMS[value], 8)
        _paint(canvas, glyph[:, ::-1] if flip else glyph, 12, 0 if flip else 24)
    return _overlay(canvas)


@cache
def _alone(what: str) -> Overlay:
    canvas = _blank()
    if what in sprites.HATS:
        grid, left = _mirror(_grid(sprites.HATS[what], 8)), 0
    else:
        grid, left = _grid(sprites.ITEMS[what], 8), 8
    _paint(canvas, grid.repeat(2, axis=0).repeat(2, axis=1), 8, left)
    return _overlay(canvas)


def _layers(thing: Thing) -> list[Overlay]:
    layers = [_body(thing.kind, thing.colour, thing.pattern)]
    for name in ("mark", "hat"):
        if getattr(thing, name) != "none":
            layers.append(_extra(name, getattr(thing, name), False))
    if thing.item != "none":
        flip = thing.flip or thing.spare != "none"  # the first of two is on the left
        layers.append(_extra("item", thing.item, flip))
    if thing.spare != "none":
        layers.append(_extra("item", thing.spare, False))
    return layers


def render(picture: Picture) -> np.ndarray:
    """uint8 [32, 32, 3] picture of a thing, of a pair or of a still."""
    if isinstance(picture, Still):
        canvas = _background(picture.scene, picture.decor).copy()
        where, what = _alone(picture.what)
        canvas[where] = what
        return canvas.astype(np.uint8)
    if isinstance(picture, Thing):
        canvas = _background(picture.scene, picture.decor).copy()
        for where, what in _layers(picture):
            canvas[where] = what
        return canvas.astype(np.uint8)
    canvas = _background(picture.scene, picture.left.decor).copy()
    for (_, thing), shift in zip(picture.sides, (-8, 8), strict=True):
        for where, what in _layers(thing):
            canvas[np.roll(where, shift, axis=1)] = what
    return canvas.astype(np.uint8)


def render_image(picture: Picture) -> Image.Image:
    """The same picture for Pillow: RGB, 32×32."""
    return Image.fromarray(render(picture))


def random_thing(rng: np.random.Generator, **fixed: str) -> Thing:
    """A thing with every attribute uniform, except those given."""
    drawn = {name: fixed.get(name) or values[int(rng.integers(len(values)))] for name, values in ATTRIBUTES.items()}
    return Thing(**drawn, flip=bool(rng.integers(2)), decor=int(rng.integers(3)))


def random_pair(rng: np.random.Generator) -> Pair:
    """Two random things in one place; half of them wear nothing."""
    left, right = random_thing(rng), random_thing(rng)
    return make_pair(left, right)


def make_pair(left: Thing, right: Thing) -> Pair:
    """Both in the place of `left`, with what they wear and without what they hold."""
    scene = left.scene
    return Pair(
        left=replace(left, item="none", spare="none"), right=replace(right, item="none", spare="none", scene=scene)
    )


def random_still(rng: np.random.Generator) -> Still:
    """A random hat or item alone in a random place."""
    what = STILL_VALUES[int(rng.integers(len(STILL_VALUES)))]
    scenes = ATTRIBUTES["scene"]
    return Still(what=what, scene=scenes[int(rng.integers(len(scenes)))], decor=int(rng.integers(3)))


def random_picture(rng: np.random.Generator) -> Picture:
    """Any picture of the world: six in ten of one character (one in six of these holds two things), three of a pair."""
    kind = rng.random()
    if kind < 0.3:
        return random_pair(rng)
    if kind < 0.4:
        return random_still(rng)
    thing = random_thing(rng)
    if thing.item == "none" or rng.random() > 0.2:
        return thing
    items = CONTEXT_VALUES["item"]
    return replace(thing, spare=items[int(rng.integers(len(items)))])
