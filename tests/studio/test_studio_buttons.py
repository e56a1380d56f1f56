"""Buttons of the studio's screens: each is pressed by a test in a browser, and what they do where no browser looks."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sync_r1.apps import jobs
from sync_r1.apps.studio import StudioFolder, comparisons, things, thumbs, training
from sync_r1.apps.studio.thumbs import Asked
from sync_r1.serve.batching import Worker

gr = pytest.importorskip("gradio", reason='the studio is not installed: pip install "sync-r1[studio]"')

E2E = Path(__file__).parents[1] / "e2e"
Button = tuple[str, str]  # the address of its screen, and its label


def buttons_of(page: Any) -> set[Button]:
    """Every button of a page that was built."""
    found = set()
    for block in page.blocks.values():
        if isinstance(block, gr.Button):
            found.add((f"/{block.page}", str(block.value)))
        elif isinstance(block, gr.DownloadButton):
            found.add((f"/{block.page}", str(block.label)))
    return found


def pressed_in(function: ast.FunctionDef) -> Iterator[Button]:
    """The buttons that a browser test presses, each on the screen that it opened last before that."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    address = ""
    for call in sorted(calls, key=lambda one: (one.lineno, one.col_offset)):
        done = ast.unparse(call.func)
        texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
        if done == "screen.open":
            address = urlsplit(str(texts[0])).path
        elif done in ("screen.press", "screen.download") and texts:
            yield address, str(texts[0])


def pressed_by(code: str) -> set[Button]:
    """The same of all functions of a file."""
    found: set[Button] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            found.update(pressed_in(node))
    return found


def test_every_button_is_pressed_in_a_browser(tmp_path: Path) -> None:
    from sync_r1.app.page import build
    from sync_r1.app.server import Studio

    there = buttons_of(build(Studio(StudioFolder(tmp_path / "studio"), None)))  # type: ignore[arg-type]
    pressed: set[Button] = set()
    for path in E2E.glob("test_*.py"):
        pressed |= pressed_by(path.read_text(encoding="utf-8"))
    assert len(there) > 50
    assert there - pressed == set(), "no test in tests/e2e presses these; add a screen.press(LABEL) behind screen.open"
    assert pressed - there == set(), "tests in tests/e2e press what no screen has"


def test_a_press_counts_for_the_screen_that_is_open() -> None:
    code = (
        "def test(screen):\n    screen.open(f'/draw?picture={1}')\n    screen.press('Draw')\n    screen.see('Stop')\n"
        "    screen.open('/')\n    file = screen.download('Export')\n"
    )
    assert pressed_by(code) == {("/draw", "Draw"), ("/", "Export")}


@pytest.fixture()
def worker() -> Iterator[Worker]:
    started = Worker(max_waiting=4, max_rows=8, gather_s=0.0)
    started.start()
    yield started
    started.stop()


def test_what_waits_for_the_model_ends_as_soon_as_its_page_says_stop(worker: Worker) -> None:
    from sync_r1.app.models import Models

    models = Models(Opened(), worker, 60.0)  # type: ignore[arg-type]
    busy, free = threading.Event(), threading.Event()
    found: list[Any] = []

    def long(session: Any, send: Callable[[Any], bool]) -> None:
        busy.set()
        free.wait(30)
        found.append(send("picture"))

    first = threading.Thread(target=lambda: found.extend(models.stream("first", "bo", "base", long)))
    second = threading.Thread(target=lambda: found.extend(models.stream("second", "bo", "base", long)))
    first.start()
    assert busy.wait(30)
    second.start()
    while worker.waiting == 0:
        time.sleep(0.01)
    models.cancel("second")
    second.join(30)
    assert not second.is_alive() and found == [], "it does not wait for the model's turn"
    models.cancel("first")
    assert first.is_alive(), "what is being drawn is finished first"
    free.set()
    first.join(30)
    assert found == [False, "picture"], "no more is drawn, and what was finished is shown"


class Opened:
    """A catalogue whose sessions are never looked at."""

    def session(self, name: str) -> None:
        return None


