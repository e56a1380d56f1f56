"""The command line: `sync-r1 <command>`. One app; families of commands live in sync_r1/commands/."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sync_r1 import __version__
from sync_r1.commands import (
    concept,
    data,
    edit,
    inference,
    judge,
    models,
    sft,
    study,
    train,
    unifybench,
    world,
)
from sync_r1.signals import Stopped, on_signal

app = typer.Typer(
    name="sync-r1",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Errors are one line; SYNC_R1_DEBUG=1 shows where they come from.",
)
train.register(app)
sft.register(app)
inference.register(app)
edit.register(app)
app.command()(study.study)
for name, family in {
    "bench": unifybench,
    "concept": concept,
    "data": data,
    "judge": judge,
    "models": models,
    "world": world,
}.items():
    app.add_typer(family.app, name=name)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sync-r1 {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sync-R1: one model that understands and draws your things, trained in a single loop."""


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run directory, for example runs/demo.")],
    sheet: Annotated[bool, typer.Option(help="Also write sheet.png, the before/after pictures on one sheet.")] = True,
) -> None:
    """Write report.html (and sheet.png) of a run from its files.

    Example: sync-r1 report runs/demo
    """
    from sync_r1.report import write_report, write_sheet

    typer.echo(f"report  {write_report(run)}")
    if sheet and (picture := write_sheet(run)):
        typer.echo(f"sheet   {picture}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Say what is installed, which device is used, what is missing and how to get it.

    Exits with 1 when something needed is missing. Example: sync-r1 doctor
    """
    import json

    from sync_r1.doctor import as_rows, examine, healthy

    checks = examine()
    if as_json:
        typer.echo(json.dumps(as_rows(checks), indent=2))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        marks = {"ok": ("✓", "green"), "note": ("·", "yellow"), "missing": ("✗", "red")}
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for check in checks:
            mark, color = marks[check.state]
            table.add_row(Text(mark, color), check.name, Text(check.detail), Text(check.hint, "yellow"))
        console = Console()
        console.print(table)
        console.print(
            Text("Everything needed is here.", "green")
            if healthy(checks)
            else Text("Something needed is missing, see ✗.", "red")
        )
    if not healthy(checks):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: what a user can mend is one red line `error: …` and exit code 2, never a traceback.

    A stop by a signal is one line, too, and the exit code that shells expect.
    """
    try:
        with on_signal():
            app()
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":  # one process of a launch speaks
            with suppress(OSError):  # the terminal may be gone
                typer.secho(stopped.line(), fg="yellow", err=True)
        raise
    except (ValueError, OSError) as error:
        if os.environ.get("SYNC_R1_DEBUG") == "1":
            raise
        typer.secho(f"error: {' '.join(str(error).split()) or type(error).__name__}", fg="red", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
