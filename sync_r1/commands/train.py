"""`sync-r1 demo` and `sync-r1 train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_r1.commands.options import (
    ConfigFileOption,
    EvaluateOption,
    LearnedConceptOption,
    RecipeOption,
    ResumeOption,
    StartModelOption,
    TrainingDataOption,
)
from sync_r1.console import open_console, say, show_table, speaks

if TYPE_CHECKING:
    from rich.console import Console

    from sync_r1.config import Config

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Options as section.option=value, for example rl.max_steps=100.")
]


def register(app: typer.Typer) -> None:
    """Add both commands to the top level of `app`."""
    app.command()(demo)
    app.command()(train)


def demo(
    overrides: Overrides = None,
    concept: Annotated[str, typer.Option(help="One of the world's twenty (sync-r1 concept list --data world).")] = "bo",
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0,
    fresh: Annotated[
        bool,
        typer.Option(
            help="An earlier runs/demo gives way once the new one has passed its checks; one of another name never."
        ),
    ] = True,
) -> None:
    """The whole story in minutes on two CPU cores: evaluate, look at photos, train with Sync-GRPO and DGS, evaluate,
    report.

    Example: sync-r1 demo --seed 2 run.name=demo-seed2
    """
    from sync_r1.progress import loading

    with loading(open_console()):
        from sync_r1.config import load_config
        from sync_r1.recipes import apply_recipes

        base = apply_recipes(["demo"])
        base_name = "demo"
        base.run.name, base.run.seed, base.data.concepts = base_name, seed, [concept]
        config = load_config(None, overrides or [], base=base)
        _import_training()
    earlier = config.run.name == base_name and (config.run.folder / "config.yaml").is_file()
    _run(config, None, fresh=fresh and earlier)


def train(
    overrides: Overrides = None,
    recipe: RecipeOption = None,
    config_file: ConfigFileOption = None,
    model: StartModelOption = None,
    data: TrainingDataOption = None,
    concept: LearnedConceptOption = None,
    resume: ResumeOption = None,
    evaluate: EvaluateOption = True,
    show: Annotated[bool, typer.Option("--show-config", help="Print the resolved configuration and stop.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Estimate memory and time without loading weights, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimate of --dry-run as JSON.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Start it and return; see sync-r1 jobs, watch and stop.")
    ] = False,
) -> None:
    """Train one concept with Sync-GRPO. Defaults < --recipe < --config < options below < overrides.

    Example: sync-r1 train --recipe demo --data mine --concept rex run.name=rex

    Go on after a stop: sync-r1 train --config runs/rex/config.yaml --resume latest

    What it will cost: sync-r1 train --recipe showo-512 --model showlab/show-o-512x512 --dry-run
    """
    from sync_r1.progress import loading

    trains = not (show or dry or background)
    with loading(open_console(quiet=not trains or not speaks())):
        config = read_config(recipe, config_file, model, data, concept, overrides or [])
        if trains:
            _import_training()
    if show:
        from dataclasses import asdict

        import yaml

        say(yaml.safe_dump(asdict(config), sort_keys=False))
        return
    if dry:
        from sync_r1.commands.dry_run import dry_run

        dry_run(config, as_json)
        return
    if background:
        from sync_r1.apps.jobs import start

        job = start([argument for argument in sys.argv[1:] if argument != "--background"], config.run.folder)
        say(f"process {job.pid} trains {config.run.folder}; follow it with: sync-r1 watch {config.run.folder}")
        return
    _run(config, resume, evaluate)


def read_config(
    recipe: list[str] | None,
    config_file: Path | None,
    model: str | None,
    data: str | None,
    concept: str | None,
    overrides: list[str],
) -> Config:
    """The configuration of a run: recipes < file < model, data and concept < overrides, validated."""
    from sync_r1.config import load_config
    from sync_r1.recipes import apply_recipes

    given = {"model.path": model, "data.root": data}
    pairs = [f"{key}={value}" for key, value in given.items() if value is not None]
    if concept:
        pairs.append(f"data.concepts={json.dumps([concept])}")
    return load_config(config_file, [*pairs, *overrides], base=apply_recipes(recipe or []))


def _import_training() -> None:
    """What a training is made of: the longest part of its start."""
    import sync_r1.experiment  # noqa: F401


def _run(config: Config, resume: str | None, evaluate: bool = True, fresh: bool = False) -> None:
    from sync_r1.experiment import run_experiment

    console = open_console(quiet=not speaks())
    summary = run_experiment(config, console, resume, evaluate, fresh)
    print_comparison(summary, console)
    exit_if_stopped(summary)


def exit_if_stopped(summary: dict[str, Any]) -> None:
    """A run that a signal ended is no success: `train && draw` must not go on with half of it."""
    from sync_r1.signals import exit_code

    if number := summary.get("stopped"):
        raise typer.Exit(exit_code(number))


def print_comparison(summary: dict[str, Any], console: Console) -> None:
    """What changed, what it cost, and what the evaluation shares with the reward.

    Nothing when there was no comparison.
    """
    from sync_r1.unifybench.tables import comparison_table

    if "tasks" not in summary:
        return
    show_table(comparison_table(summary, "held-out", "n", "before", "after", "change"), console)
    for note in summary.get("evaluator_notes", []):
        say(f"note: {note}", "yellow", console=console)
    minutes, memory = f"{summary['wall_time_s'] / 60:.1f} min", f"peak memory {summary['peak_memory_mb']} MB"
    say(f"{minutes}, {memory}, {summary['nfe']} image evaluations", console=console)
