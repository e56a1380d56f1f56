"""One OpenAI-compatible chat endpoint: its address and key, and which request fields it does not accept.

The official `openai` client retries, waits as the server asks and keeps connections open. `BoundedHttp` below it limits
how long a reply may take, how large it may be, and what is sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.http import RETRY_COUNT, BoundedHttp, blank, first_choice, one_line

Message = dict[str, Any]
FailureKind = Literal["denied", "rejected", "unavailable", "refused", "invalid"]

NO_REPLY = 0  # in place of a status: no connection or a timeout
PASSING = (NO_REPLY, 408, 409, 425, 429)  # and 500 and above: the next try may succeed
PLAIN_FORMAT = "Reply with one JSON object that fits this JSON schema, and with nothing else:\n"
_ABOUT_ROLES = re.compile(r"\bsystem\b.{0,40}\b(?:role|message|prompt|instruction)|\broles?\b", re.IGNORECASE)


@dataclass(frozen=True)
class ChatFailure:
    """A request without a usable reply. The message never holds the key.

    denied: wrong key, URL or model (401, 403, 404), so every request will fail. rejected: this request is not accepted
        (other 4xx).
    unavailable: no reply after all retries. refused: the model declined. invalid: the reply is not what was asked for.
    """

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Reply:
    """What the model wrote."""

    text: str
    refusal: str = ""  # set by endpoints that mark a refusal
    cut: bool = False  # stopped at the token limit


@dataclass
class Usage:
    """Counters since the client was made.

    Tokens are those the endpoint reports; cost is tokens × the configured prices.
    """

    requests: int = 0  # over the network, retries included
    cache_hits: int = 0
    retries: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class _Trouble:
    """Why there is no reply after `tries` tries, and the wait that the server asked for in the last one."""

    status: int
    message: str
    tries: int
    wait: str = ""

    @property
    def passing(self) -> bool:
        return self.status in PASSING or self.status >= 500


def base_url(url: str) -> str:
    """The address below which `chat/completions` lies: a bare host gets /v1, a path is kept.

    ValueError for anything else.
    """
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL as error:
        raise ValueError(
            f"the endpoint's URL cannot be read ({error}); write it like http://localhost:8000/v1"
        ) from error
    if parsed.userinfo or parsed.query:
        raise ValueError(
            f"the URL of {parsed.host} holds a password or a query; a key belongs into the environment variable"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"the endpoint's URL is {url!r}; write it like http://localhost:8000/v1")
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    return str(parsed.copy_with(path=path or "/v1", fragment=None))


def read_key(variable: str) -> str:
    """The key in an environment variable, "" when unset. ValueError, without the key, when it cannot be sent."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(
            f"{variable} holds a key with spaces or characters that a header cannot carry; export the bare key"
        )
    return key


@lru_cache(maxsize=1)
def _event_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process's endpoints, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="chat endpoints", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):  # the thread does not exist in a forked process
    os.register_at_fork(after_in_child=_event_loop.cache_clear)


class _OpenAI(AsyncOpenAI):
    def platform_headers(self) -> dict[str, str]:
        """None: this machine is not the endpoint's business, and the client would start a process to examine it."""
        return {}


