"""HTTP below the openai client: what is sent, how long a reply may take, how large it may be, what counts as one."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import httpx2
from openai import DefaultAsyncHttpxClient

from sync_r1.config import JudgeConfig

MAX_REPLY_BYTES = 4 << 20
MAX_REDIRECTS = 5
IDLE_S = 3.0  # common servers close an idle connection after five seconds; a request must not meet that
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
RETRY_COUNT = "x-stainless-retry-count"  # request header of the openai client: the number of tries before this one
SENT_HEADERS = {"host", "accept", "user-agent", "connection", "content-type", "content-length", RETRY_COUNT}
RETRY_HEADERS = (b"retry-after", b"retry-after-ms", b"x-should-retry")


@lru_cache(maxsize=4)
def certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The authorities to trust: those that SSL_CERT_FILE or SSL_CERT_DIR name (the arguments), else the system's."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        name, value = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        raise ValueError(
            f"{name} is {value!r}, which cannot be read as certificates ({error}); name a PEM file or unset it"
        ) from error


class BoundedHttp(DefaultAsyncHttpxClient):
    """HTTP below the openai client. `count` is called for every request that is sent.

    A whole exchange with its redirects takes at most `config.timeout_s`: the timeouts of HTTP clients start anew with
    every piece that arrives. An encoded reply is not read, because it may expand without end, and neither is a long
    one. What is no chat completion becomes an error status, so that the openai client tries again. The headers it would
    add from variables OPENAI_* are not sent. A proxy from the environment is not used for this machine; certificates
    from the environment (SSL_CERT_FILE, SSL_CERT_DIR) always are.
    """

    def __init__(self, config: JudgeConfig, host: str, key: str, count: Callable[..., None]) -> None:
        if ":" in host:
            address = f"[{host}]"
        else:
            address = host
        limits = httpx2.Limits(max_connections=config.concurrency, keepalive_expiry=IDLE_S)
        direct = {}
        if host in LOCAL_HOSTS:
            direct = {f"all://{address}": None}
        trusted = certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        super().__init__(timeout=config.timeout_s, limits=limits, mounts=direct, verify=trusted)
        self._timeout_s, self._key, self._count = config.timeout_s, key, count
        self._slots = asyncio.Semaphore(config.concurrency)

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        retried = request.headers.get(RETRY_COUNT, "0") != "0"
        for name in set(request.headers) - SENT_HEADERS:
            del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        async with self._slots:
            self._count(requests=1, retries=int(retried))
            try:
                return await asyncio.wait_for(self._exchange(request), self._timeout_s)
            except asyncio.TimeoutError as error:
                raise httpx2.ReadTimeout("the reply did not end in time") from error

    async def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().send(request, stream=True, follow_redirects=False)
        for _ in range(MAX_REDIRECTS):
            if response.status_code not in (307, 308) or response.next_request is None:
                break
            await response.aclose()
            response = await super().send(response.next_request, stream=True, follow_redirects=False)
        try:
            status, read = await self._read(response)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() in RETRY_HEADERS]
        if status == 425:  # the openai client does not know that this one passes
            headers.append((b"x-should-retry", b"true"))
        return httpx2.Response(status, headers=headers, request=request, extensions={"read": read})

    async def _read(self, response: httpx2.Response) -> tuple[int, dict[str, Any] | str]:
        """200 and a completion's fields, or an error status and its message."""
        encoding, raw = response.headers.get("content-encoding", "identity"), bytearray()
        if encoding != "identity":
            return 502, f"its reply is encoded ({one_line(encoding, 40)}), though a plain one was asked for"
        async for piece in response.aiter_raw():
            raw += piece
            if len(raw) > MAX_REPLY_BYTES:
                return 413, f"its reply is longer than {MAX_REPLY_BYTES >> 20} MiB"
        text = blank(raw.decode("utf-8-sig", "replace"), self._key)
        if response.has_redirect_location:
            return response.status_code, f"it redirects to {one_line(response.headers['location'])}"
        return _completion(response.status_code, text)


def _completion(status: int, text: str) -> tuple[int, dict[str, Any] | str]:
    """200 and the fields of a body that is a chat completion, else an error status and what the body says."""
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    fields = {}
    if isinstance(payload, dict):
        fields = payload
    fault = fields.get("error")
    if status == 200 and fault and not fields.get("choices"):  # some gateways answer 200 with the error inside
        code = None
        if isinstance(fault, dict):
            code = fault.get("code")
        status = 502
        if type(code) is int and 400 <= code < 600:
            status = code
    if not 200 <= status < 300:
        if isinstance(fault, dict):
            message = fault.get("message", fault)
        else:
            message = fault or text
        return status, f"{status} {one_line(str(message))}".strip()
    if not isinstance(first_choice(fields).get("message"), dict):
        return 502, f"its reply is no chat completion: {one_line(text)}"
    return 200, fields


def first_choice(fields: dict[str, Any]) -> dict[str, Any]:
    choices = fields.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return {}


def blank(text: str, key: str) -> str:
    """`text` without the key."""
    if key:
        return text.replace(key, "***")
    return text


def one_line(text: str, limit: int = 200) -> str:
    """A text from outside, fit for an error message: printable, one line, cut."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * limit]).split())
    if len(line) <= limit:
        return line
    return f"{line[:limit]}…"
