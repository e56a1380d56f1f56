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
SAME_START_S = 0.5  # two start times of one process may differ this much
LAST_BYTES = 4000  # of a log that is read for its last lines

Name = Literal["running", "stopping", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Job:
    """A process that was started for a run."""

    folder: Path
    pid: int
    created: float  # psutil's create_time: a process id that came into use again has another one
    arguments: list[str]

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


def start(arguments: Sequence[str], folder: Path) -> Job:
    """Start `sync-r1 <arguments>`, a training of the run in `folder`, detached from this process and its terminal.

    Returns when the training holds the run's folder. Raises ValueError with the training's own last line where it ended
    before, for instance because another process works in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    before = log.stat().st_size if log.is_file() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sync_r1", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C and its end do not reach it
        )
    created = psutil.Process(process.pid).create_time()
    end = time.monotonic() + STARTING_S
    while not _holds(folder, process.pid):
        if process.poll() is not None or time.monotonic() > end:
            printed = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()
            # another training may write into the log, too
            errors = [line for line in printed if line.startswith("error:")] or printed[-1:]
            raise ValueError(f"the training did not begin: {errors[-1] if errors else f'see {log}'}")
        time.sleep(0.1)
    job = Job(folder, process.pid, created, list(arguments))
    write_json(folder / JOB, {"pid": job.pid, "created": created, "arguments": job.arguments})
    return job


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
    lines = _last_lines(folder / LOG)
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
    if process is None:
        raise ValueError(f"no training runs in {folder}")
    if not now:
        process.send_signal(signal.SIGINT)
        return state(folder)
    for child in [*process.children(recursive=True), process]:
        child.kill()
    process.wait(timeout=30)
    return state(folder)


def all_jobs(runs: Path) -> dict[str, State]:
    """Run name → state, of every run below `runs` that was started in the background, the latest first."""
    found = [job for path in runs.glob(f"*/{JOB}") if (job := read_job(path.parent)) is not None]
    found.sort(key=lambda job: job.created, reverse=True)
    return {job.folder.name: state(job.folder) for job in found}


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
