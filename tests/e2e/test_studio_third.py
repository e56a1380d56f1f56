"""Comparisons, picture books and lessons in a real browser."""

from __future__ import annotations

import numpy as np
import pytest

from sync_r1.apps.learn import Learner
from sync_r1.apps.studio import StudioFolder, books, comparisons
from sync_r1.world.concepts import personas
from sync_r1.world.render import render_image
from tests.e2e.conftest import Screen

pytestmark = pytest.mark.browser


def test_a_blind_vote_hides_the_names_until_it_is_cast(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/compare?thing=bo")
    screen.see("There is only the model without training")
    made = comparisons.Comparison(
        "blind-1", "bo", ["base", "base"], ["first", "second"], [("a photo of bo", 0)], [[1, 0]]
    )
    made.blind = True
    for column in range(2):
        from sync_r1.drawings import save_picture

        image = render_image(personas()["bo"].thing(np.random.default_rng(0), hat=("cap", "crown")[column]))
        image.info = {"prompt": "a photo of <bo>", "seed": 0, "run": "x", "concept": "bo", "software": "x"}
        save_picture(image, made.picture(studio, 0, column))
    made.drawn = 2
    made.write(studio)
    screen.open("/compare?thing=bo&comparison=blind-1")
    screen.see("Left")
    assert "second" not in page.locator(".prompt-row").first.inner_text()
    screen.press("← Left")
    screen.see("Left was second, right was first")
    assert comparisons.read(studio, "blind-1").votes == {"0": "left"}
    screen.check("compare")


def test_a_line_becomes_a_book(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/story?thing=bo&weights=base")
    page.get_by_label("What happens?").fill("bo finds a kite")
    page.get_by_label("Pages", exact=True).fill("40")
    screen.press("Plan it")
    screen.see("Pages is 40")
    page.get_by_label("Pages", exact=True).fill("2")
    screen.press("Plan it")
    screen.see("0 of 2 pages are drawn")
    screen.press("Draw what is missing")
    screen.see("2 of 2 pages are drawn")
    book = books.known(studio, "bo")[0]
    assert book.missing == 0 and f"story={book.id}" in page.url
    screen.press("Make the file")
    html = screen.download("Download the book").read_text(encoding="utf-8")
    shown = page.context.new_page()
    shown.set_content(html)
    assert shown.locator("img").count() == 2 and all(shown.locator("img").nth(n).get_attribute("alt") for n in range(2))
    shown.close()
    screen.check("story")


def test_a_lesson_goes_on_after_a_reload(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/learn?thing=bo")
    page.get_by_label("Who learns?").fill("../mia")
    screen.press("Begin")
    screen.see("use the letters a to z")
    page.get_by_label("Who learns?").fill("mia")
    screen.press("Begin")
    screen.see("1. ")
    question = page.locator("h2").filter(has_text="1. ").inner_text()
    screen.reload()
    screen.see(question)
    screen.press("I do not know")
    screen.see("No: ")
    assert len(Learner("mia", studio.lessons).answers) == 1
    screen.press("Next question")
    screen.see("2. ")
    screen.check("learn")
