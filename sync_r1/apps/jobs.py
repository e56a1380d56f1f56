"""Trainings in the background: started detached from the terminal, and seen from any process.

The state of a run is derived from its process, its files and its log whenever it is asked for. Nothing stores it, so
nothing can be wrong after a kill, a crash or a new start of the machine.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from sync_r1.config import load_config
from sync_r1.files import read_json, write_json
from sync_r1.folder_lock import OWNER
from sync_r1.run_folder import newest
from sync_r1.signals import resume_command

JOB, LOG = "job.json", "log.txt"
STARTING_S = 120.0  # how long a new training may take to reach its folder
KILLED_S = 60.0  # how long a killed process may take to be gone
SAME_START_S = 0.5  # two start times of one process may differ this much
COMMAND = "$ sync-r1 "  # how the part of a log begins that a job writes
LAST_BYTES = 4000  # of a log that is read for its last lines

Name = Literal["running", "stopping", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Job:
    """A process that was started for a run."""

    folder: Path
    pid: int
    created: float  # psutil's create_time: a process id that came into use again has another one
    arguments: list[str]

    def write(self) -> None:
        """Put it where `read_job` finds it."""
        write_json(self.folder / JOB, {"pid": self.pid, "created": self.created, "arguments": self.arguments})

    def process(self) -> psutil.Process | None:
        """The process, while it lives."""
        try:
            process = psutil.Process(self.pid)
            alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            return process if alive and abs(process.create_time() - self.created) < SAME_START_S else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class State:
    """What a run is now."""

    name: Name
    step: int
    steps: int
    line: str  # the last line of the log
    command: str  # how to go on; "" where there is nothing to go on with


def start(arguments: Sequence[str], folder: Path, wait: bool = True) -> Job:
    """Start `sync-r1 <arguments>`, a training of the run in `folder`, detached from this process and its terminal.

    Args:
        wait: return when the training holds the run's folder. Otherwise at once; `state` then says what became of it.
    Raises:
        ValueError: with the training's own last line where it ended before it held the folder, for instance because
            another process works there.
    """
    before = read_job(folder)
    if not wait:
        _check_ended(before)
        return _spawn(arguments, folder)[0]
    job, log_start = _spawn(arguments, folder)
    end = time.monotonic() + STARTING_S
    while not _holds(folder, job.pid):
        if job.process() is None or time.monotonic() > end:
            _put_back(folder, before)
            raise ValueError(f"the training did not begin: {_first_error(folder / LOG, log_start)}")
        time.sleep(0.1)
    return job


def _put_back(folder: Path, before: Job | None) -> None:
    """Tell of the job that was there before one that did not begin."""
    if before is None:
        (folder / JOB).unlink(missing_ok=True)
    else:
        before.write()


def launch(arguments: Sequence[str], folder: Path) -> Job:
    """Start `sync-r1 <arguments>` detached, for work that is no training: its log and its job lie in `folder`.

    ValueError while the job that was started there last still runs.
    """
    _check_ended(read_job(folder))
    (folder / LOG).unlink(missing_ok=True)
    return _spawn(arguments, folder)[0]


def _check_ended(earlier: Job | None) -> None:
    if earlier is not None and earlier.process() is not None:
        raise ValueError(f"the work in {earlier.folder.name} is still going on; wait until it ends, or stop it")


def _spawn(arguments: Sequence[str], folder: Path) -> tuple[Job, int]:
    """The process and where its part of the log begins. Its job is on the disk before anything else happens, so that a
    kill of this process loses no other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as output:
        output.write(f"{COMMAND}{shlex.join(arguments)}\n".encode())
        output.flush()
        log_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "sync_r1", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C and its end do not reach it
        )
    job = Job(folder, process.pid, psutil.Process(process.pid).create_time(), list(arguments))
    job.write()
    return job, log_start


def _first_error(log: Path, start: int) -> str:
    """What the training itself says; another one may write there, too."""
    printed = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    errors = [line for line in printed if line.startswith("error:")] or printed[-1:]
    return errors[-1] if errors else f"see {log}"


