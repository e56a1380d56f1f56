"""Commands and scripts in processes forked from a server that has imported everything (`tests/forking.py`)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class ForkServer:
    """Starts commands. One for all tests of a session: it takes seconds to start, a command then takes none."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.started, self.lock = logs, 0, threading.Lock()
        command = [sys.executable, "-m", "tests.forking"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """Ends the server, and with it what still runs."""
        self.process.communicate()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        with self.lock:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def start(
        self,
        folder: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        phase: str | None = None,
        number: int = 0,
        script: Path | None = None,
        log: Path | None = None,
    ) -> Forked:
        """`sync-r1 <arguments>` in a folder, or a script. With `phase` it gets signal `number` when it enters it.

        What it prints is added to `log`.
        """
        self.started += 1
        log = log or self.logs / f"{self.started}.txt"
        job = {"arguments": list(arguments), "folder": str(folder), "log": str(log), "phase": phase, "signal": number}
        answer = self.ask({"start": {**job, "script": str(script or ""), "environment": dict(environment or {})}})
        return Forked(self, answer["pid"], log)

    def start_two(self, folder: Path, arguments: Sequence[str], script: Path | None = None) -> list[Forked]:
        """Two processes that know each other, without a launcher's agent, which would end one when it loses the
        other."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        started = []
        for rank in ("0", "1"):
            environment = {**meeting, "RANK": rank, "LOCAL_RANK": rank}
            started.append(self.start(folder, arguments, environment, script=script))
        return started

    def run_two(self, script: Path, *arguments: str) -> None:
        """Run a script in two processes that know each other. Fails with what was printed when one of them does."""
        started = self.start_two(script.parent, arguments, script)
        while any(process.poll() is None for process in started) and not any(p.returncode for p in started):
            time.sleep(0.02)
        for process in started:
            process.kill()
        printed = [process.communicate()[0][-4000:] for process in started]
        assert [process.returncode for process in started] == [0, 0], "\n".join(printed)


class Forked:
    """A command that runs, with the names of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int, log: Path) -> None:
        self.server, self.pid, self.log = server, pid, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})["code"]
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)

    def wait(self, timeout: float = 900) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"it did not end within {timeout:.0f} s; it printed: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 900) -> tuple[str, None]:
        """What it printed, once it has ended."""
        self.wait(timeout)
        return self.log.read_text(encoding="utf-8", errors="replace"), None
