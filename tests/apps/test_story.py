"""Picture books: the plot, pages that are drawn again, and books that open anywhere."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps import story
from sync_r1.apps.check import Check
from sync_r1.apps.checked import CheckedDrawing
from sync_r1.apps.story import Page, Story, draw, pictures, plan, summary
from sync_r1.apps.story_book import export
from sync_r1.cli import app
from sync_r1.session import Session
from sync_r1.world.concepts import personas

LINE = "cleo finds a kite at the beach, puts on a crown and takes it home"
CLEO = personas()["cleo"]


@pytest.fixture(scope="module")
def world() -> Session:
    return Session.open(concept="cleo", device="cpu")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Nothing is really drawn; a page in the snow has a mistake. Returns prompts and seeds that were asked for."""
    asked: list[tuple[str, int]] = []

    def fake(session: Session, prompt: str, seed: int, tries: int, described: bool) -> CheckedDrawing:
        assert described
        asked.append((prompt, seed))
        image = Image.new("RGB", (32, 32), (seed % 256, 0, 0))
        image.info = {"prompt": prompt, "seed": seed}
        read = "in a room" if "snow" in prompt else "in the snow"
        check = Check("scene", "in the snow", read, np.zeros(64, dtype=bool))
        return CheckedDrawing(SimpleNamespace(image=image), [check], tries)  # type: ignore[arg-type]

    monkeypatch.setattr(story, "draw_checked", fake)
    return asked


# the plot


def test_what_is_found_is_held_afterwards(world: Session) -> None:
    told = plan(world.concept, LINE, 4)
    home = f"{CLEO.facts['scene']}"
    texts = [page.text for page in told.pages]
    assert texts[1:] == ["cleo finds a kite at the beach.", "cleo puts on a crown.", "cleo takes it home."]
    assert texts[0].startswith("This is cleo") and home in told.pages[0].prompt
    assert [page.prompt for page in told.pages[1:3]] == [
        "a photo of <cleo> holding a kite at the beach",
        "a photo of <cleo> wearing a crown holding a kite at the beach",
    ]
    assert "wearing a crown holding a kite" in told.pages[3].prompt and home in told.pages[3].prompt
    lost = plan(world.concept, "cleo holds a kite. then cleo loses the kite in the snow", 2)
    assert lost.pages[1].prompt == "a photo of <cleo> in the snow"
    assert plan(world.concept, "<cleo> and bo dance", 1).pages[0].text == "cleo and bo dance."


@pytest.mark.parametrize("pages", range(3, 25))
def test_a_story_has_the_pages_that_are_asked_for(world: Session, pages: int) -> None:
    told = plan(world.concept, LINE, pages)
    assert len(told.pages) == pages and len({page.seed for page in told.pages}) == pages
    events = [page.text for page in told.pages if re.search("finds|puts on|takes", page.text)]
    assert events == ["cleo finds a kite at the beach.", "cleo puts on a crown.", "cleo takes it home."]
    assert all("<cleo>" in page.prompt for page in told.pages)


def test_mistakes_are_explained(world: Session, tmp_path: Path) -> None:
    for line, pages, said in (
        (" ", 6, "the line is empty"),
        (LINE, 40, "pages is 40; a story has 1 to 24"),
        (LINE, 2, "tells 3 events for pages = 2"),
        ("x" * 501, 6, "501 letters"),
    ):
        with pytest.raises(ValueError, match=said):
            plan(world.concept, line, pages)
    with pytest.raises(ValueError, match="about 'bo', but cleo was opened"):
        draw(world, Story("t", "l", "bo", [Page("a", "b", 0)]), tmp_path)
    path = tmp_path / "story.json"
    page = {"text": "a", "prompt": "b", "seed": 0}
    for wrong in ({**page, "picture": "../../x.png"}, {**page, "seed": -1}, {"text": "a"}, {**page, "sed": 1}):
        path.write_text(json.dumps({"title": "t", "line": "l", "thing": "cleo", "pages": [wrong]}), encoding="utf-8")
        with pytest.raises(ValueError, match=r"story.json: this is no story"):
            Story.read(path)
    with pytest.raises(ValueError, match="page 1 has no picture yet"):
        pictures(Story("t", "l", "cleo", [Page("a", "b", 0)]), tmp_path)


# the pages


def test_only_pages_that_changed_are_drawn_again(world: Session, drawn: list[tuple[str, int]], tmp_path: Path) -> None:
    told = draw(world, plan(world.concept, "cleo finds a kite. cleo goes into the snow", 3), tmp_path)
    assert len(drawn) == 3 and summary(told) == {"pages": 3, "checked": 3, "with mistakes": 1}
    assert told.pages[2].mistakes == ["scene: in the snow, but reads in a room"]
    assert Story.read(tmp_path / "story.json") == told
    edited = Story.read(tmp_path / "story.json")
    edited.pages.reverse()
    edited.pages[0].seed, edited.pages[1].text = 5, "She finds it!"
    edited.pages[2].locked, edited.pages[2].prompt = True, "a photo of <cleo> in the forest"
    drawn.clear()
    again = draw(world, edited, tmp_path)
    assert drawn == [(edited.pages[0].prompt, 5)], "one seed changed; one page is locked"
    assert len({page.picture for page in again.pages}) == 3
    assert pictures(again, tmp_path)[0].getpixel((0, 0)) == (5, 0, 0)


# the book


def test_books(world: Session, drawn: list[tuple[str, int]], tmp_path: Path) -> None:
    told = draw(world, plan(world.concept, LINE, 3), tmp_path)
    told.title, told.pages[0].text = "<script>alert(1)</script>", "costs $5 and $6 <b>"
    page = export(told, world.concept, tmp_path, tmp_path / "out" / "book.html").read_text(encoding="utf-8")
    assert "<script>" not in page and html.escape("costs $5 and $6 <b>") in page
    assert page.count('src="data:image/png;base64,') == 3 and "http" not in page
    assert 'alt="a photo of cleo holding a kite at the beach"' in page
    book = export(told, world.concept, tmp_path, tmp_path / "book.pdf").read_bytes()
    assert book.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", book)) == 3
    sheet = export(told, world.concept, tmp_path, tmp_path / "sheet.png")
    with Image.open(sheet) as image:
        assert image.width > 900
    with pytest.raises(ValueError, match=r"book.docx: a story is written as .html, .pdf, .png"):
        export(told, world.concept, tmp_path, tmp_path / "book.docx")


def test_command(drawn: list[tuple[str, int]], tmp_path: Path) -> None:
    folder, out = tmp_path / "mine", tmp_path / "book.html"
    options = ["--concept", "cleo", "--device", "cpu", "--out", str(out)]
    given = ["story", "cleo finds a kite in the snow", "--pages", "2", "--folder", str(folder), *options]
    said = CliRunner().invoke(app, given, catch_exceptions=False).output
    assert "2  cleo finds a kite in the snow." in said and "✗ scene: in the snow, but reads in a room" in said
    assert f"written  {out}" in said and len(drawn) == 2
    said = CliRunner().invoke(app, ["story", str(folder / "story.json"), *options[2:]], catch_exceptions=False).output
    assert f"written  {out}" in said and len(drawn) == 2, "nothing changed, so nothing is drawn"
