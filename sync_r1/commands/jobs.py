"""`sync-r1 jobs`, `watch` and `stop`: trainings in the background."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.console import say, say_json, show_table

if TYPE_CHECKING:
    from sync_r1.apps.jobs import State

RunFolder = Annotated[Path, typer.Argument(help="Run folder, for example runs/momo.")]
LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands to the top level of `app`."""
    app.command()(jobs)
    app.command()(watch)
    app.command()(stop)


def jobs(
    runs: Annotated[Path, typer.Argument(help="Folder of all runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the trainings that were started with train --background, the latest first.

    Example: sync-r1 jobs
    """
    from dataclasses import asdict

    from rich.box import SIMPLE
    from rich.table import Table

    from sync_r1.apps.jobs import all_jobs

    found = all_jobs(runs)
    if as_json:
        say_json({name: asdict(state) for name, state in found.items()})
        return
    if not found:
        say(f"no training in {runs} was started in the background; start one with: sync-r1 train … --background")
        return
    table = Table("run", "state", "step", "last line", box=SIMPLE)
    for name, state in found.items():
        table.add_row(name, state.name, f"{state.step}/{state.steps}", state.line)
    show_table(table)
    for name, state in found.items():
        if state.command:
            say(f"{name}: go on with: {state.command}")


def watch(run: RunFolder) -> None:
    """Show a training's log as it grows, until it ends; Ctrl-C leaves the training alone.

    Example: sync-r1 watch runs/momo
    """
    import time

    from sync_r1.apps.jobs import LOG, state

    now = state(run)
    with (run / LOG).open(encoding="utf-8", errors="replace") as log:
        while True:
            running = now.name in ("running", "stopping")
            for line in log:
                say(line.rstrip("\n"))
            if not running:
                break
            time.sleep(LOOK_S)
            now = state(run)
    say(_status_line(run, now))


def stop(
    run: RunFolder,
    now: Annotated[bool, typer.Option("--now", help="Kill it at once; the last checkpoint stays.")] = False,
) -> None:
    """Let a training end after its step, with a checkpoint.

    Example: sync-r1 stop runs/momo
    """
    from sync_r1.apps.jobs import stop as end

    found = end(run, now)
    say(_status_line(run, found) if now else f"{run} ends after its step; see sync-r1 watch {run}")


def _status_line(run: Path, state: State) -> str:
    line = f"{run} is {state.name} at step {state.step} of {state.steps}"
    return f"{line}; go on with: {state.command}" if state.command else line
