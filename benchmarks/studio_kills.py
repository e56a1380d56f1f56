"""Kills, reloads and restarts at random moments: does the studio lose anything, and does it ever tell what is not so?

    python benchmarks/studio_kills.py --kills 200 --hostile 1000 --out docs/studio_kills.json
    python benchmarks/studio_kills.py --kills 5 --hostile 50    # a look, without a file

A studio is served as a process, with a training in another one that the server started. Then, again and again, one of
them is killed, stopped, started or asked for a page, at a random moment; what cannot be done (a server that is gone
cannot be killed) is not counted. Thumbs are given through the server, also while it is being killed. After every step
everything that was ever kept must be there and whole, and the state that the page derives must be that of the
processes. Hostile requests must get 4xx, and nothing outside the studio's folder may change.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_hostile import Hostile, hostile, send

from sync_r1.apps import jobs
from sync_r1.apps.feedback import Store
from sync_r1.apps.studio import StudioFolder, books, pictures, things, training
from sync_r1.apps.studio.training import Plan
from sync_r1.console import say
from sync_r1.data import load_concept, load_image
from sync_r1.files import manifest_problems, write_json
from sync_r1.run_folder import checkpoints, step_of

PAGES = ("/", "/train", "/draw", "/chat", "/feedback", "/why", "/compare", "/story", "/learn")
STEPS = 100_000  # the training never ends by itself
START_S = 600.0
LONGEST_PAUSE_S = 6.0
RUN = "bo"
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
    rng: random.Random
    studio: StudioFolder = field(init=False)
    server: subprocess.Popen[bytes] | None = None
    asked: int = 0  # thumbs that the server was sent
    told: int = 0  # of these, what it said is kept
    step: int = 0  # of the newest checkpoint that was ever seen
    kept: dict[Path, str] = field(default_factory=dict)  # file → digest, of things, drawings and books
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    sending: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.studio = StudioFolder(self.place / "studio", self.place / "runs")

    @property
    def serves(self) -> bool:
        return self.server is not None and self.server.poll() is None

    @property
    def trains(self) -> bool:
        job = jobs.read_job(self.studio.runs / RUN)
        return job is not None and job.process() is not None

    # actions

    def possible(self) -> list[Callable[[], None]]:
        """What can be done now; likelier things are there more than once."""
        if self.serves:
            found = [self.kill_server, self.stop_server, *[self.reload] * 8]
        else:
            found = [self.start_server] * 3
        if self.trains:
            return [*found, self.kill_training, self.stop_training]
        if not training.waiting(self.studio):
            found += [self.go_on] * 3
        return found

    def start_server(self) -> None:
        command = [sys.executable, "-m", "sync_r1", "studio", "--port", str(self.port)]
        folders = ["--folder", str(self.studio.root), "--runs", str(self.studio.runs), "--device", "cpu"]
        with (self.place / "server.txt").open("ab") as log:
            self.server = subprocess.Popen([*command, *folders], stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while self.get("/healthz") != 200:
            if time.monotonic() > until or not self.serves:
                raise SystemExit(f"the studio did not start; see {self.place / 'server.txt'}")
            time.sleep(0.2)

    def kill_server(self) -> None:
        """Half of the time while it keeps a thumb."""
        assert self.server is not None
        if self.rng.random() < 0.5:
            self.rate()
            time.sleep(self.rng.random())
        self.end_server()

    def end_server(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def stop_server(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(START_S)

    def go_on(self) -> None:
        """The server starts the training, where it is there."""
        command = training.arguments_to_go_on(self.studio, RUN)
        if self.serves:
            training.let_wait(self.studio, RUN, command)
        else:
            jobs.start(command, self.studio.runs / RUN, wait=False)

    def kill_training(self) -> None:
        job = jobs.read_job(self.studio.runs / RUN)
        if job is not None:
            jobs.kill(job)

    def stop_training(self) -> None:
        with suppress(ValueError):  # it may have ended by itself meanwhile
            training.stop(self.studio, RUN)

    def reload(self) -> None:
        path = self.rng.choice(PAGES)
        if (status := self.get(path)) != 200:
            self.problems.append(f"{path} was answered with {status}")

    def rate(self) -> None:
        """Send a thumb, without waiting for the answer."""
        body = {"model": "bo/base", "question": "What is bo?", "text": "a dog", "good": True}

        def send_it() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
            with suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/sync-r1/feedback", json.dumps(body), {"Content-Type": "application/json"})
                self.told += connection.getresponse().status == 200
            connection.close()

        self.asked += 1
        self.sending.append(threading.Thread(target=send_it, daemon=True))
        self.sending[-1].start()

    # what must hold

    def files(self) -> dict[Path, str]:
        """Everything that nothing here changes."""
        folders = (self.studio.things, self.studio.drawings, self.studio.stories)
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def look(self) -> None:
        """Everything that was kept is there and whole, and the state is that of the processes."""
        if self.files() != self.kept:
            self.problems.append("a thing, a drawing or a book changed")
        told = self.told
        count = len(Store.of("bo", self.studio.feedback).events())
        if not told <= count <= self.asked:
            self.problems.append(f"{count} thumbs are there; {told} were told to be kept, {self.asked} sent")
        run = self.studio.runs / RUN
        known = checkpoints(run)
        newest = step_of(known[-1]) if known else 0
        if newest < self.step:
            self.problems.append(f"the newest checkpoint is of step {newest}, after one of step {self.step}")
        self.step = newest
        for checkpoint in known[-1:]:
            with suppress(FileNotFoundError):  # it gave way to a newer one while it was being read
                found = manifest_problems(checkpoint)
                self.problems += [f"{checkpoint}: {one}" for one in found if checkpoint.exists()]
        self.look_at_state()

    def look_at_state(self) -> None:
        alive = self.trains
        if jobs.read_job(self.studio.runs / RUN) is None:
            return
        name = training.live(self.studio, RUN).state.name
        if alive == self.trains and alive != (name in training.GOING):
            self.problems.append(f"the page says {name}, the process is {'alive' if alive else 'gone'}")
        if name == "failed":
            self.problems.append(f"the training failed: {training.log_tail(self.studio.runs / RUN)[-1]}")

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def begin(trial: Trial) -> None:
    """Give the studio a thing, a drawing and a book, and a training that its server starts."""
    things.add_example(trial.studio)
    concept = load_concept(trial.studio.things, "bo")
    pictures.keep_brought(trial.studio, load_image(concept.test_images[0]), "bo", "a photo of bo")
    books.plan(trial.studio, concept, "bo finds a kite", 3)
    trial.kept = trial.files()
    plan = Plan("bo", "world", STEPS, RUN, evaluate=False)
    training.let_wait(trial.studio, RUN, [*training.arguments(trial.studio, plan), *SMALL])
    trial.start_server()
    until = time.monotonic() + START_S
    while not checkpoints(trial.studio.runs / RUN):
        if time.monotonic() > until:
            raise SystemExit(f"the training did not begin; see {trial.studio.runs / RUN / jobs.LOG}")
        time.sleep(0.5)


def kills(trial: Trial, count: int) -> None:
    """Random actions at random moments."""
    for number in range(count):
        action = trial.rng.choice(trial.possible())
        action()
        trial.done[action.__name__] += 1
        if trial.serves and trial.rng.random() < 0.3:
            trial.rate()
        time.sleep(LONGEST_PAUSE_S * trial.rng.random() ** 2)
        trial.look()
        if (number + 1) % 10 == 0:
            say(f"{number + 1}/{count}  {dict(trial.done)}  {len(trial.problems)} problems")
    if not trial.serves:
        trial.start_server()
    for thread in trial.sending:
        thread.join(START_S)
    until = time.monotonic() + START_S
    while training.waiting(trial.studio):
        if time.monotonic() > until:
            trial.problems.append("a training that waited was never begun")
            break
        time.sleep(0.5)
    for path in PAGES:
        if (status := trial.get(path)) != 200:
            trial.problems.append(f"at the end {path} was answered with {status}")
    trial.look()


def handler_call(number: int, path: str) -> Hostile:
    """A body as the page sends it, for a handler that is not there or with values that it does not expect."""
    rng = random.Random(number)
    values = [None, "../../x", -1, [], {}, "x" * 100_000, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
    body = {
        "fn_index": rng.choice([-1, 0, rng.randrange(120), 10**6, "x"]),
        "data": [rng.choice(values) for _ in range(rng.randrange(9))],
        "session_hash": rng.choice(["a", "../x", ""]),
        "event_data": rng.choice([None, {"index": 10**9}, "x"]),
    }
    content = json.dumps(body).encode()
    return Hostile("a handler", path, content=content, headers={"Content-Type": "application/json"})


def attacks(trial: Trial, count: int) -> dict[str, int]:
    """Status → how often. Hostile requests to the API and to the page, and files that lie elsewhere."""
    found: Counter[int] = Counter()
    for number in range(count):
        request = hostile(number, "bo")
        if number % 2:
            request.path = HOSTILE_PATHS[number // 2 % len(HOSTILE_PATHS)]
            if number % 4 == 1:
                request = handler_call(number, request.path)
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
    parser.add_argument("--kills", type=int, default=200, help="kills, reloads and restarts")
    parser.add_argument("--hostile", type=int, default=1000, help="hostile requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of what was found")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="studio-kills-") as folder:
        trial = Trial(Path(folder), free_port(), random.Random(given.seed))
        outside = Path(folder) / "outside.txt"
        outside.write_text("untouched", encoding="utf-8")
        try:
            begin(trial)
            kills(trial, given.kills)
            statuses = attacks(trial, given.hostile)
            trial.look()
        finally:
            trial.kill_training()
            trial.end_server()
        if sorted(path.name for path in Path(folder).iterdir()) != ["outside.txt", "runs", "server.txt", "studio"]:
            trial.problems.append("files appeared outside the studio's folder")
        if outside.read_text(encoding="utf-8") != "untouched":
            trial.problems.append("a file outside the studio's folder changed")
    result: dict[str, Any] = {
        "kills": given.kills,
        "actions": dict(trial.done),
        "thumbs": {"sent": trial.asked, "said to be kept": trial.told},
        "steps trained": trial.step,
        "hostile": given.hostile,
        "statuses": statuses,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "problems": trial.problems,
    }
    say(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)
    sys.exit(bool(trial.problems))


if __name__ == "__main__":
    main()
