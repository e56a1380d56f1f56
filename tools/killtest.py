"""Kill training (SIGKILL) at random moments, resume, and compare with the uninterrupted run: every bit must be equal.

Workers are forked from one parent that has imported everything, so that a kill costs no new start of Python. Every
second kill waits for a checkpoint that is being written. A run that ends in spite of its kills is compared and another
one is begun, until there were enough kills.

Run: python tools/killtest.py --kills 200 --out docs/killtest.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny model and its rewards are those of the tests
from sync_r1.files import read_tensors
from sync_r1.metrics_file import read_metrics
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.run_folder import HIDDEN, newest
from tests.rl.toys import bright, trainer, wordy

ALWAYS = [
    "rl.dgs_enabled=true",
    "rl.beta=0.05",
    "rl.lr_scheduler_type=cosine",
    "rl.warmup_steps=1",
    "run.save_total_limit=1",
]
SETTINGS = {
    "all weights": ["rl.max_steps=3", "run.save_steps=1", "rl.train_timesteps=2"],
    "adapters, two updates per rollout": [
        "rl.max_steps=4",
        "run.save_steps=2",
        "rl.num_iterations=2",
        "rl.lora_rank=2",
    ],
}
JSON_FILES = ("sync_state.json", "trainer_state.json")


@dataclass(frozen=True)
class Whole:
    """The uninterrupted run: what it left, and how long it and its saves took."""

    left: dict[str, Any]
    seconds: float
    save_s: float


def noisy(*, completions: Sequence[str], **_: Any) -> list[float]:
    """A reward that draws from every global generator: they too must go on where they were."""
    return [random.random() + float(np.random.rand()) + float(torch.rand(())) for _ in completions]


def work(place: Path, overrides: Sequence[str]) -> None:
    """Train in `place`, from the newest checkpoint if there is one."""
    rewards = RewardEnsemble(
        [Reward("wordy", wordy, "text"), Reward("bright", bright, "image"), Reward("noisy", noisy, "text")]
    )
    run = trainer(place, *ALWAYS, *overrides, rewards=rewards)
    run.train(resume_from_checkpoint="latest" if newest(run.config.run.folder) else None)


def fork(place: Path, overrides: Sequence[str]) -> int:
    """Start a worker; its process id. What it prints goes to `place`/log.txt."""
    place.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    try:
        log = os.open(place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        work(place, overrides)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def ended(child: int, place: Path, wait: bool = False) -> bool:
    """Whether a worker is through. RuntimeError when it failed by itself."""
    pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    if pid and os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"training failed: {(place / 'log.txt').read_text(errors='replace')[-3000:]}")
    return bool(pid)


def run_folder(place: Path) -> Path:
    """The run that a worker writes in `place`."""
    return next(path.parent for path in place.rglob("config.yaml") if path.parent.parent.name != "checkpoints")


def being_saved(place: Path) -> set[str]:
    """Names of checkpoints that are being written, replaced or deleted."""
    return {path.name for path in place.glob("*/checkpoints/.step_*") if HIDDEN.fullmatch(path.name)}


def killed(place: Path, overrides: Sequence[str], whole: Whole, chance: random.Random, aimed: bool) -> str | None:
    """Train, and kill the worker at a random moment, or `aimed` at a save.

    What it was doing, or None when it came to its end.
    """
    child, began = fork(place, overrides), time.monotonic()
    limit, saves, seen = chance.uniform(0, 0.7 * whole.seconds), chance.randint(1, 2), set[str]()
    while not ended(child, place):
        seen |= being_saved(place) if aimed else set()
        if (len(seen) >= saves) if aimed else time.monotonic() - began >= limit:
            time.sleep(chance.uniform(0, whole.save_s) if aimed else 0)
            if ended(child, place):
                return None
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return moment(place)
        time.sleep(0.0005)
    return None


def moment(place: Path) -> str:
    """What a killed worker was doing, by the files it left."""
    # what is left of an earlier kill may lie beside it
    hidden = sorted(being_saved(place), key=lambda name: "partial" not in name)
    if hidden:
        return {"partial": "writing a checkpoint", "old": "replacing a checkpoint", "gone": "deleting a checkpoint"}[
            hidden[0].rsplit(".", 1)[1]
        ]
    return "between checkpoints" if list(place.glob("*/checkpoints/step_*")) else "before the first checkpoint"


def contents(place: Path) -> dict[str, Any]:
    """Everything a finished run leaves that counts: log, weights, optimizer, schedule, generators, counters.

    No times.
    """
    run = run_folder(place)
    last = newest(run)
    assert last is not None, "a finished run has a checkpoint"
    found: dict[str, Any] = {"metrics.jsonl": timeless(read_metrics(run / "metrics.jsonl"))}
    for path in sorted(last.iterdir()):
        if path.suffix == ".safetensors":
            found[path.name] = read_tensors(path)
        elif path.suffix == ".pt":
            found[path.name] = torch.load(path, weights_only=True)
        elif path.name in JSON_FILES:
            found[path.name] = timeless(json.loads(path.read_text(encoding="utf-8")))
    return found


def timeless(value: Any) -> Any:
    """Without perf/*, which is measured in seconds and MiB, and epoch, which transformers counts anew and nothing
    reads.
    """
    if isinstance(value, dict):
        return {
            key: timeless(entry) for key, entry in value.items() if key != "epoch" and not str(key).startswith("perf/")
        }
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, down into lists, dicts and tensors."""
    if isinstance(one, torch.Tensor):
        alike = isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return alike and one.contiguous().view(-1).view(torch.uint8).equal(
            other.contiguous().view(-1).view(torch.uint8)
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other))
    return bool(one == other) or repr(one) == repr(other)  # NaN


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of files that only one run has, or that differ."""
    return sorted(
        name for name in {**one, **other} if name not in one or name not in other or not same(one[name], other[name])
    )


def untouched(place: Path, overrides: Sequence[str]) -> Whole:
    """Train to the end in one go."""
    began = time.monotonic()
    ended(fork(place, overrides), place, wait=True)
    rows = read_metrics(run_folder(place) / "metrics.jsonl")
    return Whole(contents(place), time.monotonic() - began, max(row.get("perf/save_time_s", 0.0) for row in rows))


def one_run(place: Path, setting: str, whole: Whole, chance: random.Random, kills: int, done: int) -> dict[str, Any]:
    """One run with up to `kills` kills, resumed after each, and how it compares.

    `done`: kills before it, for every second to be aimed.
    """
    moments: list[str] = []
    finished = False
    while not finished and len(moments) < kills:
        what = killed(place, SETTINGS[setting], whole, chance, aimed=(done + len(moments)) % 2 == 1)
        finished = what is None
        moments += [what] if what is not None else []
    if not finished:
        ended(fork(place, SETTINGS[setting]), place, wait=True)
    return {
        "setting": setting,
        "kills": len(moments),
        "killed_while": dict(Counter(moments)),
        "differs": differences(whole.left, contents(place)),
    }


def killtest(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """`kills` kills over all settings in turn; the record that is written."""
    torch.set_num_threads(1)
    chance, began = random.Random(seed), time.monotonic()
    # loads what transformers loads late, before any fork, and computes no gradient, which would forbid forks
    trainer(folder / "warm")
    wholes = {
        setting: untouched(folder / f"whole_{number}", overrides)
        for number, (setting, overrides) in enumerate(SETTINGS.items())
    }
    runs: list[dict[str, Any]] = []
    total = 0
    while total < kills:
        setting = list(SETTINGS)[len(runs) % len(SETTINGS)]
        place = folder / f"run_{len(runs)}"
        share = -(-kills // len(SETTINGS)) if kills <= 10 * len(SETTINGS) else kills
        runs.append(one_run(place, setting, wholes[setting], chance, min(share, kills - total), total))
        total += runs[-1]["kills"]
        shutil.rmtree(place)
        if runs[-1]["kills"]:
            print(json.dumps(runs[-1]), flush=True)
    moments = sum((Counter(run["killed_while"]) for run in runs), Counter())
    return {
        "kills": total,
        "killed_while": dict(moments.most_common()),
        "interrupted_runs": sum(run["kills"] > 0 for run in runs),
        "runs_that_differ": sum(bool(run["differs"]) for run in runs),
        "compared": {setting: sorted(whole.left) for setting, whole in wholes.items()},
        "seed": seed,
        "wall_time_s": round(time.monotonic() - began, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, torch {torch.__version__}",
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every interrupted run equals the uninterrupted one, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        record = killtest(options.kills, options.seed, Path(folder))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        f"{record['kills']} kills in {record['interrupted_runs']} runs, {record['runs_that_differ']} of which differ; "
        f"{options.out}"
    )
    return int(record["runs_that_differ"] > 0)


if __name__ == "__main__":
    sys.exit(main())
