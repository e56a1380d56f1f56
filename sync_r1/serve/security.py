"""Who may ask: the Host and Origin of a request, its key, how large it may be and how long it may take to arrive.

A page of another site that is open in a browser on this machine can send requests here, and after DNS rebinding it can
read the answers. The list of hosts stops the second, the check of origins the first.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_r1.serve.errors import ApiError
from sync_r1.serve.options import BODY_SECONDS, MAX_BODY_BYTES

OPEN_PATHS = ("/healthz",)  # asked by programs that watch the server, and tell nothing
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that refuses what must not reach the app.

    Args:
        key: every request must bring it as `Authorization: Bearer …`; empty lets all in.
    """

    def __init__(self, app: ASGIApp, key: str = "", max_body: int = MAX_BODY_BYTES) -> None:
        self.app, self.key, self.max_body = app, key, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            headers = Headers(scope=scope)
            self.check(scope["method"], scope["path"], headers)
            await self.app(scope, Body(receive, headers, self.max_body), guarded)
        except ApiError as error:
            await error.response()(scope, receive, guarded)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """ApiError for a request of another site, or without the key."""
        if method not in SAFE_METHODS and is_cross_site(headers):
            raise ApiError(403, "a page of another site may not use this server", code="cross_site")
        if self.key and path not in OPEN_PATHS:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
                raise ApiError(
                    401,
                    "the key is missing or wrong; send it as Authorization: Bearer …, which is api_key in the clients",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that a page of another site sends the request. Programs send neither header."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origins = headers.getlist("origin")
    if not origins:
        return False
    try:
        found = urlsplit(origins[0])
    except ValueError:
        return True
    return len(origins) > 1 or found.scheme not in ("http", "https") or found.netloc != headers.get("host")


class Body:
    """Receives the body of a request: refuses one that is too large, or that comes too slowly."""

    def __init__(self, receive: Receive, headers: Headers, max_bytes: int) -> None:
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > max_bytes:
            raise ApiError(413, f"a request may have at most {max_bytes >> 20} MiB", code="too_large")
        self.receive, self.max_bytes, self.read, self.complete = receive, max_bytes, 0, False
        self.until = time.monotonic() + BODY_SECONDS

    async def __call__(self) -> Message:
        if self.complete:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self.until - time.monotonic())
        except asyncio.TimeoutError as error:
            raise ApiError(408, f"the request did not arrive within {BODY_SECONDS:g} s") from error
        self.read += len(message.get("body", b""))
        if self.read > self.max_bytes:
            raise ApiError(413, f"a request may have at most {self.max_bytes >> 20} MiB", code="too_large")
        self.complete = not message.get("more_body", False)
        return message
