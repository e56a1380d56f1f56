"""Things, trainings and drawings in a real browser. The tests follow one another as a person would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sync_r1.apps import jobs
from sync_r1.apps.studio import StudioFolder, pictures, things
from sync_r1.data import load_concept
from sync_r1.metrics_file import read_metrics
from sync_r1.run_folder import checkpoints, step_of
from sync_r1.world.render import random_thing, render_image
from tests.e2e.conftest import TIMEOUT_MS, Screen, step_of_run, wait_until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def studio(place: Path) -> StudioFolder:
    return StudioFolder(place / "studio", place / "runs")


def photos(folder: Path) -> list[Path]:
    """Six little pictures of a dog."""
    folder.mkdir()
    found = []
    for number in range(6):
        thing = random_thing(np.random.default_rng(number), kind="dog", colour="brown", pattern="dotted", mark="heart")
        found.append(folder / f"{number}.png")
        render_image(thing).save(found[-1])
    return found


def test_an_empty_studio_says_what_comes_next(screen: Screen) -> None:
    screen.open("/draw")
    screen.see("There is nothing to draw yet.")
    screen.page.get_by_role("link", name="Add your first thing").click()
    screen.see("There is nothing here yet.")
    screen.check("things_empty")


def test_the_example_is_added_and_deleted(screen: Screen, studio: StudioFolder) -> None:
    screen.open("/")
    screen.press("Try it with an example")
    screen.see("Bo is a dog of the embedded pixel world")
    assert studio.names() == ["bo"] and len(load_concept(studio.things, "bo").facts) == 3
    screen.press("Delete")
    screen.press("Yes, delete it")
    screen.see("There is nothing here yet.")
    screen.page.get_by_role("button", name="Try it with an example", exact=True).wait_for()
    assert studio.names() == []


def test_a_thing_is_added_with_its_mistakes_named(screen: Screen, studio: StudioFolder, tmp_path: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    page = screen.open("/")
    page.get_by_label("Name").fill("momo")
    page.get_by_label("What is it?").fill("a dog")
    page.get_by_label("What does it look like?").fill("a small dog")
    screen.see("give the noun alone")
    page.get_by_label("What is it?").fill("dog")
    page.get_by_label("What do only you know about it?").fill("it has a ball.\nit lives at the beach.")
    page.get_by_label("Name").click()
    page.wait_for_function("Object.keys(localStorage).some((name) => name.includes('studio-thing'))")
    page.wait_for_timeout(500)
    screen.reload()
    expect(page.get_by_label("Name")).to_have_value("momo", timeout=TIMEOUT_MS)  # what was typed is kept
    heic = tmp_path / "IMG_1.heic"
    heic.write_bytes(b"\0" * 100)
    files = photos(tmp_path / "photos")
    chooser = page.locator("input[type=file]").first
    chooser.set_input_files([str(files[0]), str(heic)])
    expect(page.locator("td.filename").filter(has_text="IMG_1")).to_be_visible(timeout=TIMEOUT_MS)
    screen.press("Save")
    screen.see("IMG_1.heic: HEIC pictures are not read here")
    assert studio.names() == []
    page.get_by_label("Clear").or_(page.get_by_role("button", name="Clear")).first.click()
    chooser.set_input_files([str(path) for path in files])
    expect(page.locator("td.filename")).to_have_count(6, timeout=TIMEOUT_MS)
    screen.press("Save")
    screen.see("Momo is here.")
    concept = load_concept(studio.things, "momo")
    assert len(concept.train_images) + len(concept.test_images) == 6 and len(concept.facts) == 2
    screen.check("things")


def test_a_deleted_thing_is_put_back(screen: Screen, studio: StudioFolder) -> None:
    screen.open("/?thing=momo")
    screen.press("Delete")
    screen.press("Yes, delete it")
    screen.see("Momo is deleted").or_(screen.page.get_by_text("is deleted")).first.wait_for()
    assert studio.names() == []
    screen.press("Put it back")
    screen.see("is back")
    assert studio.names() == ["momo"]
    screen.press("Delete")
    screen.press("Yes, delete it")
    screen.see("is deleted")
    screen.reload()
    screen.page.get_by_role("button", name="Put momo back").click()
    screen.see("is back")
    assert studio.names() == ["momo"]


def test_a_training_is_started_watched_stopped_and_gone_on_with(screen: Screen, studio: StudioFolder) -> None:
    """The training is a process; the page is reloaded and opened twice meanwhile."""
    page = screen.open("/train?thing=momo")
    screen.press("What will it cost?")
    screen.see("GiB are free")
    page.get_by_label("Name of the run").fill("../momo")
    screen.press("Start")
    screen.see("the letters a to z")
    page.get_by_label("Name of the run").fill("momo")
    page.get_by_label("Recipe").click()
    page.get_by_role("option", name="world: rewards alone").click()
    page.get_by_label("Measure before and after").uncheck()
    screen.press("Start")
    screen.see("is training")
    screen.reload()
    screen.see("is training")
    assert "run=momo" in page.url
    second = page.context.new_page()
    second.goto(page.url)
    second.get_by_text("is training").first.wait_for()
    second.close()
    screen.check("train")
    run = studio.runs / "momo"
    wait_until(lambda: step_of_run(run) >= 1)
    screen.press("Stop after this step")
    screen.see("ends after this step")
    screen.see("was stopped")
    (kept,) = checkpoints(run)
    assert step_of(kept) == step_of_run(run) and jobs.state(run).name == "stopped"
    screen.press("Go on")
    screen.see("is training")
    wait_until(lambda: step_of_run(run) > step_of(kept))
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, step_of_run(run) + 1))
    screen.press("Stop now")
    screen.see("was stopped")
    job = jobs.read_job(run)
    assert job is not None and job.process() is None
    screen.see("Go on")


def test_drawings_are_made_edited_and_undone(screen: Screen, studio: StudioFolder) -> None:
    things.add_example(studio)
    page = screen.open("/draw?thing=bo&weights=base")
    screen.see("No drawing of bo yet")
    page.get_by_label("Pictures", exact=True).fill("2")
    screen.press("Draw")
    page.locator(".gallery-item, .thumbnail-item").nth(1).wait_for()
    known = pictures.recent(studio, "bo")
    assert len(known) == 2
    page.locator(".gallery-item, .thumbnail-item").first.click()
    screen.see("Edit a part")
    assert f"picture={known[0].id}" in page.url
    paint(page)
    page.get_by_label("The whole picture as it is to become").fill("a photo of bo holding a kite")
    page.get_by_label("Tries").fill("1")
    screen.press("Draw this part again")
    screen.see("Choose one to go on from it")
    edited = pictures.recent(studio, "bo")[0]
    assert edited.how == "edited" and edited.parent == known[0].id
    before = np.asarray(pictures.picture(studio, known[0].id)).astype(int)
    after = np.asarray(pictures.picture(studio, edited.id)).astype(int)
    changed = np.argwhere((before != after).any(-1))
    assert len(changed) == 0 or (changed[:, 0].max() < 24 and changed[:, 1].max() < 24), "only what was painted changes"
    page.locator(".gallery-item, .thumbnail-item").last.click()
    page.wait_for_url(f"**picture={edited.id}**")
    screen.press("Undo: back to the one before")
    page.wait_for_url(f"**picture={known[0].id}**")
    screen.check("draw")


def paint(page: Any) -> None:
    """A stroke in the upper left of the canvas."""
    page.locator("canvas").first.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # the editor draws its picture
    box = page.locator("canvas").first.bounding_box()
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    page.mouse.move(left + 0.2 * side, top + 0.3 * side)
    page.mouse.down()
    for step in range(6):
        page.mouse.move(left + (0.2 + 0.05 * step) * side, top + (0.3 + 0.03 * step) * side)
    page.mouse.up()
    page.wait_for_timeout(800)
