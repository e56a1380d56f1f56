"""Talks, feedback and reasons in a real browser."""

from __future__ import annotations

import pytest

from sync_r1.apps.feedback import Store
from sync_r1.apps.studio import StudioFolder, talk, thumbs
from sync_r1.data import load_concept
from tests.e2e.conftest import Screen

pytestmark = pytest.mark.browser


def test_a_talk_names_its_sources_and_survives_a_reload(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/chat?thing=bo")
    message = page.get_by_label("Your message")
    message.fill("What colour is bo?")
    screen.press("Send")
    page.locator(".turn.it").first.wait_for()
    turn = talk.turns(studio, "bo")[-1]
    assert turn.asked == "What colour is bo?" and turn.credits and turn.route in ("info", "facts")
    message.fill("Quagmires zigzagging?")
    message.press("Enter")
    page.locator(".turn.you").nth(1).wait_for()
    page.locator(".turn.it").nth(1).wait_for()
    screen.press("✗ Wrong")
    screen.see("nothing is learned from it before you say so")
    assert [event.good for event in Store.of("bo", studio.feedback).events()] == [False]
    screen.reload()
    page.locator(".turn.it").nth(1).wait_for()
    message.fill("/nosuch")
    screen.press("Send")
    screen.see("Unknown command /nosuch")
    screen.check("chat")


def test_is_this_mine_asks_in_words_and_by_drawing(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/chat?thing=bo")
    photo = load_concept(studio.things, "bo", verify=False).test_images[0]
    page.locator("input[type=file]").first.set_input_files(str(photo))
    page.locator("img.talked").first.wait_for()
    screen.press("Is this mine?")
    screen.see("by drawing")


def test_choices_are_understood_learned_and_undone(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/feedback?thing=bo")
    screen.press("Ask me something")
    screen.see("mean?")
    before = thumbs.count(studio, "bo")
    page.keyboard.press("ArrowLeft")
    screen.see("What it understood")
    page.wait_for_function("document.body.innerText.includes('for, ')")
    assert thumbs.count(studio, "bo") > before
    page.get_by_label("10").check()
    screen.press("Learn now")
    screen.see("is learning")
    screen.check("feedback")
    screen.reload()
    screen.see("Learning")
    thumbs.stop(studio, "bo")
    screen.see("was stopped; nothing of it is kept")
    assert not (studio.feedback / "bo" / "checkpoints").exists()


def test_what_led_to_a_picture_is_shown_word_by_word(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/why?thing=bo&weights=base&prompt=a+photo+of+bo+holding+a+kite&seed=3")
    assert page.get_by_label("Prompt").input_value() == "a photo of bo holding a kite"
    screen.press("Explain")
    screen.see("Soft tokens")
    maps = page.locator(".reason figure img")
    assert maps.count() >= 4
    for number in range(maps.count()):
        assert len(maps.nth(number).get_attribute("alt")) > 20, "every map says the same in words"
    last = page.locator("figure.big img").first.get_attribute("src")
    slider = page.get_by_label("Step", exact=False).first
    page.locator("input[type=range]").first.fill("0")
    screen.see("After step 0")
    assert page.locator("figure.big img").first.get_attribute("src") != last and slider is not None
    screen.check("why")
