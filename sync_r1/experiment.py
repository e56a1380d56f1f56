"""One experiment: evaluate, train, evaluate again with another judge, compare, report. `demo` and `train` are both this."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sync_r1 import __version__
from sync_r1.bench.predict import predict
from sync_r1.bench.result import EvalResult
from sync_r1.bench.score import score
from sync_r1.bench.stats import compare
from sync_r1.bench.tasks import build_items
from sync_r1.config import Config
from sync_r1.report import write_report, write_sheet
from sync_r1.rl.rewards import RewardEnsemble, blend, build_rewards
from sync_r1.rl.rollout import PreviewScore, tasks_of
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.scorers import rewards as ready_made
from sync_r1.session import WORLD, Session
from sync_r1.world.assets import load_evaluator_reader, load_reward_reader, load_world_clip
from sync_r1.world.export import export_world
from sync_r1.world.judge import WorldJudge

EVALUATOR = "world evaluator (attention over patches)"
REWARD_MODELS = ["world CLIP", "world reward reader (convolutions)"]
LIBRARIES = ("torch", "transformers", "accelerate", "numpy")


def run_experiment(config: Config, console: Console, resume: str | None = None, evaluate: bool = True) -> dict[str, Any]:
    """Train one concept as configured and return the summary, which is also in `<run>/summary.json` beside the report.

    Args:
        resume: checkpoint folder or "latest". Evaluations that are already there are kept.
        evaluate: False trains only.
    Raises:
        ValueError: wrong configuration or data, before any weight moves.
    """
    started, folder = time.monotonic(), config.run.folder
    if not resume and (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder} holds an earlier run; continue it with --resume latest, choose another run.name, or delete the folder")
    folder.mkdir(parents=True, exist_ok=True)
    session = open_session(config)
    console.print(f"[bold]{session.concept.info}[/bold]  {' '.join(session.concept.facts)}")
    before = evaluate_phase(session, config, "before", console, keep=bool(resume)) if evaluate else None
    rewards, preview = build_scorers(config)
    tasks = tasks_of(session.concept, session.tokens.tokens)
    trainer = SyncGRPOTrainer(session.model, config, tasks, rewards, preview, console)
    trainer.train(resume_from_checkpoint=resume)
    finished = trainer.state.global_step >= config.rl.max_steps
    summary: dict[str, Any] = {"concept": session.concept.name, "seed": config.run.seed, "steps": trainer.state.global_step}
    if before is not None and finished:
        after = evaluate_phase(session, config, "after", console)
        summary |= {**compare(before, after), "evaluator": EVALUATOR}
    summary |= {
        "reward_models": REWARD_MODELS,
        "nfe": trainer.sync_state.nfe,
        "wall_time_s": round(time.monotonic() - started, 1),
        "peak_memory_mb": peak_memory_mb(),
        "versions": {"sync-r1": __version__, "python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }
    write_json(folder / "summary.json", summary)
    if finished:
        console.print(f"report  {write_report(folder)}")
        if sheet := write_sheet(folder):
            console.print(f"sheet   {sheet}")
    return summary


def open_session(config: Config) -> Session:
    """The model with its concept. The embedded world is exported into the run folder first and read back like anybody's data."""
    root: Path | str = config.data.root
    names = config.data.concepts
    if len(names) != 1:
        raise ValueError(f"data.concepts is {names}; name the one concept to learn, for example --concept bo")
    if root == WORLD:
        root = config.run.folder / "data"
        if not root.is_dir():
            export_world(root, names)
    return Session.open(model=config.model.path, data=root, concept=names[0], device=config.run.device, options=config.eval)


def build_scorers(config: Config) -> tuple[RewardEnsemble, PreviewScore]:
    """The reward ensemble by name, and the score of previews: a·CLIP-I + (1 − a)·CLIP-T."""
    clip = ready_made.ClipRewards(load_world_clip())
    judge = ready_made.JudgeRewards(WorldJudge(load_reward_reader(), soft=True))
    library: dict[str, Any] = {
        "rewrite": (ready_made.rewrite, "text"),
        "answer": (ready_made.answer, "text"),
        "identity": (clip.identity, "image"),
        "alignment": (clip.alignment, "image"),
        "likeness": (judge.likeness, "image"),
        "faithfulness": (judge.faithfulness, "image"),
    }
    ensemble = build_rewards(config.rl.reward_weights, library, config.rl.custom_rewards)
    return ensemble, blend(clip.identity, clip.alignment, config.rl.dgs_image_weight)


def evaluate_phase(session: Session, config: Config, phase: str, console: Console, keep: bool = False) -> EvalResult:
    """Predict and score the held-out items with the evaluator that no reward uses; written to `<run>/eval/<phase>.json`."""
    out = config.run.folder / "eval"
    if keep and (out / f"{phase}.json").is_file():
        return EvalResult.read(out / f"{phase}.json")
    options = config.eval
    items = build_items(session.concept, root=session.root, tasks=options.tasks, max_items=options.max_items, seed=options.seed)
    with progress_bar(console, f"evaluate {phase}", len(items)) as progress:
        predictions = predict(session, items, out, phase, progress)
    judge = WorldJudge(load_evaluator_reader())
    result = score(items, predictions, session.concept, judge, load_world_clip(), out=out, judge_name=EVALUATOR, seed=options.seed)
    result.write(out / f"{phase}.json")
    return result


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Any:
    """A bar over all items; yields what `predict` calls with (task, done, of)."""
    done: dict[str, int] = {}
    columns = (TextColumn("{task.description:32}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=total)

        def advance(task: str, count: int, _: int) -> None:
            done[task] = count
            progress.update(bar, completed=sum(done.values()), description=f"{title}: {task}")

        yield advance
        progress.update(bar, completed=total, description=title)


def peak_memory_mb() -> int:
    """Largest resident size of this process so far; of the GPU's allocations where there is one."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)



def result_table(summary: dict[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows (what, n, before, after, difference, 95 % interval) for the terminal."""
    parts = {"understanding": summary["understanding"], "generation": summary["generation"], **summary["tasks"]}
    return [
        (
            name,
            str(row["n"]),
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['delta']:+.3f}",
            f"[{row['ci95'][0]:+.3f}, {row['ci95'][1]:+.3f}]",
        )
        for name, row in parts.items()
    ]
