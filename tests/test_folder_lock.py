"""One process at a time works in a folder, and a run that is refused takes nothing away."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from PIL import Image
from rich.console import Console

from sync_r1 import held_folders
from sync_r1.data import add_concept_folder, load_concept
from sync_r1.distributed import Processes
from sync_r1.files import write_text
from sync_r1.folder_lock import LOCK, OWNER, InUse, hold, hold_together
from sync_r1.held_folders import FolderGone, check_held
from sync_r1.metrics_file import append_metrics
from sync_r1.resuming import EARLIER, GONE, MOVING, giving_way, start_or_resume
from sync_r1.training.checkpoint import atomic_checkpoint

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from sync_r1.folder_lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in `tmp_path`/demo."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "demo")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_works_there_since_when(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    run = tmp_path / "demo"
    with pytest.raises(InUse) as refused, hold(run):
        pytest.fail("it worked beside the other")
    said = re.fullmatch(
        rf"{re.escape(str(run))} is in use by process (\d+) on \S+, which began (\S+) (\S+); "
        "wait until it ends, stop it, or choose another run.name",
        str(refused.value),
    )
    assert said and int(said[1]) == holder.pid
    assert said[2] == time.strftime("%Y-%m-%d", time.localtime(psutil.Process(holder.pid).create_time()))
    with pytest.raises(InUse, match="name another --out"), hold_together(run, Processes(), "name another --out"):
        pytest.fail("it worked beside the other")


def test_after_a_kill_the_folder_is_free_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Whatever process has the id of the killed one by now: here the file says that it is this one."""
    run = tmp_path / "demo"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    left = json.loads((run / OWNER).read_text())
    (run / OWNER).write_text(json.dumps({**left, "pid": os.getpid()}))
    with hold(run):
        assert json.loads((run / OWNER).read_text())["pid"] == os.getpid()
    assert [path.name for path in run.iterdir()] == [LOCK]