class Endpoint:
    """Sends requests, at most `config.concurrency` at a time; safe to share between threads.

    The key goes nowhere but into the request's header: should the endpoint send it back, it is blanked before anything
    else reads the reply.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config, self.url = config, base_url(config.url)
        self._key = read_key(config.key_env)
        self._lock, self._usage = threading.Lock(), Usage()
        self._omitted: frozenset[str] = frozenset()  # request fields that this endpoint does not take
        self._answered_at = self._down_at = -1.0
        self._loop = _event_loop()
        http = BoundedHttp(config, httpx2.URL(self.url).host, self._key, self.count)
        self._client = _OpenAI(
            base_url=self.url, api_key=self._key or "none", timeout=config.timeout_s, http_client=http
        )

    @property
    def usage(self) -> Usage:
        """A copy of the counters."""
        with self._lock:
            return replace(self._usage)

    def count(self, **more: int) -> None:
        """Add to the counters."""
        with self._lock:
            for name, value in more.items():
                setattr(self._usage, name, getattr(self._usage, name) + value)

    def close(self) -> None:
        """Close the connections."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()

    def send(
        self, messages: list[Message], shape: dict[str, Any] | None, max_tokens: int, retries: int | None = None
    ) -> Reply | ChatFailure:
        """One conversation, with its retries (by default `config.max_retries`).

        While nothing answers at all (no connection, timeouts), later requests get a single try each, so that a dead
        endpoint does not hold up a whole batch; the first reply restores the retries.
        """
        started, omitted = time.monotonic(), self._omitted
        if retries is None:
            limit = self.config.max_retries
        else:
            limit = retries
        while True:
            down = self._down_at > self._answered_at
            body = self._body(messages, shape, max_tokens, omitted)
            got = self._post(body, 0 if down else limit)
            if isinstance(got, Reply):
                self._omitted, self._answered_at = self._omitted | omitted, time.monotonic()
                return got
            refused = _not_accepted(body, got)
            if refused is not None:
                omitted |= {refused}
                continue
            if not got.passing:
                return self._final(got)
            if got.status == NO_REPLY and self._answered_at < started:
                self._down_at = time.monotonic()
            tries = f"{got.tries} tr{'ies' if got.tries > 1 else 'y'}"
            asked = ""
            if got.wait and got.tries <= limit:
                asked = f", and asks to wait ({one_line(got.wait, 40)})"
            return ChatFailure("unavailable", f"{self.url} gave no reply in {tries}{asked}: {got.message}")

    def _body(
        self, messages: list[Message], shape: dict[str, Any] | None, max_tokens: int, omitted: frozenset[str]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.config.model}
        body["max_completion_tokens" if "max_tokens" in omitted else "max_tokens"] = max_tokens
        if self.config.temperature is not None and "temperature" not in omitted:
            body["temperature"] = self.config.temperature
        if shape is not None and "response_format" not in omitted:
            schema = {"name": "reply", "strict": True, "schema": shape}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif shape is not None:
            messages = _with_system_text(messages, PLAIN_FORMAT + json.dumps(shape))
        if "system" in omitted:
            body["messages"] = _without_system_role(messages)
        else:
            body["messages"] = messages
        return body

    def _post(self, body: dict[str, Any], retries: int) -> Reply | _Trouble:
        # json.dumps escapes everything beyond ASCII, also lone surrogates, which the client's own encoding refuses
        exchange = self._client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=json.dumps(body).encode(),
            options={"max_retries": retries},
        )
        try:
            response = asyncio.run_coroutine_threadsafe(exchange, self._loop).result()
        except APIStatusError as error:
            headers, fault = error.response.headers, error.response.extensions["read"]
            wait = headers.get("retry-after") or headers.get("retry-after-ms") or ""
            return _Trouble(error.status_code, fault, _tries(error.request), wait)
        except APITimeoutError as error:
            return _Trouble(NO_REPLY, f"nothing within {self.config.timeout_s:g} s", _tries(error.request))
        except APIConnectionError as error:
            cause = error.__cause__ or error
            fault = blank(f"{type(cause).__name__}: {cause}", self._key)
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                fault += "; if an authority of your own has signed its certificate, name that one's PEM file in "
                fault += "SSL_CERT_FILE"
            return _Trouble(NO_REPLY, fault, _tries(error.request))
        fields = response.extensions["read"]
        self._charge(fields.get("usage"))
        return _reply(fields)

    def _charge(self, usage: Any) -> None:
        fields = {}
        if isinstance(usage, dict):
            fields = usage
        given = [fields.get(name) for name in ("prompt_tokens", "completion_tokens")]
        read, written = (value if type(value) is int and 0 < value < 10**12 else 0 for value in given)
        with self._lock:
            self._usage.prompt_tokens += read
            self._usage.completion_tokens += written
            self._usage.cost += (read * self.config.price_in + written * self.config.price_out) / 1e6

    def _final(self, trouble: _Trouble) -> ChatFailure:
        variable = self.config.key_env
        if trouble.status in (401, 403):  # not the endpoint's own words: they may quote a part of the key
            if self._key:
                fix = f"check the key in {variable} and its rights"
            else:
                fix = f"{variable} is not set, export it with your key"
            return ChatFailure("denied", f"{self.url} replied {trouble.status}; {fix}")
        if trouble.status == 404:
            fix = f"check the URL, and that it serves a model {self.config.model!r}"
            return ChatFailure("denied", f"{self.url}/chat/completions: {trouble.message}; {fix}")
        return ChatFailure("rejected", f"{self.url} did not accept the request: {trouble.message}")


def _tries(request: httpx2.Request) -> int:
    return int(request.headers.get(RETRY_COUNT, "0")) + 1


def _reply(fields: dict[str, Any]) -> Reply:
    first = first_choice(fields)
    message, reason = first["message"], first.get("finish_reason")
    filtered = ""
    if reason == "content_filter":
        filtered = "its content filter stopped the reply"
    return Reply(_plain(message.get("content")), str(message.get("refusal") or "") or filtered, reason == "length")


def _not_accepted(body: dict[str, Any], trouble: _Trouble) -> str | None:
    """What to leave out after a 400 or 422: what its message names, else the schema."""
    if trouble.status in (400, 422, 500) and _has_system(body["messages"]) and _ABOUT_ROLES.search(trouble.message):
        return "system"  # some servers call a fault in the model's chat template their own
    if trouble.status not in (400, 422):
        return None
    if "max_tokens" in body and "max_completion_tokens" in trouble.message:
        return "max_tokens"
    if "temperature" in body and "temperature" in trouble.message:
        return "temperature"
    if "response_format" in body:
        return "response_format"
    return None


def _has_system(messages: list[Message]) -> bool:
    return bool(messages) and messages[0].get("role") == "system"


def _with_system_text(messages: list[Message], text: str) -> list[Message]:
    """The conversation with `text` at the end of its leading system message: many chat templates allow no second
    one."""
    if _has_system(messages):
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _without_system_role(messages: list[Message]) -> list[Message]:
    """The conversation with its leading system message at the beginning of the first user message."""
    if not _has_system(messages):
        return messages
    system, *rest = messages
    if not rest or rest[0].get("role") != "user":
        return [{**system, "role": "user"}, *rest]
    content = rest[0]["content"]
    if isinstance(content, str):
        joined: Any = f"{system['content']}\n\n{content}"
    else:
        joined = [{"type": "text", "text": system["content"]}, *content]
    return [{**rest[0], "content": joined}, *rest[1:]]


def _plain(content: Any) -> str:
    """The text of a message, which some endpoints send in parts."""
    if isinstance(content, list):
        return "".join(
            str(part.get("text", ""))
            for part in content
            if isinstance(part, dict) and part.get("type", "text") == "text"
        )
    if isinstance(content, str):
        return content
    return ""
