"""A story as a file that opens anywhere: one HTML page, a PDF, or a PNG sheet."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sync_r1.apps.story import Story, alt_text, pictures
from sync_r1.data.types import Concept
from sync_r1.files import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".html", ".pdf", ".png")
COLUMNS = 3  # of a sheet
WIDTH = 34  # letters of a line below a picture

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 1.25rem/1.5 Georgia, serif; max-width: 32rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
figure { margin: 3rem 0; break-inside: avoid; }
img { width: 100%; image-rendering: pixelated; border-radius: .5rem; }
figcaption { margin-top: .75rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for page in pages %}
<figure>
<img src="data:image/png;base64,{{ page.data }}" alt="{{ page.alt }}">
<figcaption>{{ page.text }}</figcaption>
</figure>
{% endfor %}
</body>
</html>
"""


def check_ending(out: Path) -> str:
    """The ending of a book's file in small letters. ValueError for one that cannot be written."""
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{out}: a story is written as {', '.join(ENDINGS)}; choose one of these endings")
    return ending


def export(story: Story, concept: Concept, folder: Path | str, out: Path | str) -> Path:
    """Write a drawn story as .html, .pdf or .png, by the ending of `out`.

    Raises ValueError for another ending, and for a page without a picture.
    """
    out = Path(out)
    writers: dict[str, Callable[[Story, Concept, Path, Path], Path]] = {
        ".html": _write_html,
        ".pdf": _write_pdf,
        ".png": _write_sheet,
    }
    return writers[check_ending(out)](story, concept, Path(folder), out)


def _write_html(story: Story, concept: Concept, folder: Path, out: Path) -> Path:
    from jinja2 import Environment

    pages = []
    for page, image in zip(story.pages, pictures(story, folder), strict=True):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        pages.append({"text": page.text, "alt": alt_text(page, concept), "data": data})
    template = Environment(autoescape=True).from_string(_PAGE)
    return write_text(out, template.render(title=story.title, pages=pages))


def _write_pdf(story: Story, concept: Concept, folder: Path, out: Path) -> Path:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with PdfPages(buffer, metadata={"Title": story.title}) as book:
        for page, image in zip(story.pages, pictures(story, folder), strict=True):
            figure = Figure(figsize=(6, 7))
            _show(figure.subplots(), image, page.text, 16)
            book.savefig(figure)
    return write_bytes(out, buffer.getvalue())


def _write_sheet(story: Story, concept: Concept, folder: Path, out: Path) -> Path:
    from matplotlib.figure import Figure

    rows = math.ceil(len(story.pages) / COLUMNS)
    figure = Figure(figsize=(3 * COLUMNS, 3.6 * rows))
    grid: Any = figure.subplots(rows, COLUMNS, squeeze=False).flat
    images = pictures(story, folder)
    for number, axes in enumerate(grid):
        if number < len(images):
            _show(axes, images[number], story.pages[number].text, 10)
        else:
            axes.axis("off")
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return write_bytes(out, buffer.getvalue())


def _show(axes: Axes, image: Image.Image, text: str, size: int) -> None:
    """A picture with its text below; signs such as $ are letters."""
    from textwrap import fill

    axes.imshow(image, interpolation="nearest")
    axes.axis("off")
    axes.set_title(fill(text, WIDTH), y=-0.02, va="top", fontsize=size, parse_math=False)