def test_a_folder_made_for_nothing_goes_and_another_stays(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with hold(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()
    with hold(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
    assert (tmp_path / "used" / "file").is_file()


def test_an_owner_file_that_cannot_be_read_is_no_reason_to_go_on(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    (tmp_path / "demo" / OWNER).write_text("{")
    with pytest.raises(InUse, match="in use by another process"), hold(tmp_path / "demo"):
        pytest.fail("it worked beside the other")


COMMANDS = {
    "train": (["train", "--recipe", "world", "--concept", "bo", "run.name=demo", "run.output_dir=."], "run.name"),
    "demo": (["demo", "run.output_dir=."], "run.name"),
    "sft": (["sft", "--recipe", "demo", "--concept", "bo", "run.name=demo", "run.output_dir=."], "run.name"),
    "bench run": (["bench", "run", "--concept", "bo", "--out", "demo"], "--out"),
    "bench score": (["bench", "score", "demo"], "--out"),
    "study": (["study", "study.yaml", "--folder", ".", "--out", "out/results"], "--folder"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_a_folder_in_use(
    name: str, tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from sync_r1 import cli
    from sync_r1.unifybench.run_manifest import NAME

    arguments, instead = COMMANDS[name]
    run = tmp_path / "demo"
    arm = {"name": "demo", "recipes": ["world"], "cells": [["bo", 0]], "arms": {"both": None}, "claims": []}
    (tmp_path / "study.yaml").write_text(json.dumps(arm))
    (run / "config.yaml").write_text("run: {name: demo}\n")
    if name == "bench score":
        plan = {"root": "data", "concepts": ["bo"], "model": "world", "max_items": None, "token_epoch": 0}
        (run / NAME).write_text(json.dumps({**plan, "protocol": {"name": "world"}, "models": {"0": "world"}}))
    before = sorted(path.name for path in run.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sync-r1", *arguments])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    said = capsys.readouterr().err
    assert refused.value.code == 2 and f"demo is in use by process {holder.pid}" in said and instead in said, said
    assert sorted(path.name for path in run.iterdir()) == before


def fill(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "weights").write_text("old")
    (folder / "report.html").write_text("old")


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_run_comes_back_when_the_new_one_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="no such device"), giving_way(tmp_path, True):
        assert not (tmp_path / "report.html").exists()
        (tmp_path / "report.html").write_text("new")
        (tmp_path / "data").mkdir()
        raise ValueError("no such device")
    assert content(tmp_path) == before and not (tmp_path / "data").exists()
    with giving_way(tmp_path, True) as delete:
        (tmp_path / "report.html").write_text("new")
        delete()
    assert content(tmp_path) == {"report.html": "new"}
    with giving_way(tmp_path, False):
        pass
    assert content(tmp_path) == {"report.html": "new"}


@pytest.mark.parametrize("cut", [MOVING, EARLIER, GONE])
def test_a_kill_while_the_earlier_run_gives_way_loses_nothing_that_counts(cut: str, tmp_path: Path) -> None:
    fill(tmp_path / cut)
    if cut == MOVING:  # half of it has moved
        (tmp_path / cut / "report.html").rename(tmp_path / "report.html")
    else:
        (tmp_path / "report.html").write_text("new")
    with giving_way(tmp_path, False):
        pass
    old = {"checkpoints/weights": "old", "report.html": "old"}
    assert content(tmp_path) == ({"report.html": "new"} if cut == GONE else old)


def add(name: str, root: Path, photos: Path, gate: multiprocessing.synchronize.Barrier) -> None:
    gate.wait()
    add_concept_folder(root, name, photos, "dog", "brown", [f"<{name}> has a red ball."])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_concepts_added_at_once_are_all_there(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (0, 40 * number, 60)).save(photos / f"{number}.png")
    names, context = [f"dog{number}" for number in range(4)], multiprocessing.get_context("fork")
    gate = context.Barrier(4)
    jobs = [context.Process(target=add, args=(name, tmp_path / "data", photos, gate)) for name in names]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    index = json.loads((tmp_path / "data" / "concept" / "train" / "train_images.json").read_text())
    assert sorted(index) == names == sorted(json.loads((tmp_path / "data" / "concepts_list.json").read_text()))
    assert [load_concept(tmp_path / "data", name).name for name in names] == names


def test_resuming_within_a_warm_up_says_that_the_warm_up_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").touch()

    def said() -> str:
        assert start_or_resume(tmp_path, "latest", Console(width=1000)) is None
        return capsys.readouterr().out.removeprefix(f"{tmp_path} holds no checkpoint of the training yet; ")

    assert said() == "it begins with step 1\n"
    saved = tmp_path / "sft" / "checkpoints" / "step_00003"
    saved.mkdir(parents=True)
    (saved / "manifest.json").touch()
    state = {"seed": 0, "stages": ["photos"], "stage": 0, "stage_step": 3, "step": 3}
    (saved / "sft_state.json").write_text(json.dumps(state))
    assert said() == "its warm-up goes on after step 3\n"
    (saved / "sft_state.json").write_text(json.dumps({**state, "stage": 1, "stage_step": 0}))
    assert said() == "it begins with step 1, after the warm-up that is there\n"


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied"])
def test_a_folder_that_goes_while_it_is_held_is_not_made_anew(tmp_path: Path, how: str) -> None:
    run = tmp_path / "run"
    with hold(run):
        write_text(run / "eval" / "before.json", "{}")
        if how == "emptied":
            for path in (run / OWNER, run / "eval" / "before.json"):
                path.unlink()
        else:
            shutil.rmtree(run)
        if how == "replaced":
            run.mkdir()
        for write in (
            lambda: write_text(run / "eval" / "after.json", "{}"),
            lambda: append_metrics(run / "metrics.jsonl", {"step": 1}),
            lambda: atomic_checkpoint(run / "checkpoints" / "step_00001").__enter__(),
        ):
            with pytest.raises(FolderGone, match="run was removed or emptied while this process worked in it"):
                write()
        assert run.exists() == (how != "removed") and not list(run.rglob("*.json*"))
    write_text(run / "eval" / "after.json", "{}")


def test_a_folder_that_another_thread_lets_go_is_not_taken_for_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study begins several cells at once, each in a thread that holds the cell's folder for a moment."""
    identity = held_folders._identity
    with hold(tmp_path / "one"), ExitStack() as other:
        other.enter_context(hold(tmp_path / "other"))

        def meanwhile(folder: Path) -> tuple[int, int]:
            other.close()
            return identity(folder)

        monkeypatch.setattr(held_folders, "_identity", meanwhile)
        check_held()
