"""A real server on a free port of this machine, with a tiny model, for the official client."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
from fastapi import FastAPI
from PIL import Image

from sync_r1.serve.app import Server, create_app
from sync_r1.serve.catalogue import Catalogue, Source
from sync_r1.serve.options import ServeOptions
from sync_r1.session import Session


class Fixed(Catalogue):
    """Serves sessions that are open already."""

    def __init__(self, **sessions: Session) -> None:
        super().__init__([Source(name, session.concept.name) for name, session in sessions.items()])
        self.ready = sessions

    def session(self, name: str) -> Session:
        self.find(name)
        return self.ready[name]


@contextmanager
def running(app: FastAPI, options: ServeOptions) -> Iterator[Server]:
    """The app behind a real socket, in a thread of its own."""
    server = Server(app, options)
    thread = threading.Thread(target=server.run_on_socket, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def serving(catalogue: Catalogue, **changes: object) -> Iterator[tuple[Server, FastAPI]]:
    options = ServeOptions(**{"port": 0, "time_limit_s": 60.0, **changes})  # type: ignore[arg-type]
    app = create_app(catalogue, options)
    with running(app, options) as server:
        yield server, app


def client_of(server: Server, key: str = "none", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=retries, timeout=120)


def wait_until(happened: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def picture(b64_json: str | None) -> Image.Image:
    assert b64_json
    image = Image.open(io.BytesIO(base64.b64decode(b64_json)))
    image.load()
    return image
