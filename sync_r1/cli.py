"""The command line: `sync-r1 <command>`. One app; families of commands live in sync_r1/commands/."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from sync_r1 import __version__
from sync_r1.commands import (
    chat,
    check,
    compare,
    concept,
    data,
    doctor,
    edit,
    feedback,
    inference,
    jobs,
    judge,
    learn,
    models,
    report,
    serve,
    sft,
    story,
    studio,
    study,
    train,
    unifybench,
    why,
    world,
)
from sync_r1.commands.home import expand_home
from sync_r1.commands.panels import InPanels, put_into_panels
from sync_r1.console import (
    drop_broken_stdout,
    say,
    set_up_streams,
    speaks,
    warnings_as_notes,
)
from sync_r1.file_errors import in_words
from sync_r1.signals import Stopped, on_signal

app = typer.Typer(
    name="sync-r1",
    cls=InPanels,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Errors are one line; SYNC_R1_DEBUG=1 shows where they come from.",
)
train.register(app)
sft.register(app)
inference.register(app)
edit.register(app)
jobs.register(app)
check.register(app)
chat.register(app)
feedback.register(app)
why.register(app)
learn.register(app)
story.register(app)
compare.register(app)
serve.register(app)
studio.register(app)
app.command()(study.study)
report.register(app)
doctor.register(app)
for name, family in {
    "bench": unifybench,
    "concept": concept,
    "data": data,
    "judge": judge,
    "models": models,
    "world": world,
}.items():
    expand_home(family.app)
    app.add_typer(family.app, name=name)


def show_version(wanted: bool) -> None:
    if wanted:
        say(f"sync-r1 {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sync-R1: one model that understands and draws your things, trained in a single loop."""


expand_home(app)
put_into_panels(app)


def main() -> None:
    """Entry point: what a user can mend is one red line `error: …` and exit code 2, never a traceback.

    A stop by a signal is one line, too, and the exit code that shells expect.
    """
    set_up_streams()
    try:
        with on_signal(), warnings_as_notes():
            try:
                app()
            finally:
                sys.stdout.flush()
    except Stopped as stopped:
        if speaks():
            with suppress(OSError):  # the terminal may be gone
                say(stopped.line(), "yellow", err=True)
        raise
    except (ValueError, OSError) as error:
        if os.environ.get("SYNC_R1_DEBUG") == "1":
            raise
        reader_has_gone = drop_broken_stdout() and isinstance(error, BrokenPipeError)  # `| head` has what it wants
        if not reader_has_gone:
            say(f"error: {in_words(error)}", "red", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
