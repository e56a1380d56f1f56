"""Ctrl-C and SIGTERM in every phase: nothing half-written, one line that says how to go on, the right exit code."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sync_r1.files import manifest_problems
from sync_r1.signals import STOPPING, Stopped, if_stopped, on_signal
from tests.forked import Forked, ForkServer

NARROW = {"COLUMNS": "60"}
TINY = [
    "run.device=cpu",
    "run.save_steps=1",
    "rl.num_generations=2",
    "rl.prompts_per_step=1",
    "rl.generation_timesteps=2",
    "rl.train_timesteps=1",
    "rl.draw_every=1",
    "rl.dgs_enabled=false",
    "rl.validation_prompts=0",
    "eval.tasks=[rea, rea_gen]",
    "eval.max_items=1",
    "eval.generation_timesteps=2",
    "sft.epochs=1",
]
TRAIN = ["train", "--recipe", "demo", "--concept", "bo", *TINY, "rl.max_steps=4", "run.name=r"]
SFT = ["sft", "--recipe", "demo", "--concept", "bo", "--evaluate", *TINY, "run.name=r"]
BENCH = ["bench", "run", "--concept", "bo", "--tasks", "rea,rea_gen", "--max-items", "1", "--out", "out"]
INT, TERM = signal.SIGINT, signal.SIGTERM
# Command → the phases in which it is stopped, one after the other: by which signal, and what the line then says.
# Ctrl-C lets a step of the training end; after SIGTERM schedulers kill soon, so the step is left.
COMMANDS = {
    "train": (
        TRAIN,
        [
            ("checks", INT, "nothing has begun yet"),
            ("loading", TERM, "nothing has begun yet"),
            ("evaluation before", INT, "runs/r keeps its options"),
            ("warm-up", TERM, "stopped at step 1 of the warm-up"),
            ("training, twice", INT, "the first evaluation and the warm-up up to step_"),
            ("training", TERM, "stopped at step 0"),
            ("training", INT, "stopped at step 1"),
            ("save", TERM, "stopped at step 2"),
            ("save", INT, "stopped at step 4"),
            ("evaluation after", TERM, "runs/r keeps its checkpoints up to step_00004"),
            ("report", INT, "runs/r keeps its checkpoints up to step_00004"),
        ],
    ),
    "sft": (
        SFT,
        [
            ("evaluation before", TERM, "runs/r keeps its options"),
            ("warm-up", INT, "stopped at step 1 of the warm-up"),
            ("evaluation after", TERM, "runs/r keeps its checkpoints up to step_"),
        ],
    ),
    "bench run": (
        BENCH,
        [
            ("predicting", TERM, "out keeps what is predicted and scored"),
            ("scoring", INT, "out keeps what is predicted and scored"),
        ],
    ),
}


def half_written(folder: Path) -> list[Path]:
    left = [path for path in folder.rglob("*") if path.suffix in (".tmp", ".partial") or path.name == ".lock.json"]
    for path in folder.rglob("*.json"):
        left += [] if path.name == "concepts_list.json" or json.loads(path.read_text()) is not None else [path]
    damaged = [path.parent for path in folder.rglob("step_*/manifest.json") if manifest_problems(path.parent)]
    return left + damaged


@pytest.mark.parametrize("name", COMMANDS)
def test_every_phase_can_be_stopped_and_the_line_goes_on(name: str, tmp_path: Path, fork_server: ForkServer) -> None:
    """One run is stopped in each phase, each time by the command that the line before gave."""
    arguments, phases = COMMANDS[name]
    for phase, number, kept in phases:
        command = fork_server.start(tmp_path, arguments, NARROW, phase, number)
        printed, _ = command.communicate()
        assert command.returncode == 128 + number, (phase, printed)
        assert "Traceback" not in printed and "Aborted" not in printed, printed
        lines = [line for line in printed.splitlines() if "go on with: " in line]
        assert len(lines) == 1 and kept in lines[0], (phase, printed)
        assert half_written(tmp_path) == []
        program, *arguments = shlex.split(lines[0].partition("go on with: ")[2])
        assert program == "sync-r1"
    command = fork_server.start(tmp_path, arguments, NARROW)
    printed, _ = command.communicate()
    assert command.returncode == 0, printed
    assert half_written(tmp_path) == []
    if name == "bench run":
        assert (tmp_path / "out" / "scores").is_dir()
        return
    run = tmp_path / "runs" / "r"
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["tasks"]) == {"rea", "rea_gen"} and "stopped" not in summary
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, summary["steps"] + 1))
    assert name == "sft" or (run / "report.html").is_file()


def test_a_study_stops_its_runs_and_goes_on(tmp_path: Path, fork_server: ForkServer) -> None:
    """The runs are in a session of their own: the study alone gets the signal and passes it on."""
    options = dict(option.split("=") for option in TINY if "[" not in option)
    study = {
        "name": "tiny",
        "recipes": ["world"],
        "set": {**{key: yaml.safe_load(value) for key, value in options.items()}, "rl.max_steps": 500},
        "cells": [["bo", 0]],
        "arms": {"both": None},
        "claims": [],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    arguments = ["study", "study.yaml", "--folder", "cells", "--out", "out/results"]
    started = fork_server.start(tmp_path, arguments, NARROW)
    cell = tmp_path / "cells" / "tiny" / "both" / "bo-0"
    try:
        wait_for(lambda: (cell / "checkpoints" / "step_00002").is_dir(), started)
        started.send_signal(signal.SIGTERM)
        printed, _ = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == 143, printed
    assert "cells/tiny keeps what the runs had reached; go on with: sync-r1 study study.yaml" in printed
    assert "Traceback" not in printed
    assert "stopped at step" in (cell / "log.txt").read_text() and not (cell / ".lock.json").exists()
    assert half_written(cell) == [] and not (cell / "cell.json").exists()


def test_a_run_whose_folder_is_removed_ends_with_one_line(tmp_path: Path, fork_server: ForkServer) -> None:
    arguments = [*TRAIN, "--no-evaluate", "rl.max_steps=1000", "run.completions_steps=1"]
    started, run = fork_server.start(tmp_path, arguments), tmp_path / "runs" / "r"
    try:
        wait_for(lambda: (run / "checkpoints" / "step_00002").is_dir(), started)
        while run.exists():  # the run may write while its files go
            shutil.rmtree(run, ignore_errors=True)
        printed, _ = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == 2, printed
    assert printed.splitlines()[-1].startswith(f"error: {run} was removed or emptied while this process worked in it")
    assert "Traceback" not in printed and not run.exists()


def wait_for(found: Callable[[], bool], *processes: Forked, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it never came"
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_a_signal_that_comes_twice_at_once_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` signals a process and then the group it is in."""
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # by a shell that runs the tests in background
    before = {number: signal.getsignal(number) for number in STOPPING}
    heard: list[int] = []
    with on_signal(heard.append):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        clock = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: clock + 1.5)
        with pytest.raises(KeyboardInterrupt):  # what Ctrl-C does without us
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    assert {number: signal.getsignal(number) for number in STOPPING} == before
    signal.signal(signal.SIGINT, ignored)


def test_the_innermost_that_knows_says_what_is_kept() -> None:
    with pytest.raises(SystemExit) as stopped, if_stopped("outer"), if_stopped("inner", "sync-r1 x"), on_signal():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    assert stopped.value.code == 130 and isinstance(stopped.value, Stopped)
    assert stopped.value.line() == "stopped by SIGINT: inner; go on with: sync-r1 x"


def test_other_threads_leave_signals_alone() -> None:
    heard: list[int] = []

    def listen() -> None:
        with on_signal(heard.append):
            heard.append(0)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert heard == [0]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals that hang up")
def test_what_nohup_lets_be_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_signal():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGHUP, before)
