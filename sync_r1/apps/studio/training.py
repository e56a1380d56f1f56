"""Trainings from the studio: what one will cost, what a running one shows, and which ones wait for their turn."""

from __future__ import annotations

import re
import statistics
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.apps import jobs
from sync_r1.apps.studio.folder import StudioFolder, new_id
from sync_r1.config import Config, load_config
from sync_r1.config_fields import shown
from sync_r1.files import read_json, write_json
from sync_r1.metrics_file import read_metrics
from sync_r1.recipes import apply_recipes
from sync_r1.report.run_files import read_trajectories
from sync_r1.run_folder import newest

RECIPES = {
    "demo": "photos first, then rewards",
    "world": "rewards alone",
    "showo-256": "Show-o, 256 px, GPU",
    "showo-512": "Show-o, 512 px, large GPU",
}
RUN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
MOST_STEPS = 100_000
MOST_WAITING = 20
LAST_TIMES = 20  # steps of a kind whose median says how long the next one takes
LOG_LINES = 12
GOING = ("running", "stopping")
ALARM = "the rewards are being exploited"
_STARTING = threading.Lock()  # handlers of the page and the look at the queue start trainings, one at a time


@dataclass(frozen=True)
class Plan:
    """A training as it was asked for."""

    thing: str
    recipe: str
    steps: int
    name: str
    evaluate: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Tried:
    """One candidate of the last drawn step."""

    text: str
    kept: bool
    score: float | None
    picture: Path | None


@dataclass(frozen=True)
class Live:
    """Everything that the page shows of a run."""

    state: jobs.State
    rewards: dict[str, list[tuple[float, float]]]  # name → (step, value)
    tried: list[Tried]
    drawn_step: int
    figures: dict[str, str]
    log: list[str]
    alarm: str


def free_name(studio: StudioFolder, thing: str) -> str:
    """A name for the next run of a thing."""
    taken = {path.name for path in studio.runs.iterdir()} if studio.runs.is_dir() else set()
    taken |= set(waiting(studio))
    names = [thing.lower(), *(f"{thing.lower()}-{number}" for number in range(2, 10_000))]
    return next(name for name in names if name not in taken)


def config_of_plan(studio: StudioFolder, plan: Plan) -> Config:
    """The validated configuration. ValueError with the option and what is allowed."""
    if plan.recipe not in RECIPES:
        raise ValueError(f"the recipe is {shown(plan.recipe)}; choose one of {', '.join(RECIPES)}")
    if not RUN_NAME.fullmatch(plan.name):
        raise ValueError(
            f"the run's name is {shown(plan.name)}; use the letters a to z, digits, - and _, at most 40, starting with "
            "a letter or digit"
        )
    if not 1 <= plan.steps <= MOST_STEPS:
        raise ValueError(f"steps is {plan.steps}; it must be 1 to {MOST_STEPS}")
    studio.thing(plan.thing)
    return load_config(None, overrides(studio, plan), base=apply_recipes([plan.recipe]))


def overrides(studio: StudioFolder, plan: Plan) -> list[str]:
    """The options of a plan as section.option=value."""
    pairs = [
        f"data.root={studio.things.resolve()}",
        f'data.concepts=["{plan.thing}"]',
        f"run.output_dir={studio.runs.resolve()}",
        f"run.name={plan.name}",
        f"run.seed={plan.seed}",
        f"rl.max_steps={plan.steps}",
        f"run.save_steps={max(1, min(25, plan.steps // 4))}",
    ]
    if studio.model != "world":
        pairs.append(f"model.path={studio.model}")
    return pairs


def arguments(studio: StudioFolder, plan: Plan) -> list[str]:
    """The command line of a plan."""
    rest = [] if plan.evaluate else ["--no-evaluate"]
    return ["train", "--recipe", plan.recipe, *overrides(studio, plan), *rest]


def cost(studio: StudioFolder, plan: Plan) -> dict[str, Any]:
    """What a training will need: peak and free bytes, seconds, trained parameters. Loads no weights."""
    from sync_r1.costs.run_cost import run_cost

    facts = run_cost(config_of_plan(studio, plan))
    return {
        "peak": facts["peak"],
        "free": facts["available"],
        "seconds": facts["seconds"].get("run", 0.0) or sum(facts["seconds"].values()),
        "trains": facts["parameters"]["trainable"],
    }


# starting, stopping, waiting


