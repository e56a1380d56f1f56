"""`sync-r1 sft`: warm a concept's tokens up, or train the supervised baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sync_r1.console import open_console, say

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Options as section.option=value, for example sft.epochs=10.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the top level of `app`."""
    app.command()(sft)


def sft(
    overrides: Overrides = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="1, 2, 3, photos or baseline; repeat to run several in order.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "A starting point (world, demo, showo-256, showo-512), then changes such as label-free; repeat the "
                "option."
            )
        ),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="YAML file, for example a run's config.yaml.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model folder or hub id, or 'world'.")] = None,
    data: Annotated[str | None, typer.Option(help="Data folder, or 'world'.")] = None,
    concept: Annotated[str | None, typer.Option(help="Name of the concept to learn.")] = None,
    resume: Annotated[str | None, typer.Option(help="Checkpoint folder, or 'latest'.")] = None,
    evaluate: Annotated[bool, typer.Option(help="Evaluate before and after, and compare.")] = False,
) -> None:
    """Train a concept's tokens by next-token and masked-token losses: UniCTokens' stages 1 to 3, or the baseline RL is
    compared with.

    Example: sync-r1 sft --stage 1 --stage 2 --recipe showo-512 --data mine --concept rex run.name=rex-warm

    Then: sync-r1 train --recipe showo-512 --model runs/rex-warm/checkpoints/step_00500 --data mine --concept rex
        run.name=rex
    """

    from sync_r1.commands.train import exit_if_stopped, print_comparison
    from sync_r1.config import load_config
    from sync_r1.experiment import run_warm_up
    from sync_r1.recipes import apply_recipes

    given = {"model.path": model, "data.root": data}
    pairs = [f"{key}={value}" for key, value in given.items() if value is not None]
    if concept:
        pairs += [f"data.concepts={json.dumps([concept])}"]
    if stage:
        pairs += [f"sft.stages=[{','.join(stage)}]"]
    config = load_config(config_file, [*pairs, *(overrides or [])], base=apply_recipes(recipe or []))
    console = open_console()
    summary = run_warm_up(config, console, resume, evaluate)
    print_comparison(summary, console)
    exit_if_stopped(summary)
    if summary["finished"]:
        say(f"checkpoint  {summary['checkpoint']}")
