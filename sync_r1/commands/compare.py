"""`sync-r1 compare`: runs side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.inference import noted
from sync_r1.commands.options import DeviceOption
from sync_r1.console import say


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run or checkpoint folders.")],
    prompts: Annotated[Path, typer.Option(help="A text file, one prompt a line.")],
    out: Annotated[Path, typer.Option(help="The HTML page.")] = Path("compare.html"),
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=20, help="Pictures of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture.")] = 0,
    blind: Annotated[
        bool, typer.Option("--blind", help="Shuffle the pictures of a prompt and hide the names.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Draw the same prompts with the same seeds from several runs, with the scores of their evaluations beside.

    Example: sync-r1 compare runs/a runs/b --prompts prompts.txt --out compare.html
    """
    from sync_r1.apps.compare import grid, open_all, read_prompts, scores, write_page

    texts = read_prompts(prompts)
    with noted():
        sessions = open_all(runs, device)
        rows = grid(sessions, texts, range(seed, seed + n))
        table = scores(runs)
    if not table and not blind:
        say("no scores: not every one is a run with an evaluation (eval/after.json)", "yellow", err=True)
    say(f"written  {write_page(out, list(sessions), rows, table, blind)}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(compare)
