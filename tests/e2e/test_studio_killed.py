"""The studio's server is killed in the middle of a training that the page started: nothing of it is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from sync_r1.apps import jobs
from sync_r1.apps.studio import StudioFolder, things
from sync_r1.data import load_concept
from sync_r1.files import manifest_problems
from sync_r1.metrics_file import read_metrics
from sync_r1.run_folder import checkpoints
from tests.e2e.conftest import ROOT, opened, step_of_run, wait_until

pytestmark = pytest.mark.browser

STEPS = 8


def test_a_training_outlives_the_server_and_is_shown_again(browser: Any, tmp_path: Path) -> None:
    studio = StudioFolder(tmp_path / "studio", tmp_path / "runs")
    things.add_example(studio)
    run, port = studio.runs / "bo", free_port()
    with opened(browser, f"http://127.0.0.1:{port}") as screen:
        with served(studio, port) as server:
            page = screen.open("/train?thing=bo")
            page.get_by_label("Recipe").click()
            page.get_by_role("option", name="world: rewards alone").click()
            page.get_by_label("number input for Steps").fill(str(STEPS))
            page.get_by_label("Measure before and after").uncheck()
            screen.press("Start")
            screen.see("is training")
            wait_until(lambda: step_of_run(run) >= 1)
            server.kill()
            server.wait()
        job = jobs.read_job(run)
        assert job is not None and job.process() is not None, "the training goes on without the server"
        reached = step_of_run(run)
        wait_until(lambda: step_of_run(run) > reached)
        with served(studio, port):
            screen.errors.clear()  # of a page without its server
            screen.reload()
            assert "run=bo" in page.url
            screen.see(f"of {STEPS}")
            wait_until(lambda: jobs.state(run).name == "finished")
            screen.see("is finished")  # the page is not touched meanwhile
            screen.see("It knows your thing now.")
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, STEPS + 1))
    known = checkpoints(run)
    assert known and manifest_problems(known[-1]) == []
    assert studio.names() == ["bo"] and len(load_concept(studio.things, "bo").facts) == 3
    assert screen.outside == [] and screen.errors == []


@contextmanager
def served(studio: StudioFolder, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, and what it trains ended with it if the test fails."""
    command = [sys.executable, "-m", "sync_r1", "studio", "--port", str(port), "--device", "cpu"]
    folders = ["--folder", str(studio.root), "--runs", str(studio.runs)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, *folders], env=variables) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None)
            assert process.poll() is None, "the studio did not start"
            yield process
        except BaseException:
            jobs.end_launched(studio.runs / "bo")
            raise
        finally:
            process.send_signal(signal.SIGKILL)


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
