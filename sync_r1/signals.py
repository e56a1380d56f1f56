"""What happens when the process is asked to stop: Ctrl-C (SIGINT), SIGTERM (SLURM, Kubernetes, `timeout`) or SIGHUP."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME_REQUEST_S = 1.0  # `timeout` and launchers signal a process and then its whole group


class Stopped(SystemExit):
    """A signal ended the work.

    Left uncaught it ends the process with 128 + the signal's number, which is what shells and schedulers expect.
    `kept` says what is on the disk, `command` how to go on; whoever knows fills them in on the way up.
    """

    def __init__(self, number: int) -> None:
        super().__init__(exit_code(number))
        self.number, self.kept, self.command = number, "", ""

    def line(self) -> str:
        """One line for the user. Without a better command it is the one that was given."""
        parts = [f"stopped by {signal.Signals(self.number).name}", *([self.kept] if self.kept else [])]
        return f"{': '.join(parts)}; go on with: {self.command or shlex.join(['sync-r1', *sys.argv[1:]])}"


def exit_code(number: int) -> int:
    """The exit code of a process that a signal ended: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


def stop(number: int) -> None:
    """End the work here and now."""
    raise Stopped(number)


@contextmanager
def on_signal(react: Callable[[int], None] = stop) -> Iterator[None]:
    """Call `react` with the number of the first signal that asks to stop.

    A later one does what it would have done without us. Within a second it still counts as the first, because some
    programs signal a process and then the group that it is in. A SIGHUP that `nohup` lets be ignored stays ignored.
    Only the main thread may listen; in another one, such as a web page's worker, nothing changes.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    first = -math.inf

    def handle(number: int, _frame: object) -> None:
        nonlocal first
        now = time.monotonic()
        if math.isinf(first):
            first = now
            react(number)
        elif now - first > SAME_REQUEST_S:
            signal.signal(number, before[number] or signal.SIG_DFL)
            signal.raise_signal(number)

    heard = [number for number in STOPPING if not (number.name == "SIGHUP" and before[number] is signal.SIG_IGN)]
    try:
        for number in heard:
            signal.signal(number, handle)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def if_stopped(kept: str, command: str = "") -> Iterator[None]:
    """Tell a stop within the block what is kept and how to go on."""
    try:
        yield
    except Stopped as stopped:
        stopped.kept, stopped.command = stopped.kept or kept, stopped.command or command
        raise


def resume_command(folder: Path, command: str = "train", *flags: str) -> str:
    """What goes on with the run in `folder`, as one types it."""
    return shlex.join(["sync-r1", command, "--config", str(folder / "config.yaml"), "--resume", "latest", *flags])
