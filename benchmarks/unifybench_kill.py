"""Kill `sync-r1 bench run` at random moments, run it again, and compare everything it leaves with an uninterrupted run,
byte by byte.

Every kill is a SIGKILL at a random moment within the time an uninterrupted run takes. A run that finishes in spite of
that is compared and another one is begun, until there were as many kills as asked for. Only the date in score files
(`scored_at`) may differ.

Run: python benchmarks/unifybench_kill.py --kills 10 --out docs/benchmark_kill.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DATE = re.compile(rb'"scored_at": "[^"]*"')


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, without dates of scoring."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): DATE.sub(b"", path.read_bytes()) for path in files}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of files that only one has, or that differ."""
    return sorted(name for name in {**one, **other} if one.get(name) != other.get(name))


def stage(out: Path, whole: dict[str, bytes]) -> str:
    """How far a killed run had come, by its files."""
    there = set(contents(out)) if out.is_dir() else set()
    if "bench.json" not in there:
        return "exporting the data" if there else "starting"
    missing = [name for name in whole if name not in there]
    predicted = [name for name in missing if name.startswith("artifacts/")]
    if predicted:
        return f"predicting, {len(predicted)} of {sum(name.startswith('artifacts/') for name in whole)} files missing"
    return (
        f"scoring, {len(missing)} of {sum(name.startswith('scores/') for name in whole)} files missing"
        if missing
        else "nothing missing"
    )


def start(place: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """`sync-r1 bench run` in a folder of its own, and below it the same relative paths in every run."""
    place.mkdir(parents=True, exist_ok=True)
    log = (place / "log.txt").open("ab")
    command = [sys.executable, "-m", "sync_r1.cli", "bench", "run", "--out", "out", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=place, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )


def finish(place: Path, options: Sequence[str]) -> float:
    """Run to the end; seconds. RuntimeError when it fails."""
    began = time.monotonic()
    if start(place, options).wait():
        raise RuntimeError(f"bench run failed: {(place / 'log.txt').read_text(errors='replace')[-2000:]}")
    return time.monotonic() - began


def killed(place: Path, options: Sequence[str], moment: float) -> bool:
    """Whether the run was still going after `moment` seconds, when it is killed."""
    process = start(place, options)
    try:
        code = process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if code:
        raise RuntimeError(f"bench run failed: {(place / 'log.txt').read_text(errors='replace')[-2000:]}")
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concept", nargs="+", default=["bo", "chai"])
    parser.add_argument("--max-items", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-kill"), help="emptied first")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmark_kill.json"))
    given = parser.parse_args()
    options = [*(f"--concept={name}" for name in given.concept), f"--max-items={given.max_items}", "--batch-size=2"]
    shutil.rmtree(given.folder, ignore_errors=True)
    seconds = finish(given.folder / "whole", options)
    whole = contents(given.folder / "whole" / "out")
    moments, runs = random.Random(given.seed), 0
    kills: list[dict[str, Any]] = []
    differ: list[str] = []
    while len(kills) < given.kills or not runs:
        place = given.folder / f"torn-{runs}"
        moment = moments.uniform(0, seconds)
        alive = len(kills) < given.kills and killed(place, options, moment)
        if alive:
            kills.append({"run": runs, "after_s": round(moment, 1), "while": stage(place / "out", whole)})
            print(kills[-1], flush=True)
        if not alive or len(kills) == given.kills:
            finish(place, options)
            differ += [f"torn-{runs}/{name}" for name in differences(whole, contents(place / "out"))]
            runs += 1
    result: dict[str, Any] = {
        "options": options,
        "uninterrupted_s": round(seconds, 1),
        "kills": kills,
        "interrupted_runs": runs,
        "files_compared": len(whole),
        "bytes_compared": sum(map(len, whole.values())),
        "score_files": sum(name.startswith("scores/") for name in whole),
        "files_that_differ": differ,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(kills)} kills, {runs} interrupted runs, {len(whole)} files each: {len(differ)} differ")
    if differ:
        sys.exit(1)


if __name__ == "__main__":
    main()
