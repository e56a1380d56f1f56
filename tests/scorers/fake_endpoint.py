"""A chat endpoint over real HTTP that does what a test tells it, and remembers what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.client import ChatClient

Body = dict[str, Any]


@dataclass
class Response:
    """What to send back. `text` is the model's message; `raw` replaces the whole body; `drip` sends it byte by byte.

    With an error status the client is asked to come back after a millisecond, unless `headers` say otherwise.
    """

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    message: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    drip: bool = False
    hang_up: bool = False

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.text or "no"}}).encode()
        choice = {"message": {"role": "assistant", "content": self.text, **self.message}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}).encode()


class FakeEndpoint(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, reply: Callable[[Body, int], Response | str], port: int, certificate: ssl.SSLContext | None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            self.socket = certificate.wrap_socket(self.socket, server_side=True)
        self.reply, self.lock = reply, threading.Lock()
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.peers: set[Any] = set()  # the other ends of its connections
        self.busy = self.most_busy = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up waiting is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeEndpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
            self.server.peers.add(self.client_address)
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
        try:
            got = self.server.reply(body, number)
            response = got if isinstance(got, Response) else Response(got)
            time.sleep(response.delay_s)
        finally:
            with self.server.lock:
                self.server.busy -= 1
        if response.hang_up:
            self.close_connection = True
            return
        raw = response.body()
        self.send_response(response.status)
        quick = {"Retry-After-Ms": "1"} if response.status >= 400 and "Retry-After" not in response.headers else {}
        for name, value in {"Content-Length": str(len(raw)), **quick, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(raw), 1 if response.drip else len(raw) or 1):
            self.wfile.write(raw[start : start + (1 if response.drip else len(raw))])
            time.sleep(0.02 if response.drip else 0)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def endpoint(
    reply: Callable[[Body, int], Response | str], port: int = 0, certificate: ssl.SSLContext | None = None
) -> Iterator[FakeEndpoint]:
    """`reply(body, number of earlier requests)` answers every request. Port 0 takes a free one."""
    server = FakeEndpoint(reply, port, certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def config(server: FakeEndpoint | str, **changes: Any) -> JudgeConfig:
    url = server if isinstance(server, str) else server.url
    return JudgeConfig(**{"url": url, "model": "eyes-1", "timeout_s": 5.0, "max_retries": 3, **changes})


# What tests of the chat client send and are answered.
KEY = "sk-very-secret-0123456789"


class Number(BaseModel):
    value: int


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def client(server: FakeEndpoint | str, **changes: Any) -> ChatClient:
    return ChatClient(config(server, **changes))


def echo(body: Body, _: int) -> str:
    return f"you said {body['messages'][-1]['content']}"
