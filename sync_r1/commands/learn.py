"""`sync-r1 learn`: lessons about one's own things."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import ConceptsOption, DataOption, DeviceOption, ModelOption, RunsOption
from sync_r1.console import say, show_table
from sync_r1.file_errors import writing

if TYPE_CHECKING:
    from PIL import Image

    from sync_r1.apps.learn import Item, Learner, Lesson
    from sync_r1.session import Session

SMALL = 256  # pixels; smaller pictures are enlarged for the eye
QUIT = "q"


def learn(
    learner: Annotated[str, typer.Option(help="Who learns: letters, digits, _ and -. Files are named after it.")],
    concept: ConceptsOption = None,
    run: RunsOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    questions: Annotated[int, typer.Option(min=1, max=200, help="At most so many questions.")] = 10,
    folder: Annotated[Path, typer.Option(help="Where lessons are kept.")] = Path("lessons"),
    show: Annotated[
        bool, typer.Option("--report", help="Show what is believed of every fact, and ask nothing.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write all answers as a table, and ask nothing.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Begin anew; the old answers stay in the file.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the learner and the pictures.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Ask a learner about the things, adapting to the answers; answers may come from a pipe.

    A letter chooses, other answers are typed; an empty line is "I do not know", q ends the lesson.

    Example: sync-r1 learn --learner mia --concept bo --run runs/demo
    """
    from sync_r1.apps.learn import Learner, Lesson

    who = Learner(learner, folder)
    pictures = folder / learner
    if delete:
        _delete(who, pictures)
        return
    if csv is not None:
        say(f"written  {who.write_csv(csv)}")
    if reset:
        who.reset()
        say(f"{learner} begins anew")
    if csv is not None or (reset and not show and not concept and not run):
        return
    with noted():
        sessions = _open(concept or [], run or [], model, data, device)
    lesson = Lesson(sessions, who)
    if show:
        _report(lesson)
        return
    _teach(lesson, questions, pictures)


def _open(concepts: list[str], runs: list[Path], model: str, data: str | None, device: str) -> dict[str, Session]:
    """One session for every run, or for every concept where there is no run."""
    if len(runs) > 1 and concepts:
        raise ValueError(f"--concept {concepts[0]} with {len(runs)} runs; every run brings its own concept")
    if runs:
        opened = [open_session(run, model, data, next(iter(concepts), None), device) for run in runs]
    else:
        opened = [open_session(None, model, data, name, device) for name in concepts or [None]]  # type: ignore[list-item]
    return {session.concept.name: session for session in opened}


def _teach(lesson: Lesson, questions: int, pictures: Path) -> None:
    """Ask until the questions, the answers or what is to be learned come to an end."""
    asked = right = 0
    while asked < questions:
        if asked and lesson.finished:
            say(f"That is enough for today; the next question is due on {lesson.next_day}.")
            break
        with noted():
            item = lesson.next_item()
        number = len(lesson.learner.answers) + 1
        _ask(item, number, pictures)
        line = sys.stdin.readline()
        if not line or line.strip() == QUIT:
            break
        try:
            with noted():
                feedback = lesson.answer(item, line.rstrip("\n"))
        except ValueError as error:
            say(f"error: {error}", "red", err=True)
            continue
        asked, right = asked + 1, right + feedback.right
        say(feedback.sentence, "green" if feedback.right else "red")
        say(f"   {_save(feedback.picture, pictures / f'{number}_answer.png')}")
    say(f"{right} of {asked} right; see what {lesson.learner.name} knows with --report")


def _ask(item: Item, number: int, pictures: Path) -> None:
    say(f"\n{number}. {item.question}   ({item.reason})")
    for letter, choice in zip("abcd", item.choices):
        say(f"   {letter}) {choice}")
    for letter, picture in zip("abcd", item.pictures):
        label = f"{letter}) " if not item.choices else ""
        say(f"   {label}{_save(picture, pictures / f'{number}_{letter}.png')}")


def _save(picture: Image.Image, path: Path) -> Path:
    """Write a picture, small ones enlarged by whole pixels."""
    factor = max(1, SMALL // max(picture.size))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((picture.width * factor, picture.height * factor), resample=0).save(path)
    return path


def _report(lesson: Lesson) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from sync_r1.apps.learn import report

    table = Table("fact", "says", "right", "known", "next", box=SIMPLE)
    for row in report(lesson.learner, lesson.facts, lesson.today):
        shown = (row.fact, row.sentence, f"{row.right}/{row.asked}", f"{row.known:.2f}", row.due or "new")
        table.add_row(*map(Text, shown))
    show_table(table)


def _delete(learner: Learner, pictures: Path) -> None:
    from shutil import rmtree

    learner.delete()
    if pictures.is_dir():
        rmtree(pictures)
    say(f"deleted {learner.path}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(learn)
