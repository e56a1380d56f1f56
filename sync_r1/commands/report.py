"""`sync-r1 report`: the page of a run, from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.console import say


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, for example runs/demo.")],
    sheet: Annotated[bool, typer.Option(help="Also write sheet.png, the before/after pictures on one sheet.")] = True,
) -> None:
    """Write report.html (and sheet.png) of a run from its files.

    Example: sync-r1 report runs/demo
    """
    from sync_r1.report import write_report, write_sheet

    say(f"report  {write_report(run)}")
    if sheet and (picture := write_sheet(run)):
        say(f"sheet   {picture}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(report)
