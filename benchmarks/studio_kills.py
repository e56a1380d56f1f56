"""Kills, reloads and restarts at random moments: does the studio lose anything, and does it ever tell what is not so?

    python benchmarks/studio_kills.py --count 200 --hostile 1000 --out docs/studio_kills.json

A studio is served as a process, with a training in another one. Then, again and again, one of them is killed, stopped,
started or asked for a page, at a random moment. After every step everything that was ever kept must be there and whole,
and the state that the page derives must be that of the processes. Hostile requests must get 4xx, and nothing outside
the studio's folder may change.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from serve_hostile import hostile, send

from sync_r1.apps import jobs
from sync_r1.apps.feedback import Event, Store
from sync_r1.apps.studio import StudioFolder, things, training
from sync_r1.apps.studio.training import Plan
from sync_r1.console import say
from sync_r1.data import load_concept, load_image
from sync_r1.files import manifest_problems, write_json
from sync_r1.run_folder import checkpoints, step_of

PAGES = ("/", "/train", "/draw", "/chat", "/feedback", "/why", "/compare", "/story", "/learn")
STEPS = 100_000  # the training never ends by itself
START_S = 180.0
SMALL = (
    "run.save_steps=1", "rl.num_generations=2", "rl.prompts_per_step=1", "rl.text_prompts_per_step=1",
    "rl.train_timesteps=1", "rl.draw_every=2", "rl.dgs_enabled=false", "rl.validation_prompts=0", "run.device=cpu",
)  # fmt: skip
HOSTILE_PATHS = (
    "/gradio_api/upload",
    "/gradio_api/queue/join",
    "/gradio_api/run/predict",
    "/gradio_api/call/x",
    "/gradio_api/component_server",
    "/gradio_api/cancel",
    "/login",
)
HOSTILE_FILES = (
    "/etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "http://127.0.0.1:22/",
    "/proc/self/environ",
    "C:\\x",
    "~",
)


@dataclass
class Trial:
    """A studio with its processes, and what must not be lost."""

    place: Path
    port: int
    studio: StudioFolder = field(init=False)
    server: subprocess.Popen[bytes] | None = None
    thumbs: int = 0
    step: int = 0  # of the newest checkpoint that was ever seen
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.studio = StudioFolder(self.place / "studio", self.place / "runs")

    # actions

    def start_server(self) -> None:
        if self.server is not None and self.server.poll() is None:
            return
        command = [sys.executable, "-m", "sync_r1", "studio", "--port", str(self.port)]
        folders = ["--folder", str(self.studio.root), "--runs", str(self.studio.runs), "--device", "cpu"]
        with (self.place / "server.txt").open("ab") as log:
            self.server = subprocess.Popen([*command, *folders], stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while self.get("/healthz") != 200:
            if time.monotonic() > until or self.server.poll() is not None:
                raise SystemExit(f"the studio did not start; see {self.place / 'server.txt'}")
            time.sleep(0.2)

    def kill_server(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def stop_server(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(60)

    def go_on(self) -> None:
        if not training.running(self.studio):
            training.resume(self.studio, "bo")

    def kill_training(self) -> None:
        job = jobs.read_job(self.studio.runs / "bo")
        process = None if job is None else job.process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(30)

    def stop_training(self) -> None:
        with suppress(ValueError):  # it may have ended by itself meanwhile
            training.stop(self.studio, "bo")

    def reload(self) -> None:
        if self.server is None or self.server.poll() is not None:
            return
        for path in PAGES:
            if (status := self.get(path)) != 200:
                self.problems.append(f"{path} was answered with {status}")

    def rate(self) -> None:
        event = Event(what="answer", prompt="What is <bo>?", output="a dog", good=True)
        Store.of("bo", self.studio.feedback).add(event)
        self.thumbs += 1

    # what must hold

    def look(self) -> None:
        """Everything that was kept is there and whole, and the state is that of the processes."""
        concept = load_concept(self.studio.things, "bo")
        for path in [*concept.train_images, *concept.test_images]:
            load_image(path)
        count = len(Store.of("bo", self.studio.feedback).events())
        if count != self.thumbs:
            self.problems.append(f"{count} thumbs of {self.thumbs} are there")
        run = self.studio.runs / "bo"
        known = checkpoints(run)
        newest = step_of(known[-1]) if known else 0
        if newest < self.step:
            self.problems.append(f"the newest checkpoint is of step {newest}, after one of step {self.step}")
        self.step = newest
        for checkpoint in known[-1:]:
            with suppress(FileNotFoundError):  # it gave way to a newer one while it was being read
                self.problems += [
                    f"{checkpoint}: {one}" for one in manifest_problems(checkpoint) if checkpoint.exists()
                ]
        job = jobs.read_job(run)
        if job is not None:
            alive = job.process() is not None
            name = training.live(self.studio, "bo").state.name
            if alive == (job.process() is not None) and alive != (name in training.GOING):
                self.problems.append(f"the page says {name}, the process is {'alive' if alive else 'gone'}")

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


def begin(place: Path) -> Trial:
    """A studio with the example, and a training of it that has a checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        trial = Trial(place, free.getsockname()[1])
    things.add_example(trial.studio)
    plan = Plan("bo", "world", STEPS, "bo", evaluate=False)
    command = training.arguments(trial.studio, plan)
    jobs.start([*command, *SMALL], trial.studio.runs / "bo")
    trial.start_server()
    return trial


