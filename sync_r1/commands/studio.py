"""`sync-r1 studio`: a page for everything that one does with one's own things."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.options import DeviceOption, ModelOption
from sync_r1.console import say


def studio(
    folder: Annotated[Path, typer.Option(help="Where things, drawings, stories and all the rest are kept.")] = Path(
        "studio"
    ),
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    model: ModelOption = "world",
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own needs --auth-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 7860,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which browsers call this server; repeat for more.")
    ] = None,
    auth_file: Annotated[
        Path | None, typer.Option(help="File of the users who may open the page; see --add-user.")
    ] = None,
    add_user: Annotated[
        str | None, typer.Option(help="Write a user into --auth-file and stop; the password is asked for.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")] = 300.0,
    wipe: Annotated[
        str | None, typer.Option(help="Remove everything about this thing, say what remains, and stop.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Open the studio: add your things, train, draw, chat, rate, compare, tell stories, learn, and see why.

    Example: sync-r1 studio --folder my-studio
    """
    if add_user is not None:
        _add_user(auth_file, add_user)
        return
    if wipe is not None:
        _wipe(folder, runs, wipe)
        return
    try:
        import fastapi  # noqa: F401  # is the extra there?
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f'{error.name} is not installed; the studio needs more packages: pip install "sync-r1[studio]"'
        ) from error
    from sync_r1.app.server import create_studio, options_of, run
    from sync_r1.app.users import Users
    from sync_r1.apps.studio.folder import StudioFolder

    users = Users(auth_file) if auth_file is not None else None
    place = StudioFolder(folder, runs, model)
    options = options_of(host, port, allow_host or [], users, timeout, place.feedback)
    app = create_studio(place, options, users, device)
    run(app, options, lambda url: say(f"the studio is open at {url}; stop it with Ctrl-C"))
    say("stopped")


def _add_user(file: Path | None, name: str) -> None:
    from sync_r1.app.users import add_user

    if file is None:
        raise ValueError("--add-user needs --auth-file, the file that keeps the users")
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    add_user(file, name, password)
    say(f"{name} may open the studio that is started with --auth-file {file}")


def _wipe(folder: Path, runs: Path, thing: str) -> None:
    from sync_r1.apps.studio.folder import StudioFolder
    from sync_r1.apps.studio.wipe import wipe

    found = wipe(StudioFolder(folder, runs), thing)
    for path in found.removed:
        say(f"removed  {path}")
    for path in found.remains:
        say(f"remains  {path}", "yellow")
    if not found.removed:
        say(f"nothing about {thing} was here")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(studio)
