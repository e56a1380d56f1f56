"""`sync-r1 sft`: warm a concept's tokens up, or train the supervised baseline."""

from __future__ import annotations

from typing import Annotated

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
from sync_r1.commands.train import exit_if_stopped, print_comparison, read_config
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
    recipe: RecipeOption = None,
    config_file: ConfigFileOption = None,
    model: StartModelOption = None,
    data: TrainingDataOption = None,
    concept: LearnedConceptOption = None,
    resume: ResumeOption = None,
    evaluate: EvaluateOption = False,
) -> None:
    """Train a concept's tokens by next-token and masked-token losses: UniCTokens' stages 1 to 3, or the baseline RL is
    compared with.

    Example: sync-r1 sft --stage 1 --stage 2 --recipe showo-512 --data mine --concept rex run.name=rex-warm

    Then: sync-r1 train --recipe showo-512 --model runs/rex-warm/checkpoints/step_00500 --data mine --concept rex
        run.name=rex
    """
    from sync_r1.progress import loading

    more = [f"sft.stages=[{','.join(stage)}]"] if stage else []
    console = open_console()
    with loading(console):
        config = read_config(recipe, config_file, model, data, concept, [*more, *(overrides or [])])
        from sync_r1.experiment import run_warm_up

    summary = run_warm_up(config, console, resume, evaluate)
    print_comparison(summary, console)
    exit_if_stopped(summary)
    if summary["finished"]:
        say(f"checkpoint  {summary['checkpoint']}")
