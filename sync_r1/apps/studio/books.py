"""Picture books in the studio: `story.json` with its pictures, drawn by a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sync_r1.apps import jobs, story
from sync_r1.apps.story import MOST_PAGES, STORY, Page, Story
from sync_r1.apps.story_book import export
from sync_r1.apps.studio.folder import StudioFolder, new_id, newest_first
from sync_r1.data import Concept, load_image
from sync_r1.session import Session

BOOK = "book.html"
WRITTEN = "written"  # how the last line of a drawn book begins
NEW_SEEDS = 1000  # how far a redrawn page's seed moves
LONGEST_TEXT = 500


@dataclass
class Book:
    """A story and where it lies."""

    id: str
    folder: Path
    story: Story

    @property
    def missing(self) -> int:
        """Pages that have no picture of what they say now."""
        return sum(not _is_drawn(page, self.folder) for page in self.story.pages)

    def picture(self, number: int) -> Image.Image | None:
        """The picture of a page, counted from 1, if it has one."""
        page = self.story.pages[number - 1]
        path = self.folder / page.picture
        if not page.picture or not path.is_file():
            return None
        return load_image(path)


def _is_drawn(page: Page, folder: Path) -> bool:
    there = bool(page.picture) and (folder / page.picture).is_file()
    return there and (page.locked or page.drawn_from == page.wanted)


def plan(studio: StudioFolder, concept: Concept, line: str, pages: int) -> Book:
    """A new book, not drawn yet. ValueError as `story.plan`."""
    told = story.plan(concept, line, pages)
    name = new_id()
    folder = studio.below(studio.stories, name)
    told.write(folder)
    return Book(name, folder, told)


def read(studio: StudioFolder, name: str) -> Book:
    """A book by its id. ValueError for one that is not there."""
    folder = studio.below(studio.stories, name)
    return Book(name, folder, Story.read(folder / STORY))


def known(studio: StudioFolder, thing: str) -> list[Book]:
    """All books about a thing, the newest first."""
    found = []
    for path in newest_first([file.parent for file in studio.stories.glob(f"*/{STORY}")]):
        try:
            book = read(studio, path.name)
        except ValueError:
            continue
        if book.story.thing == thing:
            found.append(book)
    return found


# changing


def change_page(book: Book, number: int, text: str, prompt: str, seed: float, locked: bool) -> None:
    """Write what was typed about a page. ValueError for an empty prompt, a seed below 0, or a book being drawn."""
    _free(book)
    page = _page(book, number)
    if not prompt.strip():
        raise ValueError("the prompt is empty; say what the page shows")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the text has {len(text)} letters; at most {LONGEST_TEXT} fit a page")
    if seed < 0 or seed != int(seed):
        raise ValueError(f"the seed is {seed:g}; it must be a whole number from 0 on")
    page.text, page.prompt, page.seed, page.locked = text.strip(), prompt.strip(), int(seed), locked
    book.story.write(book.folder)


def move_page(book: Book, number: int, by: int) -> int:
    """Exchange a page with its neighbour. Returns its new number."""
    _free(book)
    _page(book, number)
    pages, other = book.story.pages, number + by
    if not 1 <= other <= len(pages):
        raise ValueError("there is no page on that side")
    pages[number - 1], pages[other - 1] = pages[other - 1], pages[number - 1]
    book.story.write(book.folder)
    return other


def add_page(book: Book, after: int) -> int:
    """A page like the one before it. Returns its number."""
    _free(book)
    if len(book.story.pages) >= MOST_PAGES:
        raise ValueError(f"a book has at most {MOST_PAGES} pages")
    before = _page(book, after)
    book.story.pages.insert(after, Page(before.text, before.prompt, before.seed + 1))
    book.story.write(book.folder)
    return after + 1


def remove_page(book: Book, number: int) -> int:
    """Returns the number of the page that is shown then. ValueError for the only one."""
    _free(book)
    _page(book, number)
    if len(book.story.pages) == 1:
        raise ValueError("this is the only page; change it instead")
    del book.story.pages[number - 1]
    book.story.write(book.folder)
    return min(number, len(book.story.pages))


def restyle(book: Book) -> None:
    """New seeds for all pages that are not locked."""
    _free(book)
    for page in book.story.pages:
        if not page.locked:
            page.seed += NEW_SEEDS
    book.story.write(book.folder)


def redraw_page(session: Session, book: Book, number: int) -> None:
    """Draw one page with another seed. ValueError for a locked page."""
    _free(book)
    page = _page(book, number)
    if page.locked:
        raise ValueError(f"page {number} is locked; unlock it first")
    page.seed += NEW_SEEDS
    story.draw_page(session, book.story, book.folder, number)
    book.story.write(book.folder)


def _page(book: Book, number: int) -> Page:
    if not 1 <= number <= len(book.story.pages):
        raise ValueError(f"there is no page {number}; the book has {len(book.story.pages)}")
    return book.story.pages[number - 1]


def _free(book: Book) -> None:
    state = drawing(book)
    if state is not None and state.name == "running":
        raise ValueError("the book is being drawn; wait until it is done, or stop it")


# drawing, giving away


def draw(studio: StudioFolder, book: Book, weights: str) -> None:
    """Let a process of its own draw every page that needs it."""
    place = studio.find(book.story.thing, weights).place
    source = ["--run", str(place)] if place is not None else ["--model", studio.model]
    where = ["--data", str(studio.things), "--concept", book.story.thing, "--out", str(book.folder / BOOK)]
    jobs.launch(["story", str(book.folder / STORY), *where, *source], book.folder)


def drawing(book: Book) -> jobs.State | None:
    """What the drawing is now; None before the first."""
    return jobs.launched(book.folder, (WRITTEN,))


def stop(book: Book) -> None:
    """End the drawing; finished pages stay."""
    jobs.end_launched(book.folder)


def give_away(studio: StudioFolder, book: Book, ending: str) -> Path:
    """The book as html, pdf or png in the folder of downloads. ValueError for another ending, or a missing picture."""
    target = studio.temporary / "downloads" / book.id / f"book.{ending}"
    return export(book.story, studio.thing(book.story.thing), book.folder, target)
