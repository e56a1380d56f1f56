"""`sync-r1 serve`: a personal model behind the OpenAI API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.inference import DataOption, DeviceOption, ModelOption
from sync_r1.console import say


def serve(
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Run folder, served under its name; repeat for more. Default: the base model."),
    ] = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Serve only this concept; repeat for more. Default: all.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own needs SYNC_R1_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which clients call this server; repeat for more.")
    ] = None,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Spell drawing prompts out from the facts unless a request says no.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Texts or pictures that are made at once.")] = 16,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more get 429.")] = 32,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a request may take, waiting included.")] = 120.0,
    feedback: Annotated[Path, typer.Option(help="Folder of the thumbs that clients give.")] = Path("feedback"),
    device: DeviceOption = "auto",
) -> None:
    """Serve concepts to any client of the OpenAI API: chats, drawings, edits and variations.

    Example: sync-r1 serve --run runs/demo
    """
    try:
        import sync_r1.serve.app  # noqa: F401  # is the extra there?
    except ModuleNotFoundError as error:
        raise ValueError(
            f'{error.name} is not installed; serving needs more packages: pip install "sync-r1[serve]"'
        ) from error
    from sync_r1.serve.app import create_app, serve_until_stopped
    from sync_r1.serve.catalogue import Catalogue, sources_of
    from sync_r1.serve.options import KEY_VARIABLE, ServeOptions

    options = ServeOptions(
        host=host,
        port=port,
        key=os.environ.get(KEY_VARIABLE, ""),
        allowed_hosts=tuple(allow_host or ()),
        max_waiting=queue,
        max_rows=batch,
        time_limit_s=timeout,
        rewrite=rewrite,
        feedback=feedback,
    )
    catalogue = Catalogue(sources_of(run or [], model, data, concept or []), device)
    first = next(iter(catalogue.sources))
    catalogue.session(first)  # so that mistakes show now, and the first answer is quick
    serve_until_stopped(
        create_app(catalogue, options), options, lambda url: say(_greeting(url, list(catalogue.sources)))
    )
    say("stopped")


def _greeting(url: str, names: list[str]) -> str:
    return f"serving {', '.join(names)} at {url}/v1; stop it with Ctrl-C"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(serve)
