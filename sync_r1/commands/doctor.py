"""`sync-r1 doctor`: what is installed, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_r1.console import open_console, say, say_json

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "missing": ("✗", "red")}  # of a check


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Say what is installed, which device is used, what is missing and how to get it.

    Exits with 1 when something needed is missing. Example: sync-r1 doctor
    """
    from sync_r1.doctor import as_rows, examine, healthy

    checks = examine()
    if as_json:
        say_json(as_rows(checks))
    else:
        from rich.text import Text

        console = open_console()
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, color = MARKS[check.state]
            hint = (f"  → {check.hint}", "yellow") if check.hint else ""
            console.print(Text.assemble((mark, color), f"  {check.name:{width}}  {check.detail}", hint))
        if healthy(checks):
            say("Everything needed is here.", "green", console=console)
        else:
            say("Something needed is missing, see ✗.", "red", console=console)
    if not healthy(checks):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(doctor)
