"""Talks, feedback and reasons in a real browser."""

from __future__ import annotations

import pytest

from sync_r1.apps.feedback import Store
from sync_r1.apps.studio import StudioFolder, comparisons, talk, thumbs
from sync_r1.data import load_concept
from sync_r1.run_folder import checkpoints
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
    page.wait_for_url("**picture=**")
    screen.press("Is this mine?")
    screen.see("by drawing")
    screen.press("Without a picture")
    page.locator("img.talked").first.wait_for(state="detached")
    page.wait_for_url(lambda url: "picture=" not in url)
    screen.press("Is this mine?")
    screen.see("There is no picture to look at")


def test_choices_are_understood_and_learning_is_stopped(screen: Screen, studio: StudioFolder) -> None:
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
    screen.press("Stop")
    screen.see("was stopped; nothing of it is kept")
    assert not (studio.feedback / "bo" / "checkpoints").exists()


def test_what_was_learned_is_shown_compared_and_undone(screen: Screen, studio: StudioFolder) -> None:
    """The weights that the thumbs teach are the second ones that a comparison needs."""
    page = screen.open("/feedback?thing=bo")
    page.get_by_label("10").check()
    screen.press("Learn now")
    screen.see("is learning")
    screen.see("is done")
    assert len(checkpoints(studio.feedback / "bo")) == 1
    screen.press("Show what changed")
    screen.see("The same prompts before and after")
    assert page.locator("table.plain").filter(has_text="The same prompts").locator("td").count() >= 3
    screen.open("/compare?thing=bo")
    page.get_by_label("Prompts").fill("a photo of bo\na photo of bo at the beach")
    page.get_by_label("number input for Pictures of each prompt").fill("2")
    page.get_by_label("Blind: hide the names until I have chosen").check()
    screen.press("Compare")
    rows = page.locator("section.prompt-row")
    rows.first.wait_for()
    screen.press("← Left")
    rows.nth(1).wait_for()
    screen.press("Right →")
    rows.nth(2).wait_for()
    screen.press("↑ Both")
    rows.nth(3).wait_for()
    screen.press("↓ Neither")
    screen.see("Blind votes")
    screen.see("Left was ")
    (made,) = [one for one in comparisons.known(studio, "bo") if one.weights == ["thumbs", "base"]]
    assert made.votes == {"0": "left", "1": "right", "2": "both", "3": "neither"}
    goods = [event.good for event in Store.of("bo", studio.feedback).events() if event.what == "picture"]
    assert goods == [True, False, False, True, True, True, False, False]
    left = comparisons.create(studio, "bo", ["thumbs", "base"], "a photo of bo", 1, False)
    screen.open(f"/compare?thing=bo&comparison={left.id}")
    screen.see("0 of 2 are drawn")
    screen.press("Draw the rest")
    page.get_by_text("are drawn").wait_for(state="detached")
    assert rows.locator("img").count() == 2 and comparisons.read(studio, left.id).drawn == 2
    screen.open("/feedback?thing=bo")
    screen.press("Undo the last update")
    screen.see("The last update is undone, bit for bit")
    page.wait_for_url("**weights=base**")
    page.get_by_text("is done").wait_for(state="detached")
    assert checkpoints(studio.feedback / "bo") == [] and studio.best("bo") == "base"


def test_every_choice_is_kept_as_thumbs(screen: Screen, studio: StudioFolder) -> None:
    Store.of("bo", studio.feedback).path.unlink(missing_ok=True)
    page = screen.open("/feedback?thing=bo")
    screen.press("Ask me something")
    page.locator(".choice").nth(1).wait_for()
    screen.press("↑ Both")
    assert newest_two(screen, studio, 2) == [True, True]
    screen.press("↓ Neither")
    assert newest_two(screen, studio, 4) == [False, False]
    screen.press("Right →")
    assert newest_two(screen, studio, 6) == [False, True]
    screen.press("← Left")
    assert newest_two(screen, studio, 8) == [True, False]


def newest_two(screen: Screen, studio: StudioFolder, number: int) -> list[bool]:
    """Whether the last thumbs are up, once there are so many and the next question is asked."""
    screen.see(f"from {number} thumbs")
    screen.page.wait_for_timeout(2000)
    events = Store.of("bo", studio.feedback).events()
    assert len(events) == number
    return [event.good for event in events[-2:]]


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
    written = screen.download("Download as one page").read_text(encoding="utf-8")
    assert written.lstrip().lower().startswith("<!doctype html") and "holding a kite" in written
    screen.check("why")