def begin(studio: StudioFolder, plan: Plan) -> str:
    """Start a training, or let it wait while another one runs. Says which of the two happened.

    ValueError for a plan that cannot be trained, a run that is there, or a full queue.
    """
    config = config_of_plan(studio, plan)
    if (config.run.folder / "config.yaml").exists():
        raise ValueError(f"there is a run called {plan.name}; go on with it, or choose another name")
    return _start_or_wait(studio, plan.name, arguments(studio, plan))


def resume(studio: StudioFolder, name: str) -> str:
    """Go on with a run that ended early, from its newest checkpoint."""
    return _start_or_wait(studio, name, arguments_to_go_on(studio, name))


def arguments_to_go_on(studio: StudioFolder, name: str) -> list[str]:
    """The command line that goes on with a run. ValueError while it runs, or where there is no such run."""
    folder = run_folder(studio, name)
    job = jobs.read_job(folder)
    if job is not None and job.process() is not None:
        raise ValueError(f"{name} is running; there is nothing to go on with")
    if newest(folder) is None and job is not None:
        return [one for one in job.arguments if one != "--background"]
    kept = ["--no-evaluate"] if job is not None and "--no-evaluate" in job.arguments else []
    return ["train", "--config", str(folder / "config.yaml"), "--resume", "latest", *kept]


def _start_or_wait(studio: StudioFolder, name: str, command: list[str]) -> str:
    with _STARTING:
        going = running(studio)
        if name == going:
            raise ValueError(f"{name} is training already")
        if name in waiting(studio):
            raise ValueError(f"{name} waits already; it begins by itself")
        if not going:
            jobs.start(command, studio.runs / name, wait=False)
            return f"{name} is training"
        let_wait(studio, name, command)
        return f"{name} waits until {going} has ended; then it begins by itself"


def let_wait(studio: StudioFolder, name: str, command: list[str]) -> None:
    """Put a training into the queue, from which a server starts one after the other. ValueError where that is full."""
    queue = waiting(studio)
    if len(queue) >= MOST_WAITING:
        raise ValueError(f"{len(queue)} trainings wait already; stop one, or wait until one ends")
    asked = {"name": name, "arguments": command, "before": _created(studio, name)}
    write_json(studio.jobs / f"{new_id()}.json", asked)


def running(studio: StudioFolder) -> str:
    """The name of the run that is being trained, or ""."""
    for name, state in jobs.all_jobs(studio.runs).items():
        if state.name in GOING:
            return name
    return ""


def waiting(studio: StudioFolder) -> dict[str, list[str]]:
    """Names and command lines of the runs that wait, the next one first."""
    asked = [read_json(path) for path in sorted(studio.jobs.glob("*.json"))]
    return {str(one["name"]): list(one["arguments"]) for one in asked}


def start_next(studio: StudioFolder) -> str:
    """Start what waits longest, if nothing runs. Returns its name, or "".

    It leaves the queue after its process was started, so that a kill in between loses no training.
    """
    with _STARTING:
        queue = sorted(studio.jobs.glob("*.json"))
        if queue and _begun(studio, queue[0]):
            queue.pop(0).unlink()
        if not queue or running(studio):
            return ""
        asked = read_json(queue[0])
        jobs.start(list(asked["arguments"]), studio.runs / str(asked["name"]), wait=False)
        queue[0].unlink()
        return str(asked["name"])


def _begun(studio: StudioFolder, waits: Path) -> bool:
    """Whether a process was started for what waits, by a server that was killed before it could say so."""
    asked = read_json(waits)
    return _created(studio, str(asked["name"])) != asked.get("before")


def _created(studio: StudioFolder, name: str) -> float | None:
    """When the process began that was started last for a run."""
    job = jobs.read_job(studio.runs / name)
    return None if job is None else job.created


def stop(studio: StudioFolder, name: str, now: bool = False) -> str:
    """End a training after its step, or at once; one that waits leaves the queue."""
    for path in sorted(studio.jobs.glob("*.json")):
        if read_json(path)["name"] == name:
            path.unlink()
            return f"{name} no longer waits"
    jobs.stop(run_folder(studio, name), now)
    return f"{name} was ended; its last checkpoint is there" if now else f"{name} ends after this step"


def run_folder(studio: StudioFolder, name: str) -> Path:
    """The folder of a run by its name. ValueError for one that is not there."""
    known = [path.name for path in studio.runs.iterdir()] if studio.runs.is_dir() else []
    if name not in known:
        raise ValueError(f"there is no run {shown(name)}; start one first")
    return studio.runs / name


