"""`sync-r1 story`: a picture book from one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import ConceptOption, DataOption, DeviceOption, ModelOption, RunOption
from sync_r1.console import say


def story(
    line: Annotated[
        str, typer.Argument(help='What happens: "bo finds a kite at the beach and takes it home"; or a story.json.')
    ],
    pages: Annotated[int, typer.Option(help="How many pages, 1 to 24.")] = 6,
    out: Annotated[Path, typer.Option(help="The book: .html, .pdf or .png.")] = Path("book.html"),
    folder: Annotated[
        Path | None, typer.Option(help="Where story.json and the pictures are kept. Default: stories/<words>.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first page.")] = 0,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Plan, draw and check a picture book about one thing. The plot is by rules; the model draws.

    Texts, prompts, seeds, order and `locked` may be edited in story.json; given in place of the line, it is drawn anew
    where it changed.

    Example: sync-r1 story "bo finds a kite at the beach and takes it home" --out book.pdf --run runs/demo
    """
    from sync_r1.apps.story import STORY, Story, draw, plan
    from sync_r1.apps.story_book import check_ending, export

    check_ending(out)
    known = None
    if line.endswith(".json"):
        known = Story.read(line)
        folder, concept = Path(line).parent, concept or known.thing
    with noted():
        session = open_session(run, model, data, concept, device)
        book = known or plan(session.concept, line, pages, seed)
        folder = folder or Path("stories") / (re.sub(r"[^a-z0-9]+", "-", line.lower()).strip("-")[:40] or "story")
        draw(session, book, folder)
    for number, page in enumerate(book.pages, 1):
        say(f"{number:3}  {page.text}")
        for mistake in page.mistakes:
            say(f"     ✗ {mistake}", "red")
    if any(page.mistakes for page in book.pages):
        path = folder / STORY
        say(f"change the seed or the prompt of such a page in {path}, then: sync-r1 story {path}", "yellow")
    say(f"written  {export(book, session.concept, folder, out)}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(story)
