"""Options and arguments that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Which model, concept and device: everything that uses a trained concept.
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run folder (its newest checkpoint) or one checkpoint folder.")
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Model folder or hub id, or 'world' for the shipped one. --run replaces it.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", envvar="SYNC_R1_DATA", help="Concept store, or 'world'. Default: the one of the run, else 'world'."
    ),
]
ConceptOption = Annotated[
    str | None, typer.Option("--concept", help="Name of the concept. Not needed when the run learned only one.")
]
ConceptsOption = Annotated[list[str] | None, typer.Option("--concept", help="Name of a concept; repeat for more.")]
RunsOption = Annotated[
    list[Path] | None,
    typer.Option("--run", help="Run folder or checkpoint; repeat for more things, each with its run."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
WhyOption = Annotated[bool, typer.Option("--why", help="Show what each thing that the model read did for the text.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# How pictures are drawn: draw, edit, vary and check.
PictureArgument = Annotated[
    Path, typer.Argument(metavar="PIC", help="The picture (png, jpg, webp); it is not changed.")
]
CountOption = Annotated[int, typer.Option("-n", "--n", help="How many pictures; they get the seeds seed, seed+1, …")]
SeedOption = Annotated[int, typer.Option(help="Seed of the first picture.")]
OutOption = Annotated[Path, typer.Option(help="Folder for the PNG files.")]
StepsOption = Annotated[int | None, typer.Option(help="Decoding steps. Default: as the run evaluates.")]
GuidanceOption = Annotated[float | None, typer.Option(help="Guidance scale; 0 is off.")]
TemperatureOption = Annotated[float | None, typer.Option(help="Lower is safer, higher more varied.")]

# What a run learns, and from where: train and sft.
RecipeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        help="A starting point (world, demo, showo-256, showo-512), then changes such as label-free; repeat the "
        "option.",
    ),
]
ConfigFileOption = Annotated[Path | None, typer.Option("--config", help="YAML file, for example a run's config.yaml.")]
StartModelOption = Annotated[str | None, typer.Option("--model", help="Model folder or hub id, or 'world'.")]
TrainingDataOption = Annotated[str | None, typer.Option("--data", help="Data folder, or 'world'.")]
LearnedConceptOption = Annotated[str | None, typer.Option("--concept", help="Name of the concept to learn.")]
ResumeOption = Annotated[str | None, typer.Option("--resume", help="Checkpoint folder, or 'latest'.")]
EvaluateOption = Annotated[
    bool, typer.Option("--evaluate/--no-evaluate", help="Evaluate before and after, and compare.")
]
FeedbackOption = Annotated[Path, typer.Option("--feedback", help="Folder of the thumbs and of what was learned.")]
