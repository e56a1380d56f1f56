"""`sync-r1 study`: run a grid of experiments and write what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OUT = Path("docs/results")
VERDICTS = {True: "[green]holds[/green]", False: "[red]does not hold[/red]", None: "[yellow]too few cells yet[/yellow]"}


def study(
    file: Annotated[Path, typer.Argument(help="Study file.")] = Path("studies/claims.yaml"),
    folder: Annotated[Path, typer.Option(help="Where the runs go; the study's name is added.")] = Path("runs/study"),
    out: Annotated[Path, typer.Option(help="Results without suffix: .md, .json and figures are added.")] = OUT,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one compute thread each.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="The file's small version: minutes instead of hours.")] = False,
    only_report: Annotated[bool, typer.Option("--report", help="Write the results of what is finished; run nothing.")] = False,
) -> None:
    """Run what is not finished of a study, then write tables, figures and verdicts. Stop it at any time; the same command goes on.

    Example: sync-r1 study studies/claims.yaml --quick
    """
    from rich.console import Console

    from sync_r1.study.cells import Runner
    from sync_r1.study.grid import load_study
    from sync_r1.study.results import write_results

    console = Console()
    chosen = load_study(file, quick=quick)
    place = folder / chosen.name
    runner = Runner(chosen, place, jobs, console)
    target = out.with_name(f"{out.name}_quick") if quick else out
    runner.restore(target.with_name(f"{target.name}_cells.json"))
    failed = [] if only_report else runner.run()
    command = f"sync-r1 study {file}{' --quick' if quick else ''}{'' if out == OUT else f' --out {out}'}"
    result = write_results(chosen, runner.results(), target, command, place)
    for claim in result["claims"]:
        verdict = VERDICTS[claim["holds"]]
        figure = "" if claim["delta"] is None else f"  {claim['delta']:+.3f} [{claim['ci95'][0]:+.3f}, {claim['ci95'][1]:+.3f}]"
        console.print(f"{verdict}  {claim['id']}{figure}", highlight=False)
    console.print(f"results  {target.with_suffix('.md')}")
    if failed:
        raise ValueError(f"{len(failed)} cells failed, first {failed[0].name}; see {place / failed[0].name / 'log.txt'}, then run it again")
