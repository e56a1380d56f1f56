"""`sync-r1 study`: run a grid of experiments and write what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_r1.console import open_console, say

if TYPE_CHECKING:
    from rich.console import Console

    from sync_r1.study.runner import Runner

VERDICTS = {True: ("holds", "green"), False: ("does not hold", "red"), None: ("too few cells yet", "yellow")}


def study(
    file: Annotated[Path, typer.Argument(help="Study file.")] = Path("studies/claims.yaml"),
    folder: Annotated[Path, typer.Option(help="Where the runs go; the study's name is added.")] = Path("runs/study"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Results without suffix: .md, .json and figures are added.",
            show_default="docs/results_<study>, for claims docs/results",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one compute thread each.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="The file's small version: minutes instead of hours.")] = False,
    only_report: Annotated[
        bool, typer.Option("--report", help="Write the results of what is finished; run nothing.")
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say which cells are left and about how long they take; run nothing.")
    ] = False,
) -> None:
    """Run what is not finished of a study, then write tables, figures and verdicts. Stop it at any time; the same
    command goes on.

    Example: sync-r1 study studies/claims.yaml --quick
    """
    from contextlib import ExitStack

    from sync_r1.folder_lock import hold
    from sync_r1.signals import if_stopped
    from sync_r1.study.results import read_earlier, write_results
    from sync_r1.study.runner import Runner, name_of
    from sync_r1.study.study_file import load_study

    console = open_console()
    chosen = load_study(file, quick=quick)
    place = folder / chosen.name
    runner = Runner(chosen, place, jobs, console)
    target = _target(chosen.name, out, quick)
    read_earlier(chosen, target)  # refuses another study's place before hours of work
    with ExitStack() as running:
        if not (only_report or only_plan):
            running.enter_context(hold(place, "name another --folder"))
            running.enter_context(if_stopped(f"{place} keeps what the runs had reached"))
        earlier = runner.restore(target.with_name(f"{target.name}_cells.json"))
        if only_plan:
            _print_plan(runner, earlier, console)
            return
        failed = [] if only_report else runner.run()
    command = f"sync-r1 study {file}{' --quick' if quick else ''}{f' --out {out}' if out else ''}"
    cells = runner.results()
    counted = {name_of(values) for values in cells}
    if stale := [values for values in earlier if name_of(values) not in counted]:
        reason = "other options, or no cells of this study"
        say(f"{len(stale)} cells do not count ({reason}): {', '.join(map(name_of, stale))}", console=console)
    result = write_results(chosen, cells, target, command, place, stale)
    _print_verdicts(result["claims"], console)
    say(f"results  {target.with_suffix('.md')}", console=console)
    if failed:
        log = place / failed[0].name / "log.txt"
        raise ValueError(f"{len(failed)} cells failed, first {failed[0].name}; see {log}, then run it again")


def _target(study: str, out: Path | None, quick: bool) -> Path:
    """Where the results of a study go, without suffix."""
    name = study.removesuffix("-quick").replace("-", "_")
    base = out or Path("docs", "results" if name == "claims" else f"results_{name}")
    if quick:
        return base.with_name(f"{base.name}_quick")
    return base


def _print_plan(runner: Runner, cells: Sequence[dict[str, Any]], console: Console) -> None:
    """A table of the arms that have cells left, and the hours of all of them."""
    from rich.box import SIMPLE
    from rich.table import Table

    from sync_r1.study.plan import plan

    left: dict[str, int] = {}
    for cell in runner.cells():
        left[cell.arm] = left.get(cell.arm, 0) + (not runner.finished(cell))
    found = plan(runner.study, left, cells)
    table = Table("arm", "cells left", "minutes each", "known from", box=SIMPLE)
    for row in found:
        table.add_row(row.arm, str(row.cells), f"{row.minutes:.1f}", row.known_from)
    console.print(table)
    hours = sum(row.cells * row.minutes for row in found) / 60 / runner.jobs
    count = sum(row.cells for row in found)
    say(f"{count} cells left, about {hours:.1f} hours with {runner.jobs} at a time", console=console)


def _print_verdicts(claims: Sequence[dict[str, Any]], console: Console) -> None:
    """One line per claim: verdict, id, and the figure with its interval where there is one."""
    from rich.text import Text

    for claim in claims:
        verdict, style = VERDICTS[claim["holds"]]
        if not claim["measures"]:
            verdict = "not measured"
        figure = ""
        if claim["delta"] is not None:
            figure = f"  {claim['delta']:+.3f} [{claim['ci95'][0]:+.3f}, {claim['ci95'][1]:+.3f}]"
        console.print(Text.assemble((verdict, style), f"  {claim['id']}{figure}"))