def test_the_weights_before_an_update_are_those_that_it_began_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    monkeypatch.setattr(jobs, "launch", lambda command, folder: folder.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(thumbs, "belief", lambda store: type("Settled", (), {"settled": ["its joy"]}))
    monkeypatch.setattr(StudioFolder, "find", lambda self, thing, one: type("Found", (), {"place": None}))
    updates: list[Path] = []
    monkeypatch.setattr(thumbs, "newest", lambda run: updates[-1] if updates else None)
    with pytest.raises(ValueError, match="was not learned here"):
        thumbs.weights_before(studio, "bo")
    thumbs.learn(studio, "bo", "base", 10)
    updates.append(Path("step_00001"))
    assert thumbs.weights_before(studio, "bo") == "base"
    thumbs.learn(studio, "bo", "thumbs", 10)
    updates.append(Path("step_00002"))
    assert thumbs.weights_before(studio, "bo") == "thumbs/step_00001"
    updates.pop()  # undone
    assert thumbs.weights_before(studio, "bo") == "base"


def test_a_training_is_put_into_the_queue_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    monkeypatch.setattr(training, "running", lambda studio: "first")
    monkeypatch.setattr(training, "arguments_to_go_on", lambda studio, name: ["train"])
    assert training.resume(studio, "second").startswith("second waits until first has ended")
    with pytest.raises(ValueError, match="second waits already"):
        training.resume(studio, "second")
    with pytest.raises(ValueError, match="first is training already"):
        training.resume(studio, "first")
    assert list(training.waiting(studio)) == ["second"]


def test_a_run_that_waits_can_leave_the_queue_and_is_not_gone_on_with(tmp_path: Path) -> None:
    from sync_r1.app.server import Studio
    from sync_r1.app.train import TrainScreen

    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    jobs.Job(studio.runs / "bo", 1, 0.0, ["train"]).write()
    screen = screen_of(TrainScreen, Studio(studio, None))  # type: ignore[arg-type]
    shown = screen.look("bo", "")
    assert not shown[screen.kill].visible and shown[screen.resume].visible
    training.let_wait(studio, "bo", ["train"])
    shown = screen.look("bo", "")
    assert shown[screen.kill].visible and not shown[screen.resume].visible


def test_a_new_training_that_waits_is_shown_and_can_be_called_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sync_r1.app.server import Studio
    from sync_r1.app.train import TrainScreen

    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    things.add_example(studio)
    monkeypatch.setattr(training, "running", lambda studio: "first")
    screen = screen_of(TrainScreen, Studio(studio, None))  # type: ignore[arg-type]
    shown = screen.begin("bo", "demo", 8, "second", False)
    assert shown[screen.run].value == "second" and "waits until first has ended" in shown[screen.message].value
    assert ">waiting</span> second<" in shown[screen.head]
    assert shown[screen.kill].visible and not shown[screen.stop].visible and not shown[screen.resume].visible
    assert gr.skip() == screen.look("second", shown[screen.seen])[screen.seen], "nothing new is not sent again"
    shown = screen.end_now("bo", "second")
    assert "no longer waits" in shown[screen.watch_message].value and training.waiting(studio) == {}
    assert shown[screen.run].value is None and not shown[screen.kill].visible


def test_a_comparison_that_was_left_is_gone_on_with(tmp_path: Path) -> None:
    from sync_r1.app.compare import CompareScreen
    from sync_r1.app.server import Studio

    def drawn(thing: str, weights: str, work: Any) -> dict[str, Any]:
        if weights == "fails":
            raise ValueError("there are no weights fails")
        if work is not comparisons.shared_facts:
            asked.append(weights)
        return {}

    asked: list[str] = []
    models: Any = type("Drawn", (), {"use": staticmethod(drawn)})()
    studio = Studio(StudioFolder(tmp_path), models)
    screen = screen_of(CompareScreen, studio)
    made = comparisons.Comparison("c1", "bo", ["run/a", "base"], ["a", "b"], [("a photo of bo", 0)], [[0, 1]], drawn=1)
    made.write(studio.folder)
    shown = screen.open("bo", "c1")
    assert shown[screen.rest].visible and "1 of 2 are drawn" in shown[screen.grid]
    first, *_, last = screen.draw_the_rest("c1")
    assert not first[screen.rest].visible and not first[screen.start].interactive
    assert not last[screen.rest].visible and last[screen.start].interactive and asked == ["base"]
    assert comparisons.read(studio.folder, "c1").drawn == 2
    made.weights, made.drawn = ["run/a", "fails"], 1
    made.write(studio.folder)
    steps = screen.draw_the_rest("c1")
    with pytest.raises(ValueError, match="no weights fails"):
        for shown in steps:
            last = shown
    assert last[screen.rest].visible and last[screen.start].interactive, "it can be tried again"


def test_what_was_deleted_can_be_put_back_later(tmp_path: Path) -> None:
    from sync_r1.app.server import Studio
    from sync_r1.app.things import ThingsScreen

    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    things.add_example(studio)
    screen = screen_of(ThingsScreen, Studio(studio, None))  # type: ignore[arg-type]
    request = type("Request", (), {"query_params": {}})()
    assert not screen.arrive(request)[screen.put_back].visible
    assert screen.remove("bo")[screen.put_back].value == "Put it back", "the message says what"
    key, _ = things.last_deleted(studio)
    shown = screen.arrive(request)
    assert shown[screen.trash] == key and shown[screen.put_back].visible
    assert shown[screen.put_back].value == "Put bo back"
    things.add_example(studio)
    assert not screen.arrive(request)[screen.put_back].visible, "another thing has its name"


def screen_of(kind: Any, studio: Any) -> Any:
    """One screen on a page of its own."""
    with gr.Blocks() as page:
        return kind(studio, page)


def test_of_one_text_only_yes_and_no_can_be_said(tmp_path: Path) -> None:
    from sync_r1.app.feedback import FeedbackScreen
    from sync_r1.app.server import Studio

    for texts in (("bo with a flower",), ("bo with a flower", "bo wearing a beanie")):
        asked = Asked("a photo of bo with its joy", texts, "its joy")
        screen = screen_of(FeedbackScreen, Studio(StudioFolder(tmp_path), Answering(asked)))  # type: ignore[arg-type]
        shown = screen.ask("bo", "base", 0)
        two = len(texts) == 2
        assert shown[screen.right].visible == shown[screen.both].visible == two
        assert ("Only one text" in shown[screen.question]) == (not two)


class Answering:
    """Models that always find the same."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def use(self, thing: str, weights: str, work: Any) -> Any:
        return self.found
