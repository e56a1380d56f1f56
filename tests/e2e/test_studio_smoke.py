"""The studio in a real browser in a few seconds: part of `make test` where there is a browser."""

from __future__ import annotations

from sync_r1.apps.studio import StudioFolder, pictures
from tests.e2e.conftest import Screen


def test_a_drawing_is_made_and_is_still_there_after_a_reload(screen: Screen, studio: StudioFolder) -> None:
    page = screen.open("/draw?thing=bo&weights=base")
    before = len(pictures.recent(studio, "bo"))
    page.get_by_label("Pictures", exact=True).fill("1")
    screen.press("Draw")
    page.locator(".gallery-item").nth(before).wait_for()
    drawn = pictures.recent(studio, "bo")
    assert len(drawn) == before + 1
    screen.reload()
    page.locator(".gallery-item").nth(before).click()
    screen.see("Edit a part")
    assert screen.outside == [] and screen.errors == []
