"""The FastAPI app, and how it is served."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from sync_r1 import __version__
from sync_r1.serve import chat, extras, images
from sync_r1.serve.batching import Worker
from sync_r1.serve.catalogue import Catalogue, describe
from sync_r1.serve.drawing import Drawings
from sync_r1.serve.errors import add_error_handlers, json_response
from sync_r1.serve.metrics import MeasureRequests, Metrics
from sync_r1.serve.options import ServeOptions
from sync_r1.serve.security import Guard
from sync_r1.serve.state import State, state_of
from sync_r1.serve.texts import Texts
from sync_r1.signals import Stopped

KEEP_ALIVE_S = 30
MAX_CONNECTIONS = 100  # each may bring a whole body; more get 503

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """The served models: one id per run, or per concept of it."""
    return json_response({"object": "list", "data": state_of(request).catalogue.rows()})


@router.get("/v1/models/{name:path}")
async def show_model(name: str, request: Request) -> Response:
    """One of them."""
    return json_response(describe(state_of(request).catalogue.find(name)))


@router.get("/healthz")
async def health(request: Request) -> Response:
    """200 while the model's thread works."""
    if state_of(request).worker.alive:
        return json_response({"status": "ok"})
    return json_response({"status": "the model's thread has ended; start the server again"}, 503)


@router.get("/metrics")
async def show_metrics(request: Request) -> Response:
    """Counts and times in Prometheus' text form."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def create_app(
    catalogue: Catalogue,
    options: ServeOptions,
    guard: Callable[..., Guard] = Guard,
    guard_options: Mapping[str, Any] | None = None,
) -> FastAPI:
    """The app with a worker of its own, which lives as long as the server. Its description is at /openapi.json.

    Args:
        guard: decides who may ask; called with the app and `guard_options`, by default the key.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # or every broken form would write many lines
    metrics = Metrics()
    worker = Worker(options.max_waiting, options.max_rows, options.gather_s, metrics.batch)
    metrics.watch_queue(lambda: worker.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            worker.stop()

    app = FastAPI(
        title="Sync-R1",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.sync_r1 = State(catalogue, options, worker, Texts(catalogue), Drawings(catalogue))
    app.state.metrics = metrics
    add_error_handlers(app)
    for part in (router, chat.router, images.router, extras.router):
        app.include_router(part)
    app.add_middleware(guard, **(guard_options or {"key": options.key}))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=options.trusted_hosts, www_redirect=False)
    app.add_middleware(MeasureRequests, metrics=metrics)
    return app


class Server(uvicorn.Server):
    """Uvicorn on a socket that is open already, so that the address is known before the first request.

    Raises:
        ValueError: the address cannot be listened on.
    """

    def __init__(self, app: FastAPI, options: ServeOptions) -> None:
        self.socket = _listening(options)
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=options.stop_s,
            )
        )

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        if ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{port}"

    def run_on_socket(self) -> None:
        """Serve until SIGINT, SIGTERM or `should_exit`; requests under way are finished first."""
        self.run(sockets=[self.socket])


def _listening(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((options.host, options.port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise ValueError(
            f"{options.host}:{options.port} cannot be served ({error}); choose another --port or --host"
        ) from error
    return opened


def serve_until_stopped(app: FastAPI, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve the app; `say` gets its URL. SIGINT and SIGTERM end it after the requests under way."""
    server = Server(app, options)
    say(server.url)
    with suppress(Stopped, KeyboardInterrupt):  # uvicorn has finished by then, and passes the signal on
        server.run_on_socket()
