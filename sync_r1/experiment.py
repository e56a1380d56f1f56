"""One experiment: evaluate, train, evaluate again with another judge, compare, report. `demo` and `train` are both this."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar

from sync_r1 import __version__
from sync_r1.bench.evaluate import evaluate
from sync_r1.bench.result import EvalResult
from sync_r1.bench.stats import compare
from sync_r1.bench.tasks import build_items
from sync_r1.config import Config
from sync_r1.report import save_concept_card, write_report, write_sheet
from sync_r1.rl.rewards import RewardEnsemble, blend, build_rewards
from sync_r1.rl.rollout import PreviewScore, tasks_of
from sync_r1.rl.state import resolve_checkpoint
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.scorers import rewards as ready_made
from sync_r1.session import WORLD, Session
from sync_r1.world.assets import EVALUATOR, REWARD_MODELS, load_evaluator_reader, load_reward_reader, load_world_clip
from sync_r1.world.export import export_world
from sync_r1.world.judge import WorldJudge

LIBRARIES = ("torch", "transformers", "accelerate", "numpy")


def run_experiment(config: Config, console: Console, resume: str | None = None, compare_phases: bool = True) -> dict[str, Any]:
    """Train one concept as configured and return the summary, which is also in `<run>/summary.json` beside the report.

    Args:
        resume: checkpoint folder or "latest". Evaluations that are already there are kept.
        compare_phases: False trains only.
    Raises:
        ValueError: wrong configuration or data, before any weight moves.
    """
    started, folder = time.monotonic(), config.run.folder
    if not resume and (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder} holds an earlier run; continue it with --resume latest, choose another run.name, or delete the folder")
    if resume:
        resolve_checkpoint(resume, folder / "checkpoints")
    disable_progress_bar()  # of transformers' weight loading, which takes no time here
    rewards, preview = build_scorers(config)
    folder.mkdir(parents=True, exist_ok=True)
    session = open_session(config)
    concept = session.concept
    save_concept_card(
        folder, name=concept.name, class_noun=concept.class_noun, info=concept.info, facts=concept.facts, pictures=concept.train_images[:6]
    )
    console.print(f"[bold]{concept.info}[/bold] {' '.join(concept.facts)}")
    before = evaluate_phase(session, config, "before", console, keep=bool(resume)) if compare_phases else None
    tasks = tasks_of(concept, session.tokens.tokens)
    trainer = SyncGRPOTrainer(session.model, config, tasks, rewards, preview, console)
    trainer.train(resume_from_checkpoint=resume)
    finished = trainer.state.global_step >= config.rl.max_steps
    summary: dict[str, Any] = {"concept": concept.name, "seed": config.run.seed, "steps": trainer.state.global_step}
    session.run = f"{config.run.name}/step_{trainer.state.global_step}"
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
    return Session.open(
        model=config.model.path,
        data=root,
        concept=names[0],
        device=config.run.device,
        options=config.eval,
        num_tokens=config.model.num_tokens,
    )


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
    total = len(build_items(session.concept, root=session.root, tasks=config.eval.tasks, max_items=config.eval.max_items))
    with progress_bar(console, f"evaluate {phase}", total) as progress:
        judge = WorldJudge(load_evaluator_reader())
        return evaluate(session, out, phase, image_judge=judge, clip=load_world_clip(), judge_name=EVALUATOR, progress=progress)


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[[str, int, int], None]]:
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
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / 2**20)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def result_table(summary: dict[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows (what, n, before, after, difference, 95 % interval) for the terminal."""
    parts = {**{half: summary[half] for half in ("understanding", "generation") if half in summary}, **summary["tasks"]}
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
