"""What `sync-r1 serve` does per second, whether its memory stays flat, and what it says to hostile requests.

    python benchmarks/serve.py                                    # speed at 1, 2, 4 and 8 clients
    python benchmarks/serve.py --requests 10000 --hostile 1000    # and memory, and refusals
    python benchmarks/serve.py --run runs/demo --seconds 20 --out serve.json

A server of its own (a process, as many threads as the machine gives it) answers clients that each wait for their reply
before they ask again. Parts that are not asked for keep what the file holds from an earlier call. The table of
docs/serve.md is written as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from serve_hostile import hostile, send

from sync_r1.files import write_text

ROOT = Path(__file__).parents[1]
QUESTIONS = ("What colour is bo?", "What is bo wearing?", "What is bo holding?", "Where is bo?", "What pattern has bo?")
PLACES = ("at the beach", "in the snow", "in the forest", "in the city", "in the meadow")
KINDS = ("text", "picture", "draw")
GOOD_RATIO = 4.0  # what eight clients should get done, in units of what one does
HEADING = "### Speed\n\n"  # behind which the page has its table
NAMES = {"text": "questions", "picture": "questions about a picture", "draw": "drawings"}

Body = dict[str, Any]


@contextmanager
def served(arguments: Sequence[str]) -> Iterator[tuple[str, int, psutil.Process]]:
    """A server in a process of its own: host, port and the process."""
    command = [sys.executable, "-m", "sync_r1.cli", "serve", "--port", "0", "--queue", "64", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving"):
            raise ValueError(f"the server did not start: {line}")
        url = httpx2.URL(line.split(" at ")[1].split(";")[0])
        try:
            yield url.host, int(url.port or 0), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def request_of(kind: str, number: int, model: str, seen: str) -> tuple[str, Body]:
    """Path and body of request `number`: questions, places and seeds take turns."""
    if kind == "draw":
        prompt = f"a photo of bo {PLACES[number % len(PLACES)]}"
        return "/v1/images/generations", {"model": model, "prompt": prompt, "seed": number}
    question = QUESTIONS[number % len(QUESTIONS)]
    content: Any = question
    if kind == "picture":
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": seen}}]
    return "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": content}]}


def measure(base: str, ask: Callable[[int], tuple[str, Body]], clients: int, seconds: float) -> Body:
    """Requests per second and their times, of clients that each wait for their reply."""
    times: list[float] = []
    numbers = iter(range(10**9))
    lock, until = threading.Lock(), time.monotonic() + seconds

    def one() -> None:
        with httpx2.Client(base_url=base, timeout=120) as client:
            while time.monotonic() < until:
                with lock:
                    number = next(numbers)
                path, body = ask(number)
                started = time.perf_counter()
                client.post(path, json=body).raise_for_status()
                with lock:
                    times.append(time.perf_counter() - started)

    started = time.perf_counter()
    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "clients": clients,
        "requests": len(times),
        "per_second": round(len(times) / took, 3),
        "p50_s": round(float(p50), 4),
        "p95_s": round(float(p95), 4),
    }


def speed(base: str, model: str, counts: Sequence[int], seconds: float) -> Body:
    """Every kind of request at every number of clients."""
    found: Body = {}
    for kind in KINDS:
        seen = picture(base, model)
        rows = []
        for clients in counts:
            measure(base, lambda number: request_of(kind, number, model, seen), clients, min(2.0, seconds))  # noqa: B023
            rows.append(measure(base, lambda number: request_of(kind, number, model, seen), clients, seconds))  # noqa: B023
            show(f"{kind:8}{rows[-1]}")
        ratio = rows[-1]["per_second"] / rows[0]["per_second"]
        found[kind] = {"rows": rows, "ratio": round(ratio, 2), "as_wanted": ratio >= GOOD_RATIO}
    return found


def passes(run: str | None, batch: int = 8) -> Body:
    """CPU seconds of `batch` requests' work done one after another and together, in this process and on one thread.

    Their ratio is the most that sharing passes can gain on this machine. It is far from `batch` where a pass over one
    row keeps the arithmetic busy already, as on a CPU, and near it where one waits for the launch of kernels.
    """
    import torch

    from sync_r1.session import Session

    torch.set_num_threads(1)
    session = Session.open(checkpoint=run) if run else Session.open(concept="bo")
    questions = [session.mention(QUESTIONS[number % len(QUESTIONS)]) for number in range(batch)]
    codes = session.encode([session.draw("a photo of bo")[0]])[0]
    prompts = [session.mention(f"a photo of bo {PLACES[number % len(PLACES)]}") for number in range(batch)]
    ways: dict[str, Callable[[Sequence[int]], object]] = {
        "text": lambda rows: session.answers([session.question_context(questions[row]) for row in rows]),
        "picture": lambda rows: session.answers([session.question_context(questions[row], codes) for row in rows]),
        "draw": lambda rows: session.pictures([prompts[row] for row in rows], rows),
    }
    found: Body = {}
    for kind, way in ways.items():
        together = cpu_seconds(way, [range(batch)])
        apart = cpu_seconds(way, [[row] for row in range(batch)])
        found[kind] = {"apart_s": round(apart, 4), "together_s": round(together, 4)}
        found[kind]["most_gain"] = round(apart / together, 2)
        show(f"{kind:8}{found[kind]}")
    return found


def table(found: Body) -> str:
    """The page's table: what clients get per second, and the most that sharing passes could give them."""
    counts = [row["clients"] for row in found["speed"][KINDS[0]]["rows"]]
    lines = [
        f"| requests per second | {' | '.join(f'clients: {count}' for count in counts)} | gain | most | share |",
        "|---|" + "---|" * (len(counts) + 3),
    ]
    for kind in KINDS:
        speeds = " | ".join(f"{row['per_second']:.1f}" for row in found["speed"][kind]["rows"])
        ratio, most = found["speed"][kind]["ratio"], found["passes"][kind]["most_gain"]
        lines.append(f"| {NAMES[kind]} | {speeds} | {ratio:.2f} | {most:.2f} | {ratio / most:.0%} |")
    return "\n".join(lines) + "\n"