def kills(trial: Trial, count: int, rng: random.Random) -> None:
    """Random actions at random moments."""
    actions = (
        trial.kill_server, trial.stop_server, trial.start_server, trial.kill_training, trial.stop_training,
        trial.go_on, trial.go_on, trial.reload, trial.reload, trial.rate,
    )  # fmt: skip
    for number in range(count):
        action = rng.choice(actions)
        action()
        trial.done[action.__name__] += 1
        trial.look()
        time.sleep(rng.random() * 2)
        if (number + 1) % 10 == 0:
            say(f"{number + 1}/{count}  {len(trial.problems)} problems")
    trial.start_server()
    trial.reload()
    trial.look()


def attacks(trial: Trial, count: int) -> dict[str, int]:
    """Status → how often. Hostile requests to the API and to the page, and files that lie elsewhere."""
    found: Counter[int] = Counter()
    for number in range(count):
        request = hostile(number, "bo")
        if number % 2:
            request.path = HOSTILE_PATHS[number // 2 % len(HOSTILE_PATHS)]
        elif number % 10 == 0:
            request.method = "GET"
            request.path = f"/gradio_api/file={HOSTILE_FILES[number // 10 % len(HOSTILE_FILES)]}"
        status = send("127.0.0.1", trial.port, request)
        found[status] += 1
        if status >= 500:
            trial.problems.append(f"{request.what} to {request.path} was answered with {status}")
    return {str(status): number for status, number in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="kills, reloads and restarts")
    parser.add_argument("--hostile", type=int, default=1000, help="hostile requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of what was found")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="studio-kills-") as folder:
        trial = begin(Path(folder))
        outside = Path(folder) / "outside.txt"
        outside.write_text("untouched", encoding="utf-8")
        try:
            kills(trial, given.count, random.Random(given.seed))
            statuses = attacks(trial, given.hostile)
        finally:
            trial.kill_training()
            trial.kill_server()
        if sorted(path.name for path in Path(folder).iterdir()) != ["outside.txt", "runs", "server.txt", "studio"]:
            trial.problems.append("files appeared outside the studio's folder")
    result: dict[str, Any] = {
        "count": given.count,
        "actions": dict(trial.done),
        "hostile": given.hostile,
        "statuses": statuses,
        "problems": trial.problems,
    }
    say(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)
    sys.exit(bool(trial.problems))


if __name__ == "__main__":
    main()
