"""Time the remote judge over HTTP against the embedded world's judge in a process of its own.

Three questions: how many requests a second at which concurrency (with the world's own speed, and with a second's wait
per reply as a vision-language model has), how fast the cache answers, and what 30 % failing requests cost. Every
request carries two reference photos and nine pictures of its own.

Run: python benchmarks/judge.py --out docs/judge.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sync_r1.config import JudgeConfig
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.world import grammar
from sync_r1.world.assets import load_reward_reader
from sync_r1.world.judge import WorldJudge
from sync_r1.world.judge_server import JudgeServer, Rehearsal
from sync_r1.world.render import random_thing, render, render_image

PER_CALL = 9


def serve(rehearsal: Rehearsal, pipe: Connection) -> None:
    """The server's process: sends its URL, then serves until it is ended."""
    torch.set_num_threads(1)
    server = JudgeServer(WorldJudge(load_reward_reader(), soft=True), rehearsal=rehearsal)
    pipe.send(server.url)
    server.serve_forever()


@contextmanager
def served(**rehearsal: float) -> Iterator[str]:
    """URL of a judge in another process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(Rehearsal(**rehearsal), there), daemon=True)  # type: ignore[arg-type]
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def material(requests: int, folder: Path) -> tuple[Tensor, list[str], list[list[Path]]]:
    """Pictures, what each should show, and the photos to compare them with."""
    rng = np.random.default_rng(0)
    things = [random_thing(rng) for _ in range(requests * PER_CALL)]
    photos = [folder / "0.png", folder / "1.png"]
    for path in photos:
        render_image(random_thing(rng)).save(path)
    images = torch.from_numpy(np.stack([render(thing) for thing in things])).permute(0, 3, 1, 2)
    texts = [f"a photo of {grammar.describe(grammar.identity_of(thing))}" for thing in things]
    return images, texts, [photos] * len(things)


def measure(url: str, requests: int, folder: Path, **settings: Any) -> dict[str, Any]:
    """Judge everything once with a fresh client."""
    images, texts, references = material(requests, folder)
    judge = RemoteJudge(JudgeConfig(url=url, model="world", images_per_call=PER_CALL, **settings))
    started = time.perf_counter()
    scores = judge(images, texts, references=references)
    seconds, usage = time.perf_counter() - started, judge.client.usage
    judge.client.close()
    return {
        "seconds": round(seconds, 3),
        "requests_per_s": round(requests / seconds, 1),
        "pictures_per_s": round(len(scores) / seconds, 1),
        "scored_share": round(sum(score is not None for score in scores) / len(scores), 4),
        "sent": usage.requests,
        "retries": usage.retries,
        "cache_hits": usage.cache_hits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--delay", type=float, default=1.0, help="seconds of the slow judge's reply")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    count, rows = arguments.requests, []

    def add(name: str, **found: Any) -> None:
        rows.append({"name": name, **found})
        print(json.dumps(rows[-1]))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served() as url:
            measure(url, 5, folder, concurrency=1)  # warm up
            for concurrency in (1, 4, 8):
                add("world judge", concurrency=concurrency, **measure(url, count, folder, concurrency=concurrency))
            cache = {"concurrency": 8, "cache": str(folder / "cache")}
            add("cache, first time", **measure(url, count, folder, **cache), concurrency=8)
            add("cache, again", **measure(url, count, folder, **cache), concurrency=8)
        with served(delay_s=arguments.delay) as url:
            for concurrency in (1, 4, 8):
                found = measure(url, min(count, 10 * concurrency), folder, concurrency=concurrency)
                add(f"judge of {arguments.delay:g} s", concurrency=concurrency, **found)
        for rate in (0.0, 0.3):
            with served(delay_s=arguments.delay / 4, fail_rate=rate) as url:
                add(
                    f"{rate:.0%} failures, {arguments.delay / 4:g} s",
                    concurrency=8,
                    **measure(url, count, folder, concurrency=8),
                )
    machine = {"processor": platform.machine(), "python": platform.python_version(), "openai": version("openai")}
    result = {
        "machine": machine,
        "requests": count,
        "pictures_per_request": PER_CALL,
        "reference_photos": 2,
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
