"""A picture book about one thing from one line.

The plot is by rules, not by the model: every clause of the line is an event, what is found is held afterwards, a place
stays until the next. The model draws the pages by the thing's name and reads each again; a page with a mistake gets two
more seeds. Everything lies in `story.json`, where texts, prompts, seeds and the order may be edited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.apps.checked import draw_checked
from sync_r1.data import load_image
from sync_r1.data.types import Concept
from sync_r1.drawings import save_picture
from sync_r1.files import read_json, write_json
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.render import CONTEXT, CONTEXT_VALUES

STORY = "story.json"
MOST_PAGES = 24
LONGEST_LINE = 500
TRIES = 3  # pictures of a page at most: its seed and two more

_CLAUSE = re.compile(r"\s*(?:,|;|\.|\band then\b|\bthen\b|\band\b)\s*")
_HOME = re.compile(r"\bhome\b", re.IGNORECASE)
_LETS_GO = re.compile(r"\b(?:loses?|drops?|gives?|leaves?|throws?|forgets?)\b", re.IGNORECASE)


@dataclass
class Page:
    """One page. `picture` is a file beside story.json, or "" before it was drawn."""

    text: str
    prompt: str
    seed: int
    locked: bool = False  # it is not drawn again
    picture: str = ""
    drawn_from: str = ""  # prompt and seed of the picture, so that an edited page is drawn again
    mistakes: list[str] = field(default_factory=list)  # what the model reads otherwise in the picture
    checked: bool = False

    @property
    def wanted(self) -> str:
        """Prompt and seed as they are now."""
        return f"{self.seed}: {self.prompt}"


@dataclass
class Story:
    """Everything about a book but its pixels."""

    title: str
    line: str
    thing: str  # the concept's id
    pages: list[Page]

    def write(self, folder: Path) -> Path:
        """Write `story.json` into a folder."""
        write_json(folder / STORY, asdict(self))
        return folder / STORY

    @classmethod
    def read(cls, path: Path | str) -> Story:
        """Read a story that may have been edited. ValueError naming what is missing or not allowed."""
        content = read_json(Path(path))
        try:
            pages = [Page(**page) for page in content["pages"]]
            story = cls(content["title"], content["line"], content["thing"], pages)
            for number, page in enumerate(pages, 1):
                _check_page(page, number)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: this is no story ({error}); a page has a text, a prompt and a seed") from error
        _check_count(len(pages))
        return story


def _check_page(page: Page, number: int) -> None:
    if not page.prompt.strip() or not isinstance(page.seed, int) or page.seed < 0:
        raise ValueError(f"page {number} has the prompt {page.prompt!r} and the seed {page.seed!r}")
    if page.picture and Path(page.picture).name != page.picture:
        raise ValueError(f"page {number} names the picture {page.picture!r}, which is not beside {STORY}")


def _check_count(pages: int) -> None:
    if not 1 <= pages <= MOST_PAGES:
        raise ValueError(f"pages is {pages}; a story has 1 to {MOST_PAGES}")


# the plot


@dataclass(frozen=True)
class _Scene:
    """What is to be seen after an event."""

    text: str
    state: dict[str, str]  # hat, item, scene
    needed: bool = True  # a filler may be left out


def plan(concept: Concept, line: str, pages: int = 6, seed: int = 0) -> Story:
    """A story of that many pages: an opening, the events of the line in their order, and what fits between.

    Raises:
        ValueError: an empty or too long line, a number of pages outside 1 to 24, or fewer pages than events.
    """
    _check_count(pages)
    words = " ".join(line.replace(concept.placeholder, concept.called).split())
    if not words:
        raise ValueError('the line is empty; write what happens, for example "bo finds a kite at the beach"')
    if len(words) > LONGEST_LINE:
        raise ValueError(f"the line has {len(words)} letters; at most {LONGEST_LINE} are read, so shorten it")
    scenes = _fitted(concept, _scenes(concept, words), pages)
    made = []
    for number, scene in enumerate(scenes):
        prompt = grammar.scene_prompt("a photo of", concept.placeholder, scene.state)
        made.append(Page(scene.text, prompt, seed + 100 * number))
    return Story(words, words, concept.name, made)


def _scenes(concept: Concept, line: str) -> list[_Scene]:
    """The opening at home, and one scene for every clause."""
    name, home = concept.called, _home(concept)
    state = {"scene": home}
    scenes = [_Scene(f"This is {name}, {grammar.PLACES[home]}.", dict(state), needed=False)]
    for clause in _clauses(line):
        state = _after(clause, state, home)
        scenes.append(_Scene(_sentence(clause, name), dict(state)))
    return scenes


def _clauses(line: str) -> list[str]:
    """The events of a line. A single word belongs to what follows: "bo and ana dance" is one event."""
    clauses: list[str] = []
    begun = ""
    for part in filter(None, (part.strip() for part in _CLAUSE.split(line))):
        if " " not in part:
            begun = f"{begun}{part} and "
            continue
        clauses.append(f"{begun}{part}")
        begun = ""
    if begun:
        clauses.append(begun.removesuffix(" and "))
    return clauses


def _after(clause: str, state: dict[str, str], home: str) -> dict[str, str]:
    """The state after an event: what is named is there, and stays."""
    named = {attribute: value for attribute, value in grammar.parse(clause).items() if attribute in CONTEXT}
    following = {**state, **named}
    if _LETS_GO.search(clause):
        following.pop("item", None)
    if _HOME.search(clause) and "scene" not in named:
        following["scene"] = home
    return following


def _sentence(clause: str, name: str) -> str:
    """A clause as a sentence with the thing as its subject where it has none."""
    starts_with_name = clause.casefold().startswith(name.casefold())
    text = clause if starts_with_name else f"{name} {clause}"
    return f"{text}."


def _home(concept: Concept) -> str:
    """Where the facts say that it lives, else a meadow."""
    for fact in concept.facts:
        stated = grammar.parse(fact)
        if "scene" in stated and "live" in fact:
            return stated["scene"]
    return "meadow"


def _fitted(concept: Concept, scenes: list[_Scene], pages: int) -> list[_Scene]:
    """As many scenes as pages: fillers in between, or without the opening."""
    events = [scene for scene in scenes if scene.needed]
    if len(events) > pages:
        raise ValueError(f"the line tells {len(events)} events for pages = {pages}; give a page to each")
    if len(scenes) > pages:
        return events
    round_number = 0
    while len(scenes) < pages:
        scenes = _with_filler(concept, scenes, round_number)
        round_number += 1
    return scenes


def _with_filler(concept: Concept, scenes: list[_Scene], number: int) -> list[_Scene]:
    """One scene more: the ending first, then pages on the way and pages of rest, spread over the story."""
    name, last = concept.called, scenes[-1]
    held = last.state.get("item")
    if number == 0:
        text = f"That night {name} dreams of it all."
        if held:
            text = f"That night {name} still holds the {held}."
        return [*scenes, _Scene(text, {**last.state, "scene": "night"}, needed=False)]
    place = 1 + (2 * number - 1) % (len(scenes) - 1) if len(scenes) > 1 else 1
    before = scenes[place - 1].state
    if number % 2:
        used = {scene.state.get("scene") for scene in scenes}
        free = [scene for scene in CONTEXT_VALUES["scene"] if scene not in used] or list(CONTEXT_VALUES["scene"])
        there = free[number % len(free)]
        filler = _Scene(f"On the way {name} is {grammar.PLACES[there]}.", {**before, "scene": there}, needed=False)
    else:
        filler = _Scene(f"{name} rests for a while.", dict(before), needed=False)
    return [*scenes[:place], filler, *scenes[place:]]


# the pictures


def draw(session: Session, story: Story, folder: Path | str) -> Story:
    """Draw every page that has no picture of its prompt and seed yet, into a folder, and write the story there.

    A page is drawn by the name and, after it, its look. If the model reads a mistake it gets two more seeds, and then
    three in words; the picture with the fewest mistakes is kept, and the page says which. Models that cannot be checked
    draw one picture a page. Locked pages stay. The story is written after every page, so that a stopped book goes on.
    """
    if session.concept.name != story.thing:
        raise ValueError(f"the story is about {story.thing!r}, but {session.concept.title} was opened; name --concept")
    folder = Path(folder)
    for number, page in enumerate(story.pages, 1):
        kept = page.picture and (folder / page.picture).is_file() and (page.locked or page.drawn_from == page.wanted)
        if not kept:
            draw_page(session, story, folder, number)
        story.write(folder)
    return story


def draw_page(session: Session, story: Story, folder: Path, number: int) -> None:
    """Draw one page, counted from 1, whether it has a picture or not. The story is not written."""
    page = story.pages[number - 1]
    image = _draw_page(session, page)
    page.picture = save_picture(image, folder / _free_name(folder, story, number)).name
    page.drawn_from = page.wanted


def _draw_page(session: Session, page: Page) -> Image.Image:
    page.checked, page.mistakes = session.draws_world, []
    if not page.checked:
        return session.draw(page.prompt, 1, page.seed)[0]
    found = draw_checked(session, page.prompt, page.seed, TRIES, described=True)
    page.mistakes = [f"{one.word}: {one.asked}, but reads {one.read}" for one in found.mistakes]
    return found.image


def _free_name(folder: Path, story: Story, number: int) -> str:
    """A file name that no other page uses, as pages may have changed their places."""
    taken = {page.picture for page in story.pages}
    names = [f"page_{number}.png", *(f"page_{number}_{version}.png" for version in range(2, 1000))]
    return next(name for name in names if name not in taken or not (folder / name).is_file())


def pictures(story: Story, folder: Path | str) -> Sequence[Image.Image]:
    """The pictures of all pages. ValueError naming the page that has none."""
    images = []
    for number, page in enumerate(story.pages, 1):
        if not page.picture:
            raise ValueError(f"page {number} has no picture yet; draw the story first")
        images.append(load_image(Path(folder) / page.picture))
    return images


def alt_text(page: Page, concept: Concept) -> str:
    """What a picture shows, for who cannot see it: the prompt with the name as its owner writes it."""
    return page.prompt.replace(concept.placeholder, concept.called)


def summary(story: Story) -> dict[str, Any]:
    """How many pages there are, were checked and have a mistake."""
    wrong = sum(bool(page.mistakes) for page in story.pages)
    return {"pages": len(story.pages), "checked": sum(page.checked for page in story.pages), "with mistakes": wrong}