def runs(studio: StudioFolder, thing: str = "") -> list[str]:
    """Names of the trainings that were started here, the latest first; of one thing, if it is given.

    New ones that wait for their turn come before them.
    """
    queue, found = waiting(studio), []
    for name in jobs.all_jobs(studio.runs):
        job = jobs.read_job(studio.runs / name)
        if job is not None and (not thing or thing in _things(studio, name, job.arguments)):
            found.append(name)
    new = [name for name, asked in queue.items() if not thing or thing in _things(studio, name, asked)]
    return [*(name for name in new if name not in found), *found]


def _things(studio: StudioFolder, run: str, arguments: Sequence[str]) -> list[str]:
    """What a run learns, as its configuration or else its command says."""
    file = studio.runs / run / "config.yaml"
    if file.is_file():
        try:
            return list(load_config(file).data.concepts)
        except ValueError:
            return []
    return [name for name in studio.names() if f'data.concepts=["{name}"]' in arguments]


# what is to be seen


def live(studio: StudioFolder, name: str) -> Live:
    """What a run shows now. ValueError for a run that was never started in the background."""
    folder = run_folder(studio, name)
    state = jobs.state(folder)
    metrics = read_metrics(folder / "metrics.jsonl")
    tried, drawn = last_tried(folder)
    log = log_tail(folder)
    alarm = next((line for line in reversed(log) if ALARM in line), "")
    if not alarm and metrics and metrics[-1].get("val/diverged"):
        alarm = f"on prompts that training never sees the reward rises while an independent judge falls: {ALARM}"
    return Live(state, _rewards(metrics), tried, drawn, _figures(state, metrics), log, alarm)


def _rewards(metrics: Sequence[dict[str, float]]) -> dict[str, list[tuple[float, float]]]:
    titles = {"reward": "reward", "text/reward": "of texts", "image/reward": "of pictures"}
    found = {}
    for key, title in titles.items():
        points = [(row["step"], row[key]) for row in metrics if key in row]
        if points:
            found[title] = points
    return found


def _figures(state: jobs.State, metrics: Sequence[dict[str, float]]) -> dict[str, str]:
    figures = {"step": f"{state.step} of {state.steps}" if state.steps else "starting"}
    if state.name in GOING:
        left = time_left(metrics, state.steps - state.step)
        if left is not None:
            figures["time left"] = duration(left)
    last: dict[str, float] = {}
    for row in metrics:
        last.update(row)
    if "reward" in last:
        figures["reward"] = f"{last['reward']:.3f}"
    if "dgs/acceptance_rate" in last:
        figures["candidates kept"] = f"{100 * last['dgs/acceptance_rate']:.0f} %"
    if "perf/peak_memory_mb" in last:
        figures["memory at most"] = f"{last['perf/peak_memory_mb'] / 1024:.1f} GiB"
    return figures


def time_left(metrics: Sequence[dict[str, float]], steps: int) -> float | None:
    """Seconds until the end. Steps that draw take many times as long as others, so each kind has its own median."""
    if not metrics or steps <= 0:
        return None
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for row in metrics:
        seconds = sum(value for key, value in row.items() if key.startswith("perf/") and key.endswith("_time_s"))
        kinds["image/reward" in row].append(seconds)
    total = 0.0
    for times in kinds.values():
        if times:
            total += steps * len(times) / len(metrics) * statistics.median(times[-LAST_TIMES:])
    return total


def duration(seconds: float) -> str:
    """In words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def last_tried(folder: Path, most: int = 12) -> tuple[list[Tried], int]:
    """The candidates of the last step whose trajectories were saved, and its number; those with pictures first."""
    files = sorted((folder / "trajectories").glob("step_*.parquet"))
    if not files:
        return [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = read_trajectories(folder / "trajectories", [], files[-1].name)
    found = []
    for row in rows:
        picture = row["image"] or row["preview"]
        if picture is not None:
            score = row["reward"] if row["kept"] else row["preview_score"]
            found.append(Tried(row["drawing_prompt"] or row["completion"], bool(row["kept"]), score, picture))
    found.sort(key=lambda one: not one.kept)
    return found[:most], _step(files[-1])


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def log_tail(folder: Path) -> list[str]:
    """The last lines that the training wrote, without colours."""
    path = folder / jobs.LOG
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8000))
        text = file.read().decode(errors="replace")
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("\r", "\n")
    return [line.rstrip() for line in plain.splitlines() if line.strip()][-LOG_LINES:]
