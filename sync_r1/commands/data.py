"""`sync-r1 data …`: is a data folder complete and right?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.options import AsJson
from sync_r1.console import open_console, say, say_json, show_table
from sync_r1.constants import WORLD

if TYPE_CHECKING:
    from rich.console import Console

    from sync_r1.data import ConceptReport, RootReport

app = typer.Typer(no_args_is_help=True, help="Check a data folder.")


@app.callback()
def about() -> None:
    """Check a data folder."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Data folder (UniCTokens / UnifyBench++ layout), or 'world'.")],
    as_json: AsJson = False,
) -> None:
    """Read every file of a data folder: what there is per concept, and what is wrong, by file and field.

    Exits with 1 when something cannot be used. Example: sync-r1 data check unictokens_data
    """
    from dataclasses import asdict

    from sync_r1.data import check_root

    report = check_root(data_root(folder))
    if as_json:
        say_json({"usable": report.usable, **asdict(report)})
    else:
        _print(report)
    if not report.usable:
        raise typer.Exit(1)


def data_root(folder: Path, names: Sequence[str] | None = None) -> Path:
    """The folder; "world" writes concepts of the embedded world (`names`, or all) to a temporary one."""
    if str(folder) != WORLD:
        return folder
    from sync_r1.world.export import data_folder

    return data_folder(WORLD, names)


def _print(report: RootReport) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    console = open_console()
    for title, legend, titles, cells in (
        ("pictures, facts and warm-up files", PICTURE_LEGEND, PICTURE_TITLES, _pictures),
        ("prompts and test questions", PROMPT_LEGEND, PROMPT_TITLES, _prompts),
    ):
        table = Table(
            box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, title=title, title_justify="left"
        )
        for column in titles:
            table.add_column(column, overflow="fold")
        for concept in report.concepts:
            table.add_row(*(Text(cell) for cell in cells(concept)), style="red" if concept.errors else "")
        show_table(table, console)
        say(f"{legend}\n", "dim", console=console)
    for name, errors, doubts in [("", report.errors, report.doubts)] + [
        (c.name, c.errors, c.doubts) for c in report.concepts
    ]:
        _print_problems(console, name, errors, doubts)
    broken = [concept.name for concept in report.concepts if concept.errors]
    usable = f"{len(report.concepts) - len(broken)} of {len(report.concepts)} concepts usable"
    say(f"{usable}, {report.random_images} random images", console=console)


PICTURE_TITLES = ("concept", "class", "category", "photos", "crops", "test", "negative", "facts", "stages")
PICTURE_LEGEND = (
    "negative: hard ones, in negative_example; stages: warm-up files, derived from the concept where there are none"
)
PROMPT_LEGEND = (
    "L implicit prompts, the last T for testing; train: for RL; overlap: test prompts that the published half would "
    "train on"
)
PROMPT_TITLES = ("concept", "version", "L", "test T", "train", "overlap", "dense", "pairs", "rec", "vqa", "text")


def _pictures(concept: ConceptReport) -> list[str]:
    counts = (concept.photos, concept.cropped, concept.test_photos, concept.negatives, concept.facts)
    return [
        f"{concept.display_name} ({concept.name})" if concept.display_name else concept.name,
        concept.class_noun or "?",
        concept.category or "?",
        *map(_count, counts),
        ", ".join(map(str, concept.stages)) or "-",
    ]


def _prompts(concept: ConceptReport) -> list[str]:
    counts = (
        concept.implicit,
        concept.test_prompts,
        concept.rl_prompts,
        concept.overlap,
        concept.dense,
        concept.dense_pairs,
    )
    asked = (concept.rec, concept.vqa, concept.text_only)
    if concept.conditions == "legacy":
        version = f"legacy ({concept.plain})"
    else:
        version = concept.conditions or "?"
    return [concept.name, version, *map(_count, counts), *map(_count, asked)]


def _count(value: int | None) -> str:
    if value is None:
        return "?"
    return str(value)


def _print_problems(console: Console, name: str, errors: Sequence[str], doubts: Sequence[str]) -> None:
    from rich.text import Text

    if errors or doubts:
        say(name or "all concepts", "bold", console=console)
    for mark, style, problems in (("✗", "red", errors), ("!", "yellow", doubts)):
        for problem in problems:
            console.print(Text.assemble((f"  {mark} ", style), problem))
