"""A server that runs `sync-r1` commands and scripts in forked processes, and sends them a signal at a chosen moment.

It imports everything once, so that a process costs no new start of Python. `tests/forked.py` talks to it, one request
and one answer as JSON on a line each:

{"start": {"script": "file of a script, empty for sync-r1", "arguments": [...], "folder": "where to work", "log": "file
for what is printed", "environment": {...}, "phase": a name of PHASES or null, "signal": number}} → {"pid": number}
{"poll": pid} → {"code": exit code, or null while it runs}
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import nltk.translate.bleu_score  # noqa: F401  # what commands import late, for all of them here
import pyarrow.parquet  # noqa: F401
import torch

import sync_r1.experiment
import sync_r1.open_run
import sync_r1.report.plots  # noqa: F401
import sync_r1.report.run_page
import sync_r1.unifybench.predict
import sync_r1.unifybench.run
from sync_r1 import cli
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.sft.trainer import Learner

# Phase → what runs in it, and which of its calls counts: by its arguments, and by how often the signal is sent.
PHASES: dict[str, tuple[Any, str, Callable[..., bool], int]] = {
    "checks": (sync_r1.experiment, "check_data", lambda *_: True, 1),
    "loading": (sync_r1.open_run, "open_session", lambda *_: True, 1),
    "evaluation before": (sync_r1.unifybench.predict, "write_drawing", lambda *given: given[0].phase == "before", 1),
    "warm-up": (Learner, "step", lambda *_: True, 1),
    "training": (SyncGRPOTrainer, "roll_out", lambda *_: True, 1),
    "training, twice": (SyncGRPOTrainer, "roll_out", lambda *_: True, 2),
    "save": (SyncGRPOTrainer, "_write_checkpoint", lambda *_: True, 1),
    "evaluation after": (sync_r1.unifybench.predict, "write_drawing", lambda *given: given[0].phase == "after", 1),
    "report": (sync_r1.report.run_page, "render_report", lambda *_: True, 1),
    "predicting": (sync_r1.unifybench.predict, "write_drawing", lambda *_: True, 1),
    "scoring": (sync_r1.unifybench.run, "score_task", lambda *_: True, 1),
}


def aim(phase: str, number: int) -> None:
    """Let this process get the signal when it first enters `phase`."""
    owner, name, counts, times = PHASES[phase]
    real = getattr(owner, name)

    def signalled(*given: Any, **named: Any) -> Any:
        setattr(owner, name, real) if counts(*given) else None
        for _ in range(times if counts(*given) else 0):
            os.kill(os.getpid(), number)
            time.sleep(1.1 if times > 1 else 0)  # a second one at once would count as the first
        return real(*given, **named)

    setattr(owner, name, signalled)


def run(job: dict[str, Any]) -> None:
    """Be the command or the script, in a process of its own."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv = [job["script"] or "sync-r1", *job["arguments"]]
    if job["phase"]:
        aim(job["phase"], job["signal"])
    if job["script"]:
        runpy.run_path(job["script"], run_name="__main__")
    else:
        cli.main()


def poll(pid: int) -> int | None:
    """The exit code of a process, negative for the signal that killed it; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    torch.set_num_threads(1)
    gc.freeze()  # what is imported by now stays; collections may pass it over
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if not pid:
                run(request["start"])
                return
            running.add(pid)
            answer: dict[str, int | None] = {"pid": pid}
        else:
            code = poll(request["poll"])
            if code is not None:
                running.remove(request["poll"])
            answer = {"code": code}
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
