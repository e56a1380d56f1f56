"""A server that runs `sync-r1` commands in forked processes, and sends them a signal at a chosen moment.

It imports everything once, so that a process costs no new start of Python. One job per line of standard input:
{"arguments": [...], "folder": "where to work", "phase": a name of PHASES or null, "signal": number}. The answer is the
exit code and what was printed, as JSON on one line.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

import sync_r1.experiment
import sync_r1.report.run_page
import sync_r1.unifybench.predict
import sync_r1.unifybench.run
from sync_r1 import cli
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.sft.trainer import Learner

# Phase → what runs in it, and which of its calls counts: by its arguments, and by how often the signal is sent.
PHASES: dict[str, tuple[Any, str, Callable[..., bool], int]] = {
    "checks": (sync_r1.experiment, "check_data", lambda *_: True, 1),
    "loading": (sync_r1.experiment, "open_session", lambda *_: True, 1),
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


def run(job: dict[str, Any], log: int) -> None:
    """Be the command."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["folder"])
    sys.argv = ["sync-r1", *job["arguments"]]
    if job["phase"]:
        aim(job["phase"], job["signal"])
    cli.main()


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as log:
            child = os.fork()
            if not child:
                run(json.loads(line), log.fileno())
                return
            _, status = os.waitpid(child, 0)
            log.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "said": log.read().decode(errors="replace")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
