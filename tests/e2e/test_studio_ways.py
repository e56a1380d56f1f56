"""The buttons that the other tests of this folder leave alone: each is pressed once and does what it says."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import pytest
from PIL import Image

from sync_r1.apps.feedback import Store
from sync_r1.apps.learn import Learner
from sync_r1.apps.studio import StudioFolder, books, pictures, talk, things
from sync_r1.data import load_concept, load_image
from tests.e2e.conftest import TIMEOUT_MS, Screen, wait_until

pytestmark = pytest.mark.browser


def holds(field: Any, text: str) -> None:
    """Wait until a field has a text."""
    pytest.importorskip("playwright.sync_api").expect(field).to_have_value(text, timeout=TIMEOUT_MS)


def test_a_thing_is_exported_changed_copied_and_kept(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/?thing=bo")
    screen.press("Export")
    with zipfile.ZipFile(screen.download("Download the archive")) as archive:
        assert len(json.loads(archive.read("concept/train/bo/info.json"))["extra_info"]) == 3
    screen.press("Delete")
    screen.press("No, keep it")
    page.get_by_role("button", name="Yes, delete it", exact=True).wait_for(state="hidden")
    screen.press("Make another like it")
    screen.see("without new pictures those of bo are kept")
    name, facts = page.get_by_label("Name"), page.get_by_label("What do only you know about it?")
    holds(name, "")
    screen.press("Empty the form")
    holds(facts, "")
    screen.press("Make another like it")
    page.wait_for_function("document.querySelector('textarea[placeholder^=\"it has\"]').value.length > 0")
    name.fill("nanu")
    screen.press("Save")
    screen.see("Nanu is here.").or_(page.get_by_text("nanu is here.")).first.wait_for()
    assert "nanu" in studio.names()
    screen.open("/?thing=nanu")
    screen.press("Change")
    holds(name, "nanu")
    facts.fill("it carries a drum.")
    screen.press("Save")
    page.get_by_text("carries a drum").first.wait_for()
    assert load_concept(studio.things, "nanu").facts == ["<nanu> carries a drum."]
    things.delete(studio, "nanu")


def test_facts_are_read_from_a_picture_and_taken_over(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/?thing=bo")
    screen.press("Change")
    facts = page.get_by_label("What do only you know about it?")
    page.get_by_text("Read facts from a picture").click()
    photo = load_concept(studio.things, "bo", verify=False).test_images[0]
    page.locator("input[type=file]").last.set_input_files(str(photo))
    page.get_by_alt_text("").or_(page.locator("img")).last.wait_for()
    page.wait_for_timeout(1500)  # the picture is on the server
    screen.press("Read it")
    page.get_by_text("of the readings").first.wait_for()
    before = facts.input_value()
    for box in page.get_by_role("checkbox").all():
        if box.is_visible():
            box.check()
    screen.press("Take over what is ticked")
    page.get_by_role("button", name="Take over what is ticked").wait_for(state="hidden")
    assert facts.input_value().startswith(before) and len(facts.input_value()) > len(before)


def test_a_drawing_is_checked_repaired_varied_rated_and_taken_along(screen: Screen, studio: StudioFolder) -> None:
    photo = load_image(load_concept(studio.things, "bo", verify=False).test_images[0])
    wrong = "a photo of bo wearing a crown and holding a kite in the snow"
    brought = pictures.keep_brought(studio, photo, "bo", wrong)
    page = screen.open(f"/draw?thing=bo&weights=base&picture={brought.id}")
    screen.press("Spell it out from what you know")
    page.get_by_label("What will be drawn").wait_for()
    screen.press("Check it")
    screen.see("What the model reads in its own picture")
    screen.press("Repair what is wrong")
    page.wait_for_function(
        f"!location.search.includes('{brought.id}') || document.body.innerText.includes('no better')"
    )
    repaired = pictures.recent(studio, "bo")[0]
    assert repaired.id == brought.id or (repaired.how, repaired.parent) == ("repaired", brought.id)
    before = len(Store.of("bo", studio.feedback).events())
    screen.press("I like it")
    screen.see("nothing is learned from it before you say so")
    assert len(Store.of("bo", studio.feedback).events()) == before + 1
    screen.press("I do not like it")
    wait_until(lambda: len(Store.of("bo", studio.feedback).events()) == before + 2)
    assert [event.good for event in Store.of("bo", studio.feedback).events()[before:]] == [True, False]
    page.get_by_role("tab", name="Vary").click()
    screen.press("Draw four variations")
    results = page.locator(".drawings").nth(1).locator(".gallery-item")  # below the gallery of all drawings
    results.nth(3).wait_for()
    made = pictures.recent(studio, "bo")[:4]
    assert {one.how for one in made} == {"varied"} and len({one.seed for one in made}) == 4
    results.nth(1).click()
    page.wait_for_url(lambda url: any(one.id in url for one in made))
    page.get_by_role("tab", name="Take it along").click()
    page.get_by_label("Keep the recipe").uncheck()
    screen.press("Make the file")
    with Image.open(screen.download("Download it")) as file:
        assert "prompt" not in file.info
    screen.check("draw_varied")


def test_drawing_is_stopped_and_what_is_finished_stays(screen: Screen, studio: StudioFolder) -> None:
    before = len(pictures.recent(studio, "bo"))
    page = screen.open("/draw?thing=bo&weights=base")
    page.get_by_label("Pictures", exact=True).fill("64")
    screen.press("Draw")
    wait_until(lambda: len(pictures.recent(studio, "bo")) > before)
    screen.press("Stop")
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").wait_for(state="detached")
    drawn = len(pictures.recent(studio, "bo"))
    assert before < drawn < 64
    page.locator(".drawings").first.locator(".gallery-item").nth(drawn - 1).wait_for()
    page.get_by_label("Pictures", exact=True).fill("1")
    screen.press("Draw")
    wait_until(lambda: len(pictures.recent(studio, "bo")) == drawn + 1)


def test_pages_of_a_book_are_written_moved_and_drawn_anew(screen: Screen, studio: StudioFolder) -> None:
    book = books.plan(studio, studio.thing("bo"), "bo finds a kite at the beach", 2)
    page = screen.open(f"/story?thing=bo&weights=base&story={book.id}")
    screen.see("0 of 2 pages are drawn")
    page.get_by_text("Change a page").click()
    page.get_by_label("Text", exact=True).fill("Once there was bo.")
    screen.press("Save the page")
    page.locator(".pages").get_by_text("Once there was bo.").wait_for()
    screen.press("Draw it anew")
    screen.see("1 of 2 pages are drawn")
    screen.press("Later")
    page.locator(".pages figure").nth(1).get_by_text("Once there was bo.").wait_for()
    screen.press("Earlier")
    page.locator(".pages figure").nth(0).get_by_text("Once there was bo.").wait_for()
    screen.press("Add a page behind it")
    page.locator(".pages figure").nth(2).wait_for()
    screen.press("Remove it")
    page.locator(".pages figure").nth(2).wait_for(state="detached")
    screen.press("New seeds for all pages")
    screen.see("every page has another seed now")
    assert len(books.read(studio, book.id).story.pages) == 2
    page.get_by_label("pdf").check()
    screen.press("Draw what is missing")
    screen.see("2 of 2 pages are drawn")
    screen.press("Make the file")
    assert screen.download("Download the book").read_bytes().startswith(b"%PDF")


def test_a_book_that_is_drawn_is_stopped_and_gone_on_with(screen: Screen, studio: StudioFolder) -> None:
    book = books.plan(studio, studio.thing("bo"), "bo finds a kite at the beach", 4)
    screen.open(f"/story?thing=bo&weights=base&story={book.id}")
    screen.press("Draw what is missing")
    screen.see("the others are on their way")
    screen.press("Stop")
    screen.see("The drawing was stopped; press Draw to go on.")
    state = books.drawing(book)
    assert state is not None and state.name == "stopped" and books.read(studio, book.id).missing > 0
    screen.press("Draw what is missing")
    screen.see("4 of 4 pages are drawn")


def test_a_teacher_sees_what_is_known_and_begins_anew(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/learn?thing=bo")
    page.get_by_label("Who learns?").fill("lea")
    screen.press("Begin")
    screen.see("1. ")
    choice, text = page.get_by_role("radio"), page.get_by_role("textbox", name="Your answer")
    choice.or_(text).locator("visible=true").first.wait_for()
    if text.is_visible():
        text.fill("a dog")
    else:
        choice.first.check()
    screen.press("Answer")
    page.get_by_role("button", name="Next question", exact=True).wait_for()
    assert len(Learner("lea", studio.lessons).answers) == 1
    page.get_by_text("For the teacher").click()
    screen.press("What is known?")
    page.locator("table.plain").first.wait_for()
    screen.press("All answers as a table")
    assert b"," in screen.download("Download the table").read_bytes()
    screen.press("Begin anew")
    screen.see("Lea begins anew")
    screen.press("Delete this learner")
    screen.see("Lea is deleted")


def test_a_talk_is_rated_and_begun_anew(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/chat?thing=bo")
    message = page.get_by_label("Your message")
    message.fill("Where is bo?")
    screen.press("Send")
    page.locator(".turn.it").last.wait_for()
    page.wait_for_timeout(500)
    screen.press("✓ Right")
    screen.see("nothing is learned from it before you say so")
    assert Store.of("bo", studio.feedback).events()[-1].good
    screen.press("New talk")
    page.locator(".turn").first.wait_for(state="detached")
    assert talk.turns(studio, "bo") == []
