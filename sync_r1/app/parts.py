"""What all screens are made of: the frame with its menu, messages beside fields, pictures and lists as HTML.

Everything that a person or a model wrote is escaped here.
"""

from __future__ import annotations

import base64
import functools
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from PIL import Image

from sync_r1.app.server import Studio
from sync_r1.apps.studio.pictures import large

PAGES = {
    "things": ("/", "Things"),
    "train": ("/train", "Train"),
    "draw": ("/draw", "Draw"),
    "chat": ("/chat", "Chat"),
    "feedback": ("/feedback", "Feedback"),
    "why": ("/why", "Why"),
    "compare": ("/compare", "Compare"),
    "story": ("/story", "Story"),
    "learn": ("/learn", "Learn"),
}

Changes = dict[Any, Any]


@dataclass(frozen=True)
class Frame:
    """The part that every screen has."""

    thing: gr.Dropdown
    weights: gr.Dropdown
    address: gr.HTML
    weighted: bool  # whether the screen is about certain weights

    @property
    def about(self) -> list[Any]:
        """What a handler needs to know which model is meant."""
        return [self.thing, self.weights]


def begin(studio: Studio, page: str, title: str, lead: str, weights: bool = True) -> Frame:
    """The menu, the heading, and which thing the screen is about."""
    links = []
    for name, (path, shown) in PAGES.items():
        current = ' aria-current="page"' if name == page else ""
        links.append(f'<a href="{path}" data-to="{path}"{current}>{shown}</a>')
    gr.HTML(
        f'<div class="studio-top"><nav class="studio-nav" aria-label="Screens">{"".join(links)}</nav>'
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p></div>"
    )
    with gr.Row():
        thing = gr.Dropdown([], label="Thing", interactive=True, scale=2)
        known = gr.Dropdown([], label="What it learned", interactive=True, scale=2, visible=weights)
    address = gr.HTML("", elem_classes="address")
    return Frame(thing, known, address, weights)


def arrived(studio: Studio, frame: Frame, request: gr.Request) -> tuple[Changes, str, str]:
    """What the address names: changes of the frame, the thing and the weights."""
    asked = request.query_params
    thing = studio.folder.chosen(asked.get("thing", ""))
    return chosen(studio, frame, thing, asked.get("weights", ""))


def chosen(studio: Studio, frame: Frame, thing: str, weights: str = "") -> tuple[Changes, str, str]:
    """The frame of a thing: changes, the thing and the weights."""
    names = [(studio.folder.thing(name).title, name) for name in studio.folder.names()]
    if not thing:
        hidden = gr.Dropdown(choices=[], value=None, visible=False)
        return {frame.thing: hidden, frame.weights: hidden}, "", ""
    best = studio.folder.best(thing, weights)
    options = [(one.label, one.id) for one in studio.folder.weights(thing)]
    return (
        {
            frame.thing: gr.Dropdown(choices=names, value=thing, visible=True),
            frame.weights: gr.Dropdown(choices=options, value=best, visible=frame.weighted),
            frame.address: address(thing=thing, weights=best),
        },
        thing,
        best,
    )


def address(**named: str) -> str:
    """What the browser shows as the page's address."""
    query = urlencode({key: value for key, value in named.items() if value})
    return f'<span data-address="{escape(f"?{query}" if query else "")}"></span>'


# messages


def message_place() -> gr.HTML:
    """Where a screen says what went wrong, or what was done: beside the field or button that it is about."""
    return gr.HTML("", visible=False)


def trouble(text: object) -> Any:
    """An error, read out by a screen reader at once."""
    return gr.HTML(f'<div class="problem" role="alert">{escape(_sentence(text))}</div>', visible=True)


def done(text: str, kind: str = "good") -> Any:
    """What was done."""
    return gr.HTML(f'<div class="{kind}" role="status">{escape(_sentence(text))}</div>', visible=True)


def silent() -> Any:
    """No message."""
    return gr.HTML("", visible=False)


def _sentence(text: object) -> str:
    words = " ".join(str(text).split())
    return words[:1].upper() + words[1:]


def guarded(place: gr.HTML, handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors are shown at a place. It returns, or yields, a dict of changes."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def run_all(*given: Any) -> Any:
            try:
                for changes in handler(*given):
                    yield {place: silent(), **changes}
            except (ValueError, OSError) as error:
                yield {place: trouble(error)}

        return run_all

    @functools.wraps(handler)
    def run(*given: Any) -> Any:
        try:
            return {place: silent(), **handler(*given)}
        except (ValueError, OSError) as error:
            return {place: trouble(error)}

    return run


def unchanged(part: Any) -> Changes:
    """Changes of a handler that has nothing new to show; Gradio takes an empty dict for an answer that is missing."""
    return {part: gr.skip()}


def need(thing: str | None) -> str:
    """The thing that a handler is about. ValueError where there is none yet."""
    if not thing:
        raise ValueError("there is no thing yet; add one on the first screen")
    return thing


# HTML


def data_uri(image: Image.Image, side: int = 256) -> str:
    """A picture inside the page, without its recipe."""
    picture = large(image, side)
    if max(picture.size) > 2 * side:
        picture.thumbnail((2 * side, 2 * side))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def figure(image: Image.Image, alt: str, caption: str = "", kind: str = "", side: int = 256) -> str:
    """A picture with its description."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><img src="{data_uri(image, side)}" alt="{escape(alt)}">{below}</figure>'


def tiles(figures: Sequence[str]) -> str:
    return f'<div class="tiles">{"".join(figures)}</div>'


def empty(text: str, link: str = "", shown: str = "") -> str:
    """What a screen says while there is nothing, with the way on."""
    way = f'<a class="next" href="{escape(link)}">{escape(shown)}</a>' if link else ""
    return f'<div class="empty"><p>{escape(text)}</p>{way}</div>'


def chips(texts: Sequence[tuple[str, bool, str]]) -> str:
    """Short texts side by side: text, whether it stands out, and what is said of it."""
    made = []
    for text, used, said in texts:
        kind = "chip used" if used else "chip"
        made.append(f'<li class="{kind}" title="{escape(said)}">{escape(text)}</li>')
    return f'<ul class="chips">{"".join(made)}</ul>'


def figures(values: Mapping[str, str]) -> str:
    """Names with their values."""
    rows = [f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items()]
    return f'<dl class="figures">{"".join(rows)}</dl>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table of texts."""
    top = "".join(f"<th scope='col'>{escape(text)}</th>" for text in head)
    body = []
    for row in rows:
        cells = "".join(f"<td>{escape(text)}</td>" for text in row)
        body.append(f"<tr>{cells}</tr>")
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table class="plain">{said}<tr>{top}</tr>{"".join(body)}</table></div>'


def link(page: str, **named: str) -> str:
    """The address of another screen."""
    query = urlencode({key: value for key, value in named.items() if value})
    return PAGES[page][0] + (f"?{query}" if query else "")
