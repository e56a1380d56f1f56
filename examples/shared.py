"""What every example here takes, and a sheet of pictures with a line below each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def arguments() -> argparse.Namespace:
    """Where the model comes from, and where pictures go. Without a run the shipped model draws, which knows no <bo>."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="a trained run, such as runs/demo")
    parser.add_argument("--concept", help="default: the run's own, else bo")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for what is written")
    parser.add_argument("--seconds", type=float, default=10.0, help="of practice, where there is some")
    given = parser.parse_args()
    if given.run is None and given.concept is None:
        given.concept = "bo"
    return given


def write_sheet(path: Path, pictures: Sequence[tuple[str, Image.Image]], width: float = 2.4) -> None:
    """Pictures side by side, `width` inches each, with their lines below; says where it is."""
    lines = 1 + max(text.count("\n") for text, _ in pictures)
    figure = Figure(figsize=(width * len(pictures), 2.4 + 0.18 * lines), layout="constrained")
    for axes, (text, picture) in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(text, y=-0.03, va="top", fontsize=9, parse_math=False)
        axes.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    print(f"written  {path}")