def _holds(folder: Path, pid: int) -> bool:
    try:
        return bool(json.loads((folder / OWNER).read_text(encoding="utf-8"))["pid"] == pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_job(folder: Path) -> Job | None:
    """The job that was started for a run; None where the run was never in the background."""
    path = folder / JOB
    if not path.is_file():
        return None
    stored = read_json(path)
    return Job(folder, stored["pid"], stored["created"], stored["arguments"])


def state(folder: Path) -> State:
    """What the run in `folder` is now. ValueError when no training was started there in the background."""
    job = read_job(folder)
    if job is None:
        raise ValueError(f"{folder} has no training that was started in the background; see sync-r1 train --background")
    lines = _own(_last_lines(folder / LOG))
    step = _last_step(folder / "metrics.jsonl")
    steps = load_config(folder / "config.yaml").rl.max_steps if (folder / "config.yaml").is_file() else 0
    name = _name(job, lines)
    command = "" if name in ("running", "stopping", "finished") else go_on(job)
    return State(name, step, steps, lines[-1] if lines else "", command)


def _name(job: Job, lines: Sequence[str]) -> Name:
    if job.process() is not None:
        return "stopping" if any("stopping after this step" in line for line in lines) else "running"
    summary = _summary(job)
    if summary is not None and not summary.get("stopped"):
        return "finished"
    return "failed" if lines and lines[-1].startswith("error:") else "stopped"


def _summary(job: Job) -> dict[str, Any] | None:
    """summary.json, if this very job wrote it."""
    path = job.folder / "summary.json"
    if not path.is_file() or path.stat().st_mtime < job.created:
        return None
    return dict(read_json(path))


def go_on(job: Job) -> str:
    """The command that goes on with a run that ended early: from its newest checkpoint, or with its first command."""
    if newest(job.folder) is None:
        return shlex.join(["sync-r1", *job.arguments, "--background"])
    kept = [option for option in job.arguments if option == "--no-evaluate"]
    return resume_command(job.folder, "train", *kept, "--background")


def stop(folder: Path, now: bool = False) -> State:
    """Ask a training to end after its step, with a checkpoint; `now` kills it and all it started.

    ValueError when it does not run.
    """
    job = read_job(folder)
    process = None if job is None else job.process()
    if job is None or process is None:
        raise ValueError(f"no training runs in {folder}")
    if now:
        kill(job)
    else:
        process.send_signal(signal.SIGINT)
    return state(folder)


def kill(job: Job) -> None:
    """Kill a job and all it started, and wait until it is gone. ValueError when that takes too long.

    A process that was killed stays in the system's table until the one that started it looks; that counts as gone.
    """
    process = job.process()
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        for child in [*process.children(recursive=True), process]:
            child.kill()
    end = time.monotonic() + KILLED_S
    while job.process() is not None:
        if time.monotonic() > end:
            raise ValueError(f"process {job.pid} of {job.folder} does not end; try again, or restart the machine")
        time.sleep(0.05)


def all_jobs(runs: Path) -> dict[str, State]:
    """Run name → state, of every run below `runs` that was started in the background, the latest first."""
    found = [job for path in runs.glob(f"*/{JOB}") if (job := read_job(path.parent)) is not None]
    found.sort(key=lambda job: job.created, reverse=True)
    return {job.folder.name: state(job.folder) for job in found}


def _own(lines: Sequence[str]) -> list[str]:
    """The lines of the last job that wrote into a log."""
    begun = [number for number, line in enumerate(lines) if line.startswith(COMMAND)]
    return list(lines[begun[-1] + 1 :]) if begun else list(lines)


def _last_lines(log: Path) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
        return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _last_step(metrics: Path) -> int:
    for line in reversed(_last_lines(metrics)):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a kill
    return 0


def launched(folder: Path, endings: Sequence[str]) -> State | None:
    """What work that is no training is now, by its process and the last line of its log; None before the first.

    Args:
        endings: how the last line of work that was finished begins.
    """
    job = read_job(folder)
    if job is None:
        return None
    lines = _own(_last_lines(folder / LOG))
    last = lines[-1] if lines else ""
    name: Name = "stopped"
    if job.process() is not None:
        name = "running"
    elif last.startswith("error:"):
        name = "failed"
    elif any(line.startswith(tuple(endings)) for line in lines):
        name = "finished"
    return State(name, 0, 0, last, "")


def end_launched(folder: Path) -> None:
    """Kill work that is no training. What it writes is whole or absent, so nothing has to be cleaned up."""
    job = read_job(folder)
    if job is not None:
        kill(job)
