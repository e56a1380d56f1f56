"""The studio's server: the page mounted into the app of `sync-r1 serve`."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.routing import Mount

from sync_r1.app.catalogue import StudioCatalogue
from sync_r1.app.models import Models
from sync_r1.app.security import StudioGuard, refuse_wrong_calls
from sync_r1.app.users import Users
from sync_r1.apps.studio import training
from sync_r1.apps.studio.folder import StudioFolder
from sync_r1.serve.app import create_app, serve_until_stopped
from sync_r1.serve.options import ServeOptions, is_loopback
from sync_r1.serve.state import State

LOOK_EVERY_S = 2.0  # whether a waiting training may begin
HANDLERS = 8  # of the page at once; all wait for the one model thread
STOP_S = 3  # an open page holds a connection for as long as it is open


@dataclass(frozen=True)
class Studio:
    """What every screen needs."""

    folder: StudioFolder
    models: Models


def create_studio(
    folder: StudioFolder, options: ServeOptions, users: Users | None = None, device: str = "auto"
) -> FastAPI:
    """The app: the page at /, the API of `sync-r1 serve` beside it."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder.temporary.resolve() / "gradio")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from sync_r1.app.page import build
    from sync_r1.app.theme import CSS, HEAD, theme

    folder.temporary.mkdir(parents=True, exist_ok=True)
    catalogue = StudioCatalogue(folder, device)
    app = create_app(catalogue, options, guard=StudioGuard, guard_options={"users": users})
    state: State = app.state.sync_r1
    studio = Studio(folder, Models(catalogue, state.worker, options.time_limit_s))
    app.state.studio = studio
    page = build(studio)
    page.queue(default_concurrency_limit=HANDLERS, max_size=100, api_open=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SSR mode")  # it says that it is off, as is asked for
        gr.mount_gradio_app(
            app,
            page,
            path="/",
            allowed_paths=[str(folder.temporary.resolve() / "downloads")],
            show_error=True,
            max_file_size="20mb",
            ssr_mode=False,
            footer_links=[],
            run_history=False,
            theme=theme(),
            css=CSS,
            head=HEAD,
        )
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            refuse_wrong_calls(route.app)
    _start_waiting_trainings(app, folder)
    return app


def _start_waiting_trainings(app: FastAPI, folder: StudioFolder) -> None:
    """While the app lives, begin the next training that waits as soon as none runs; at its end, empty `temporary`."""
    inner, ended = app.router.lifespan_context, threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY_S):
            try:
                training.start_next(folder)
            except (ValueError, OSError) as error:
                (folder.jobs / "last_error.txt").write_text(f"{error}\n", encoding="utf-8")

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[None]:
        thread = threading.Thread(target=look, name="sync-r1-trainings", daemon=True)
        thread.start()
        try:
            async with inner(running):
                yield
        finally:
            ended.set()
            shutil.rmtree(folder.temporary, ignore_errors=True)

    app.router.lifespan_context = lifespan


def options_of(
    host: str, port: int, allowed_hosts: list[str], users: Users | None, timeout: float, feedback: Path
) -> ServeOptions:
    """The server's options. ValueError where other machines are let in without users."""
    if not is_loopback(host) and users is None:
        raise ValueError(
            f"--host {host} lets other machines see your things, talk to your models and start trainings; give "
            "--auth-file with the users who may, or listen on 127.0.0.1"
        )
    return ServeOptions(
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_hosts),
        max_waiting=20,
        time_limit_s=timeout,
        feedback=feedback,
        stop_s=STOP_S,
        protected=users is not None,
    )


def run(app: FastAPI, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. `say` gets the page's address."""
    serve_until_stopped(app, options, say)
