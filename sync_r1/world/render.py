"""Draw a `Thing` as 32×32 pixels. Everything is aligned to the 4×4 cells that become image tokens."""

from __future__ import annotations

from dataclasses import dataclass
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
CONTEXT_VALUES = {
    name: tuple(value for value in ATTRIBUTES[name] if value != "none") for name in CONTEXT
}  # that words can ask for


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One picture's content. `flip` and `decor` are free variation that no caption mentions."""

    kind: str
    colour: str
    pattern: str = "plain"
    mark: str = "none"
    hat: str = "none"
    item: str = "none"
    scene: str = "meadow"
    flip: bool = False  # the held item is on the left
    decor: int = 0  # 0 left corner, 1 right corner, 2 both

    def __post_init__(self) -> None:
        """ValueError for a value that the world cannot draw."""
        for name, allowed in ATTRIBUTES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; the world knows {', '.join(allowed)}")


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


def render(thing: Thing) -> np.ndarray:
    """uint8 [32, 32, 3] picture of a thing."""
    canvas = _background(thing.scene, thing.decor).copy()
    layers = [_body(thing.kind, thing.colour, thing.pattern)]
    layers += [
        _extra(name, getattr(thing, name), thing.flip)
        for name in ("mark", "hat", "item")
        if getattr(thing, name) != "none"
    ]
    for where, what in layers:
        canvas[where] = what
    return canvas.astype(np.uint8)


def render_image(thing: Thing) -> Image.Image:
    """The same picture for Pillow: RGB, 32×32."""
    return Image.fromarray(render(thing))


def random_thing(rng: np.random.Generator, **fixed: str) -> Thing:
    """A thing with every attribute uniform, except those given."""
    drawn = {name: fixed.get(name) or values[int(rng.integers(len(values)))] for name, values in ATTRIBUTES.items()}
    return Thing(**drawn, flip=bool(rng.integers(2)), decor=int(rng.integers(3)))
