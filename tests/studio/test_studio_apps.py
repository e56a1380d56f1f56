"""What the studio's screens stand on: drawings, trainings, talks, thumbs, comparisons, books and lessons as files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from sync_r1.apps import jobs
from sync_r1.apps.feedback import Event, Store
from sync_r1.apps.studio import StudioFolder, books, comparisons, pictures, talk, teach, thumbs, training
from sync_r1.apps.studio.folder import new_id
from sync_r1.apps.studio.pictures import Wish
from sync_r1.apps.studio.training import Plan
from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model

ITEM = np.zeros((16, 16, 4), dtype=np.uint8)
ITEM[4:8, 4:8] = 255


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> StudioFolder:
    place = tmp_path_factory.mktemp("place")
    folder = StudioFolder(place / "studio", place / "runs")
    export_world(folder.things, ["bo"])
    return folder


@pytest.fixture(scope="module")
def session(studio: StudioFolder) -> Session:
    options = EvalConfig(batch_size=8, generation_timesteps=2, max_completion_length=6)
    concept = load_concept(studio.things, "bo", verify=False)
    return Session(
        model=tiny_model(max_text_tokens=120), concept=concept, root=studio.things, run="tiny", options=options
    )


def drawn(studio: StudioFolder, session: Session, count: int = 1) -> list[pictures.Record]:
    found: list[pictures.Record] = []

    def send(one: Any) -> bool:
        found.append(one)
        return True

    pictures.draw(studio, session, "base", Wish("a photo of bo", count), send)
    return found


def test_drawings_come_one_after_the_other_and_stay_when_no_browser_waits(
    studio: StudioFolder, session: Session
) -> None:
    found: list[pictures.Record] = []

    def send(one: Any) -> bool:
        found.append(one)
        return len(found) < 2

    pictures.draw(studio, session, "base", Wish("a photo of bo", 6, 5), send)
    assert [one.seed for one in found] == [5, 6]
    assert [one.id for one in pictures.recent(studio, "bo")[:2]] == [found[1].id, found[0].id]
    image = pictures.picture(studio, found[0].id)
    assert image.info["prompt"] == "a photo of <bo>" and image.info["seed"] == "5"
    for wrong in (Wish("x", 0), Wish("x", 65), Wish("x", 1, -1), Wish("x", 1, 0, 100), Wish("x", 1, 0, None, 50.0)):
        with pytest.raises(ValueError):
            pictures.draw(studio, session, "base", wrong, send)


def test_ids_sort_as_they_were_made() -> None:
    """Also those of one millisecond."""
    made = [new_id() for _ in range(300)]
    assert made == sorted(made) and len(set(made)) == 300


def test_an_edit_keeps_every_other_pixel_and_can_be_undone(studio: StudioFolder, session: Session) -> None:
    (first,) = drawn(studio, session)
    made = pictures.edit(studio, session, "base", first.id, Wish("a photo of bo", 2), [], [ITEM])
    before, after = (np.asarray(pictures.picture(studio, one)) for one in (first.id, made[0].id))
    changed = np.argwhere((before != after).any(-1))
    assert all(4 <= row < 8 and 4 <= column < 8 for row, column in changed)
    assert [one.id for one in pictures.history(studio, made[0].id)] == [made[0].id, first.id]
    with pytest.raises(ValueError, match="nothing is marked"):
        pictures.edit(studio, session, "base", first.id, Wish("a photo of bo", 1), [], [ITEM * 0])
    varied = pictures.vary(studio, session, "base", first.id, 0.5, Wish("", 2))
    assert {one.how for one in varied} == {"varied"} and varied[0].parent == first.id


def test_a_brush_on_the_enlarged_picture_marks_pixels_of_the_small_one() -> None:
    canvas = np.zeros((64, 64, 4), dtype=np.uint8)
    canvas[8:16, 16:24] = (225, 29, 72, 255)
    canvas[40:42, 40:42] = 255  # less than half of a pixel
    mask = pictures.painted([canvas, None], 8, 8)
    assert np.argwhere(mask).tolist() == [[1, 2]]


def test_a_download_has_its_recipe_or_has_not(studio: StudioFolder, session: Session) -> None:
    (one,) = drawn(studio, session)
    assert "prompt" in Image.open(pictures.download(studio, one.id, True)).info
    assert "prompt" not in Image.open(pictures.download(studio, one.id, False)).info
    for wrong in ("../x", "nosuch"):
        with pytest.raises(ValueError):
            pictures.picture_file(studio, wrong)


def test_plans_that_cannot_be_trained_are_refused_before_anything_starts(studio: StudioFolder) -> None:
    good = Plan("bo", "demo", 10, "bo")
    config = training.config_of_plan(studio, good)
    assert config.rl.max_steps == 10 and config.run.folder == studio.runs.resolve() / "bo"
    assert Path(config.data.root) == studio.things.resolve() and config.data.concepts == ["bo"]
    for changes, words in (
        ({"recipe": "nosuch"}, "the recipe is"),
        ({"name": "../x"}, "the run's name is"),
        ({"steps": 0}, "steps is 0"),
        ({"thing": "nosuch"}, "there is no thing"),
        ({"seed": -1}, "run.seed"),
    ):
        with pytest.raises(ValueError, match=words):
            training.begin(studio, Plan(**{**vars(good), **changes}))
    assert training.runs(studio) == [] and training.free_name(studio, "bo") == "bo"


def test_a_second_training_waits_for_the_first(studio: StudioFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    going = ["first"]
    monkeypatch.setattr(training, "running", lambda studio: going[0])
    monkeypatch.setattr(jobs, "start", lambda command, folder, wait: started.append(folder.name))
    assert training.begin(studio, Plan("bo", "demo", 10, "second")) == (
        "second waits until first has ended; then it begins by itself"
    )
    training.begin(studio, Plan("bo", "demo", 10, "third"))
    assert list(training.waiting(studio)) == ["second", "third"] and training.start_next(studio) == ""
    assert training.runs(studio, "bo") == ["second", "third"] and training.runs(studio, "momo") == []
    assert training.free_name(studio, "second") == "second-2"
    assert training.stop(studio, "third") == "third no longer waits"
    going[0] = ""
    assert training.start_next(studio) == "second" == started[0] and training.waiting(studio) == {}


def test_a_kill_while_a_training_begins_neither_loses_it_nor_starts_it_twice(
    studio: StudioFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def killed(command: list[str], folder: Path, wait: bool) -> None:
        started.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        jobs.Job(folder, 1, 5.0, command).write()
        raise SystemExit

    training.let_wait(studio, "late", ["train", "run.name=late"])
    monkeypatch.setattr(jobs, "start", killed)
    with pytest.raises(SystemExit):
        training.start_next(studio)
    assert training.start_next(studio) == "" and training.waiting(studio) == {} and started == ["late"]


def test_the_time_left_counts_steps_that_draw_apart() -> None:
    rows = []
    for step in range(1, 9):
        row = {"step": float(step), "perf/reward_time_s": 1.0, "reward": 0.5}
        if step % 4 == 0:
            row |= {"perf/reward_time_s": 15.0, "image/reward": 0.5}
        rows.append(row)
    assert training.time_left(rows, 8) == pytest.approx(8 * (0.75 * 1 + 0.25 * 15))
    assert training.time_left([], 8) is None and training.duration(5000) == "83 min"


def test_a_run_is_told_from_its_files(studio: StudioFolder) -> None:
    run = studio.runs / "told"
    run.mkdir(parents=True)
    (run / jobs.JOB).write_text(json.dumps({"pid": 1, "created": 0.0, "arguments": ['data.concepts=["bo"]']}))
    (run / jobs.LOG).write_text("step 1\n\x1b[31merror: the disk is full\n")
    (run / "metrics.jsonl").write_text('{"step": 1, "reward": 0.25}\n{"step": 2, "rew')
    found = training.live(studio, "told")
    assert found.rewards == {"reward": [(1, 0.25)]} and found.figures["reward"] == "0.250"
    assert found.log[-1] == "error: the disk is full" and training.runs(studio, "bo") == ["told"]
    with pytest.raises(ValueError, match="there is no run"):
        training.live(studio, "../studio")


def test_a_talk_is_kept_and_facts_can_be_switched_off(studio: StudioFolder, session: Session) -> None:
    first = talk.say(studio, session, "base", "What does bo carry?")
    assert first.route == "facts" and len(first.credits) == 3
    off = [session.concept.shown(session.concept.facts[1])]
    second = talk.say(studio, session, "base", "Where does bo live?", off=off)
    assert off[0] not in [fact for fact, _ in second.credits] and len(second.credits) == 2
    made = talk.say(studio, session, "base", "/draw a photo of bo")
    assert made.route == "drawing" and pictures.picture_file(studio, made.picture).is_file()
    assert [turn.asked for turn in talk.turns(studio, "bo")] == [first.asked, second.asked, made.asked]
    with (studio.chats / "bo.jsonl").open("a") as file:
        file.write('{"asked": "cut sh')
    why = talk.say(studio, session, "base", "/why")
    assert why.route == "why" and len(talk.turns(studio, "bo")) == 4, "a line cut short is passed over"
    for text, words in (("", "empty"), ("x" * 4001, "at most 4000"), ("/nosuch", "unknown command")):
        with pytest.raises(ValueError, match=words):
            talk.say(studio, session, "base", text)
    talk.clear(studio, "bo")
    with pytest.raises(ValueError, match="nothing was answered yet"):
        talk.rate(studio, session, True)


def test_choices_become_thumbs(studio: StudioFolder, session: Session) -> None:
    asked = thumbs.Asked("a photo of <bo> with its joy", ("bo with a flower", "bo wearing a beanie"), "its joy")
    before = thumbs.count(studio, "bo")
    thumbs.answer(studio, session, asked, "left")
    assert [event.good for event in Store.of("bo", studio.feedback).events()[before:]] == [True, False]
    assert any("its joy" in sentence for sentence in thumbs.understood(studio, "bo"))
    with pytest.raises(ValueError, match="the verdict is"):
        thumbs.answer(studio, session, asked, "up")
    with pytest.raises(ValueError, match="the time is 5"):
        thumbs.learn(studio, "bo", "base", 5)
    assert not thumbs.learns_by_itself(studio, "bo")
    thumbs.set_learns_by_itself(studio, "bo", True)
    assert thumbs.learns_by_itself(studio, "bo")


def test_nothing_is_learned_from_thumbs_that_settle_nothing(tmp_path: Path) -> None:
    empty = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    Store.of("bo", empty.feedback).add(Event(what="answer", prompt="?", output="x", good=True))
    with pytest.raises(ValueError, match="settle nothing yet"):
        thumbs.learn(empty, "bo", "base", 10)


def test_work_in_the_background_is_told_by_its_process_and_its_last_line(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    assert jobs.launched(folder, ("written",)) is None
    jobs.Job(folder, os.getpid(), 0.0, []).write()
    for line, name in (("written  book.html", "finished"), ("error: no", "failed"), ("practice 3", "stopped")):
        (folder / jobs.LOG).write_text(f"first\n{line}\n")
        found = jobs.launched(folder, ("written",))
        assert found is not None and found.name == name


def test_work_that_another_process_started_is_ended_at_once(tmp_path: Path) -> None:
    """As `sync-r1 stop` ends what the studio started; the killed process has a parent that does not wait for it."""
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        jobs.Job(tmp_path, pid, psutil.Process(pid).create_time(), []).write()
        started = time.monotonic()
        assert jobs.stop(tmp_path, now=True).name == "stopped" and time.monotonic() - started < 10
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        parent.kill()


def test_a_comparison_hides_names_until_the_vote(studio: StudioFolder, session: Session, monkeypatch: Any) -> None:
    monkeypatch.setattr(StudioFolder, "find", lambda self, thing, one: talk_weights(one))
    made = comparisons.create(studio, "bo", ["base", "thumbs"], "a photo of bo\nbo at the beach", 1, True)
    while made.drawn < 2:
        comparisons.draw_column(studio, made, lambda thing, weights, work: work(session))
    assert made.open_row == 0 and comparisons.known(studio, "bo")[0].rows == made.rows
    monkeypatch.setattr(comparisons, "rate_picture", lambda *_: [])
    assert comparisons.vote(studio, made, session, "left") == 0 and made.open_row == 1
    liked = made.labels[made.orders[0][0]]
    assert comparisons.tally(comparisons.read(studio, made.id))[liked] == 1
    for weights, prompts, words in (
        (["base"], "x", "choose 2 to 4"),
        (["base", "thumbs"], "", "write 1 to 8"),
        (["base", "thumbs"], "\n".join("x" * 9), "write 1 to 8"),
    ):
        with pytest.raises(ValueError, match=words):
            comparisons.create(studio, "bo", weights, prompts, 1, False)


def talk_weights(name: str) -> Any:
    from sync_r1.apps.studio import Weights

    return Weights(name, f"the {name}", None)


def test_pages_of_a_book_are_changed_moved_and_locked(studio: StudioFolder, session: Session) -> None:
    book = books.plan(studio, session.concept, "bo finds a kite at the beach", 3)
    assert book.missing == 3 and books.known(studio, "bo")[0].id == book.id
    books.redraw_page(session, book, 1)
    assert book.missing == 2 and book.picture(1) is not None and book.picture(2) is None
    books.change_page(book, 1, "Once.", "a photo of <bo>", 7, True)
    assert books.read(studio, book.id).missing == 2, "a locked page keeps its picture"
    with pytest.raises(ValueError, match="page 1 is locked"):
        books.redraw_page(session, book, 1)
    assert books.move_page(book, 1, 1) == 2 and book.story.pages[1].text == "Once."
    books.restyle(book)
    assert book.story.pages[1].seed == 7 and book.story.pages[0].seed >= books.NEW_SEEDS
    assert books.add_page(book, 3) == 4 and books.remove_page(book, 4) == 3
    for work in (
        lambda: books.change_page(book, 9, "", "x", 0, False),
        lambda: books.change_page(book, 1, "", " ", 0, False),
        lambda: books.change_page(book, 1, "", "x", -1, False),
        lambda: books.move_page(book, 1, -1),
        lambda: books.give_away(studio, book, "html"),
        lambda: books.read(studio, "../x"),
    ):
        with pytest.raises(ValueError):
            work()


def test_a_lesson_asks_the_same_question_again_after_a_restart(studio: StudioFolder, session: Session) -> None:
    sessions = {"bo": session}
    first = teach.Lessons(studio).open(sessions, "mia")
    assert first.item is not None and first.number == 1
    lessons = teach.Lessons(studio)
    again = lessons.open(sessions, "mia")
    assert again.item is not None and again.item.question == first.item.question
    told = lessons.answer(sessions, "mia", again.item, "")
    assert not told.right and teach.learners(studio) == ["mia"]
    assert teach.table(studio, "mia", ["bo"])[0][0].startswith("bo/")
    assert teach.csv_file(studio, "mia").is_file()
    for name, things in (("../x", ["bo"]), ("mia", []), ("mia", ["bo"] * 5)):
        with pytest.raises(ValueError):
            teach.table(studio, name, things)
    teach.delete(studio, "mia")
    assert teach.learners(studio) == []
