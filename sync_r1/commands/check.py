"""`sync-r1 check`: the model reads a picture against a prompt, and repairs what it finds wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.inference import noted
from sync_r1.commands.options import (
    AsJson,
    ConceptsOption,
    DataOption,
    DeviceOption,
    ModelOption,
    OutOption,
    PictureArgument,
    RunsOption,
    SeedOption,
)
from sync_r1.console import say, say_json

if TYPE_CHECKING:
    from sync_r1.apps.check import Check


def check(
    picture: PictureArgument,
    prompt: Annotated[str, typer.Argument(help='What the picture should show: "a photo of bo holding a kite".')],
    mend: Annotated[bool, typer.Option("--repair", help="Draw the regions of what is wrong again.")] = False,
    tries: Annotated[int, typer.Option(min=1, help="With --repair: how many pictures to choose from.")] = 4,
    seed: SeedOption = 0,
    out: OutOption = Path("drawings"),
    run: RunsOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptsOption = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Let the model read a picture and tick or cross everything that the prompt asks for.

    It asks the questions of the embedded world. With --repair what is crossed is drawn again, every other pixel stays,
    and the new picture is written where it has fewer crosses. A picture of two is read half by half; give both runs.

    Example: sync-r1 check drawings/bo.png "a photo of bo holding a kite" --repair --run runs/demo
    """
    from sync_r1.apps.check import check as read
    from sync_r1.apps.check import repair
    from sync_r1.apps.together import open_together
    from sync_r1.data import verify_images
    from sync_r1.drawings import save_pictures

    verify_images([picture])
    path: Path | None = None
    with noted():
        session = open_together(concept or [], run or [], model, data, device)
        if mend:
            mended = repair(session, picture, prompt, tries, seed)
            before, checks = mended.before, mended.after
            if mended.drawing is not None:
                path = save_pictures([mended.image], out)[0]
        else:
            before = checks = read(session, picture, prompt)
    if as_json:
        say_json({"picture": str(path or picture), "before": _rows(before), "checks": _rows(checks)})
        return
    _show(before)
    if path is not None:
        say(str(path))
        _show(checks)
    elif mend and not all(one.right for one in before):
        say(f"none of {tries} tries had fewer mistakes, so the picture stays as it is; try another --seed", "yellow")


def _rows(checks: list[Check]) -> list[dict[str, str | bool]]:
    return [{"word": one.word, "asked": one.asked, "read": one.read, "right": one.right} for one in checks]


def _show(checks: list[Check]) -> None:
    width = max([8, *(len(one.word) + 1 for one in checks)])
    for one in checks:
        found = one.asked if one.right else f"{one.asked}, but reads {one.read}"
        say(f"{'✓' if one.right else '✗'}  {one.word:{width}}{found}", "" if one.right else "red")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(check)