def write_table(found: Body, page: Path) -> None:
    """Put the table behind its heading, in the place of an earlier one; the rest of the page stays."""
    before, rest = page.read_text(encoding="utf-8").split(HEADING)
    lines = rest.splitlines(keepends=True)
    while lines and (lines[0].startswith("|") or not lines[0].strip()):
        lines.pop(0)
    write_text(page, f"{before}{HEADING}{table(found)}\n{''.join(lines)}")


def cpu_seconds(way: Callable[[Sequence[int]], object], batches: Sequence[Sequence[int]], repeats: int = 4) -> float:
    """The least of several times for all batches; CPU time, so that other programs disturb it little."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        for rows in batches:
            way(rows)
        times.append(time.process_time() - started)
    return min(times)


def picture(base: str, model: str) -> str:
    """A drawing as a data: URL."""
    path, body = request_of("draw", 0, model, "")
    data = httpx2.post(base + path, json=body, timeout=120).raise_for_status().json()["data"][0]["b64_json"]
    return f"data:image/png;base64,{data}"


def memory(base: str, model: str, process: psutil.Process, requests: int, clients: int = 8) -> Body:
    """Resident memory over many requests of every kind: whole, streamed, left in the middle, refused."""
    seen, marks, done = picture(base, model), [], [0]
    every = max(1, requests // 40)
    lock = threading.Lock()

    def one() -> None:
        with httpx2.Client(base_url=base, timeout=300) as client:
            while True:
                with lock:
                    number, done[0] = done[0], done[0] + 1
                    if number % every == 0:
                        marks.append((number, process.memory_info().rss / 2**20))
                        show(f"{number} requests, {marks[-1][1]:.1f} MiB")
                if number >= requests:
                    return
                exchange(client, number, model, seen)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [(number, size) for number, size in marks if number >= requests // 4]
    slope = float(np.polyfit([number for number, _ in late], [size for _, size in late], 1)[0]) if len(late) > 1 else 0
    return {
        "requests": requests,
        "mib": [{"requests": number, "mib": round(size, 1)} for number, size in marks],
        "mib_per_1000_requests_after_a_quarter": round(slope * 1000, 3),
    }


def exchange(client: httpx2.Client, number: int, model: str, seen: str) -> None:
    """One request of the mix; its kind follows from its number."""
    kind = KINDS[number % 3]
    path, body = request_of(kind, number, model, seen)
    if kind == "draw":
        body["steps"] = 2
    match number // 3 % 4:
        case 0:
            client.post(path, json=body)
        case 1:
            with client.stream("POST", path, json={**body, "stream": True, "partial_images": 1}) as reply:
                reply.read()
        case 2:
            with client.stream("POST", path, json={**body, "stream": True, "partial_images": 1}) as reply:
                next(iter(reply.iter_lines()), None)
        case _:
            client.post(path, json={**body, "n": 1000})


def refusals(host: str, port: int, model: str, count: int) -> Body:
    """What hostile requests are answered; whether the server still works afterwards."""
    found: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    failed = []
    for number in range(count):
        request = hostile(number, model, seed=1)
        status = send(host, port, request)
        found[status] += 1
        kinds[request.what] += 1
        if not 400 <= status < 500:
            failed.append({"number": number, "what": request.what, "path": request.path, "status": status})
    alive = httpx2.get(f"http://{host}:{port}/healthz").status_code == 200
    show(f"{count} hostile requests: {dict(found)}, {len(failed)} not refused")
    statuses = {str(status): total for status, total in sorted(found.items())}
    return {"requests": count, "statuses": statuses, "kinds": dict(kinds), "not_refused": failed, "alive": alive}


def machine() -> Body:
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def show(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="serve this run; default: the shipped model with the concept bo")
    parser.add_argument("--seconds", type=float, default=20.0, help="per kind of request and number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--requests", type=int, default=0, help="watch the memory over so many requests")
    parser.add_argument("--hostile", type=int, default=0, help="send so many hostile requests")
    parser.add_argument("--no-speed", action="store_true", help="leave the speed out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "serve.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "serve.md", help="whose table is written")
    given = parser.parse_args()
    random.seed(0)
    found: Body = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    found["machine"] = machine()
    arguments = ["--run", given.run] if given.run else ["--concept", "bo"]
    with served(arguments) as (host, port, process):
        base = f"http://{host}:{port}"
        model = httpx2.get(f"{base}/v1/models").json()["data"][0]["id"]
        if not given.no_speed:
            found["speed"] = speed(base, model, given.clients, given.seconds)
            found["passes"] = passes(given.run)
        if given.hostile:
            found["hostile"] = refusals(host, port, model, given.hostile)
        if given.requests:
            found["memory"] = memory(base, model, process, given.requests)
    write_text(given.out, json.dumps(found, indent=1) + "\n")
    if "speed" in found:
        write_table(found, given.page)


if __name__ == "__main__":
    main()
