"""`sync-r1 chat`: a conversation in the terminal, or line by line from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import DataOption, DeviceOption, FeedbackOption, ModelOption
from sync_r1.console import say
from sync_r1.file_errors import in_words

if TYPE_CHECKING:
    from sync_r1.session import Session


def chat(
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="A thing to talk about; repeat for more of one model.")
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="Run or checkpoint folder; repeat for things of several runs.")
    ] = None,
    model: ModelOption = "world",
    data: DataOption = None,
    feedback: FeedbackOption = Path("feedback"),
    out: Annotated[Path, typer.Option(help="Folder for drawn pictures.")] = Path("drawings"),
    device: DeviceOption = "auto",
) -> None:
    """Talk about your things; every answer names what it came from. /help says what else there is.

    In a pipe every line in gives one line out; a line that cannot be answered gives "error: …".

    Example: sync-r1 chat --concept bo --concept ana
    """
    from sync_r1.apps.chat import Chat
    from sync_r1.signals import Stopped

    with noted():
        talk = Chat(open_things(concept or [], run or [], model, data, device), feedback, out)
    asked = sys.stdin.isatty()
    if asked:
        say(f"about {', '.join(talk.things)}; /help says what can be done, /quit leaves")
    try:
        for line in _lines(asked):
            if asked and not line.strip():
                continue
            try:
                with noted():
                    say(" ".join(talk.say(line).split("\n")))
            except (ValueError, OSError) as error:
                say(f"error: {in_words(error)}", "red")
            if talk.left:
                break
    except (KeyboardInterrupt, Stopped) as stop:
        if isinstance(stop, Stopped) and stop.number != 2:  # only Ctrl-C is a way to leave
            raise
        say("bye")


def open_things(concepts: list[str], runs: list[Path], model: str, data: str | None, device: str) -> dict[str, Session]:
    """A session per thing. Those of one model share it.

    Raises ValueError for an unknown thing, or concepts beside several runs.
    """
    from dataclasses import replace

    from sync_r1.session import Session

    if len(runs) > 1 and concepts:
        raise ValueError(
            f"--concept {' '.join(concepts)} beside {len(runs)} runs: each run talks about what it learned; leave "
            "--concept out, or give one --run"
        )
    if len(runs) > 1:
        found = {}
        for one in runs:
            session = open_session(one, model, data, None, device)
            found[session.concept.name] = session
        return found
    run = runs[0] if runs else None
    first = Session.open(model=model, data=data, concepts=concepts, checkpoint=run, device=device)
    things = {first.concept.name: first}
    for concept in first.others:
        things[concept.name] = replace(first, concept=concept, others=[])
    return things


def _lines(asked: bool) -> Iterator[str]:
    """Lines of stdin, with a prompt in a terminal."""
    while True:
        if asked:
            sys.stdout.write("> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            if asked:
                say("")
            return
        yield line


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(chat)
