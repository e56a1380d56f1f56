"""`sync-r1 edit | vary`: draw a part of a picture again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.inference import changed_sampling, noted, open_session
from sync_r1.commands.options import (
    ConceptOption,
    CountOption,
    DataOption,
    DeviceOption,
    GuidanceOption,
    ModelOption,
    OutOption,
    PictureArgument,
    RunOption,
    SeedOption,
    StepsOption,
    TemperatureOption,
)
from sync_r1.console import say


def edit(
    picture: PictureArgument,
    prompt: Annotated[str, typer.Argument(help='The whole picture as it is to become: "a photo of bo with a kite".')],
    region: Annotated[
        str,
        typer.Option(
            "--region",
            help="What to draw again: x0,y0,x1,y1 in pixels; a mask of the picture's size (its transparent pixels, or "
            "else its white ones); in the embedded world also hat, 'left hand', 'right hand', chest, body, background.",
        ),
    ],
    n: CountOption = 1,
    seed: SeedOption = 0,
    out: OutOption = Path("drawings"),
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    temperature: TemperatureOption = None,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a part of a picture again. Pixels outside the region stay exactly as they are.

    Example: sync-r1 edit bo.png "a photo of bo wearing a crown" --region hat --run runs/demo
    """
    from sync_r1.data import verify_images
    from sync_r1.drawings import save_pictures

    verify_images([picture])
    with noted():
        session = open_session(run, model, data, concept, device)
        sampling = changed_sampling(session.image_sampling, steps, guidance, temperature)
        drawn = session.edit(picture, region, prompt, n, seed, sampling)
        paths = save_pictures([drawing.image for drawing in drawn], out)
    for path in paths:
        say(str(path))


def vary(
    picture: PictureArgument,
    share: Annotated[float, typer.Option(help="Share of the picture that is drawn again, above 0 and up to 1.")] = 0.4,
    prompt: Annotated[
        str | None, typer.Option(help="Default: the one that the picture was drawn from, else a photo of the concept.")
    ] = None,
    n: CountOption = 4,
    seed: SeedOption = 0,
    out: OutOption = Path("drawings"),
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    temperature: TemperatureOption = None,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a random share of a picture again, another share for every seed.

    Example: sync-r1 vary drawings/bo.png --share 0.4 -n 4 --run runs/demo
    """
    from sync_r1.data import verify_images
    from sync_r1.drawings import save_pictures

    verify_images([picture])
    with noted():
        session = open_session(run, model, data, concept, device)
        sampling = changed_sampling(session.image_sampling, steps, guidance, temperature)
        drawn = session.vary(picture, share, n, seed, prompt=prompt, sampling=sampling)
        paths = save_pictures([drawing.image for drawing in drawn], out)
    for path in paths:
        say(str(path))


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (edit, vary):
        app.command()(command)
