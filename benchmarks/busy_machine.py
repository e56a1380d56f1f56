"""Seconds per drawn training step while other programs keep cores busy, with the threads of before and of now.

Every side trains the recipe `world` (every step drawn) for a few steps beside 0, 1 and 2 endless loops:
    torch's default   torch is imported first, so that its threads spin while they wait, as in version 0.1
    ours              sync_r1 is imported first, so that threads soon sleep while they wait (sync_r1/threads.py)
    asleep at once    OMP_WAIT_POLICY=PASSIVE
    one thread        OMP_NUM_THREADS=1
Run on a machine where nothing else runs: python benchmarks/busy_machine.py --out docs/busy_machine.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sync_r1.threads import USERS

DEFAULT = "torch's default"
SIDES: dict[str, dict[str, str]] = {
    "ours": {},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    DEFAULT: {},
}
LOOP = "while True: pass"


def train(folder: Path, steps: int) -> None:
    """Train in this process without evaluation; metrics.jsonl holds the seconds of every step."""
    from rich.console import Console

    from sync_r1.config import load_config
    from sync_r1.experiment import run_experiment
    from sync_r1.recipes import apply_recipes

    overrides = [
        f"run.output_dir={folder}",
        f"rl.max_steps={steps}",
        "rl.draw_every=1",
        "data.concepts=[bo]",
        "rl.validation_prompts=0",
    ]
    run_experiment(
        load_config(None, overrides, base=apply_recipes(["world"])), Console(quiet=True), compare_phases=False
    )


def step_seconds(folder: Path) -> list[float]:
    """Seconds of every step but the first, which allocates."""
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    timed = [
        sum(value for name, value in row.items() if name.startswith("perf/") and name.endswith("_time_s"))
        for row in rows
    ]
    return timed[1:]


def measure(side: str, loops: int, steps: int) -> list[float]:
    """Seconds of the steps of one training beside `loops` endless loops, in a process of its own."""
    environment = {
        name: value for name, value in os.environ.items() if name not in (*USERS, "OMP_NUM_THREADS")
    } | SIDES[side]
    others = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(loops)]
    try:
        with tempfile.TemporaryDirectory() as place:
            first = "import torch; " if side == DEFAULT else ""
            code = (
                f"{first}import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
            )
            command = [sys.executable, "-c", code, __file__, "--train", place, "--steps", str(steps)]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            seconds = step_seconds(Path(place))
    finally:
        for other in others:
            other.kill()
            other.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="per training; the first is not counted")
    parser.add_argument("--rounds", type=int, default=2, help="trainings per cell; the sides take turns")
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/busy_machine.json"))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.steps)
        return
    rows = []
    for loops in arguments.loops:
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                seconds[side] += measure(side, loops, arguments.steps)
        for side, steps in seconds.items():
            median = round(statistics.median(steps), 2)
            rows.append({"side": side, "loops": loops, "median_s": median, "steps_s": [round(s, 2) for s in steps]})
            print(f"{loops} loops, {side}: {median} s a step", flush=True)
    arguments.out.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
