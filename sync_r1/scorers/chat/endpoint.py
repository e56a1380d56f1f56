"""One OpenAI-compatible chat endpoint over HTTP:

its address and key, timeouts, retries with backoff, and what it does not accept.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.deadline import cut_after

Message = dict[str, Any]
FailureKind = Literal["denied", "rejected", "unavailable", "refused", "invalid"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # exponential backoff
LONGEST_RETRY_AFTER_S = 120.0  # an endpoint that asks for more counts as unavailable
MAX_REPLY_BYTES = 4 << 20
NO_REPLY = 0  # in place of a status: no connection, a timeout, a broken reply
PLAIN_FORMAT = "Reply with one JSON object that fits this JSON schema, and with nothing else:\n"


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
    status: int
    message: str
    retry_after_s: float = 0.0


def base_url(url: str) -> str:
    """The address below which `chat/completions` lies: a bare host gets /v1, a path is kept.

    ValueError for anything else.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
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


class Endpoint:
    """Sends requests, at most `config.concurrency` at a time; safe to share between threads.

    The key goes nowhere but into the request's header: should the endpoint send it back, it is blanked before anybody
    reads the reply.
    """

    def __init__(self, config: JudgeConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self.config, self.url, self._sleep = config, base_url(config.url), sleep
        self._key = read_key(config.key_env)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        local = httpx.URL(self.url).host in (
            "localhost",
            "127.0.0.1",
            "::1",
        )  # a proxy from the environment would not find it
        limits = httpx.Limits(
            max_connections=config.concurrency, max_keepalive_connections=0
        )  # `cut_after` needs to see each one open
        self._http = httpx.Client(headers=headers, timeout=config.timeout_s, limits=limits, trust_env=not local)
        self._slots, self._lock = threading.BoundedSemaphore(config.concurrency), threading.Lock()
        self._usage = Usage()
        self._omitted: frozenset[str] = frozenset()  # request fields that this endpoint does not take
        self._answered_at = self._down_at = -1.0

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
        self._http.close()

    def send(
        self,
        messages: list[Message],
        shape: dict[str, Any] | None,
        max_tokens: int,
        key: str,
        retries: int | None = None,
    ) -> Reply | ChatFailure:
        """One conversation, with its retries (by default `config.max_retries`). `key` seeds the jitter.

        While nothing answers at all (no connection, timeouts), later requests get a single try each, so that a dead
        endpoint does not hold up a whole batch; the first reply restores the retries.
        """
        started, omitted, attempt = time.monotonic(), self._omitted, 0
        limit = self.config.max_retries if retries is None else retries
        while True:
            body = self._body(messages, shape, max_tokens, omitted)
            with self._slots:
                got = self._try(body)
            if isinstance(got, Reply):
                self._omitted, self._answered_at = omitted, time.monotonic()
                return got
            refused = _not_accepted(body, got)
            if refused is not None:
                omitted |= {refused}
                continue
            if got.status != NO_REPLY and got.status not in (408, 409, 425, 429) and got.status < 500:
                return self._final(got)
            wait = _wait_s(f"{key}:{attempt}", attempt, got.retry_after_s)
            down = self._down_at > self._answered_at
            if attempt >= limit or down or wait > LONGEST_RETRY_AFTER_S:
                if got.status == NO_REPLY and self._answered_at < started:
                    self._down_at = time.monotonic()
                tries = f"{attempt + 1} tr{'ies' if attempt else 'y'}"
                asked = f", and asks to wait {got.retry_after_s:.0f} s" if wait > LONGEST_RETRY_AFTER_S else ""
                return ChatFailure("unavailable", f"{self.url} gave no reply in {tries}{asked}: {got.message}")
            attempt += 1
            self.count(retries=1)
            self._sleep(wait)

    def _body(
        self, messages: list[Message], shape: dict[str, Any] | None, max_tokens: int, omitted: frozenset[str]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.config.model, "messages": messages}
        body["max_completion_tokens" if "max_tokens" in omitted else "max_tokens"] = max_tokens
        if self.config.temperature is not None and "temperature" not in omitted:
            body["temperature"] = self.config.temperature
        if shape is not None and "response_format" not in omitted:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": shape},
            }
        elif shape is not None:
            body["messages"] = _with_system_text(messages, PLAIN_FORMAT + json.dumps(shape))
        return body

    def _try(self, body: dict[str, Any]) -> Reply | _Trouble:
        self.count(requests=1)
        deadline, raw = time.monotonic() + self.config.timeout_s, bytearray()
        try:
            # json.dumps escapes everything beyond ASCII, lone surrogates too, which httpx's own encoding would trip
            # over.
            content, url = json.dumps(body), f"{self.url}/chat/completions"
            with (
                cut_after(self.config.timeout_s) as trace,
                self._http.stream("POST", url, content=content, extensions={"trace": trace}) as response,
            ):
                if (
                    encoding := response.headers.get("content-encoding", "identity")
                ) != "identity":  # it may expand without end
                    return _Trouble(
                        502, f"its reply is encoded ({one_line(encoding, 40)}), though a plain one was asked for"
                    )
                for piece in response.iter_raw():
                    raw += piece
                    if len(raw) > MAX_REPLY_BYTES:
                        return _Trouble(413, f"its reply is longer than {MAX_REPLY_BYTES >> 20} MiB")
                    if time.monotonic() > deadline:  # httpx's own timeout starts anew with every piece
                        raise httpx.ReadTimeout("the reply never ended")
        except (httpx.HTTPError, httpx.StreamError) as error:
            if isinstance(error, httpx.TimeoutException) or time.monotonic() >= deadline:
                return _Trouble(NO_REPLY, f"nothing within {self.config.timeout_s:g} s")
            return _Trouble(NO_REPLY, self._blank(f"{type(error).__name__}: {error}"))
        return self._read(
            response.status_code, self._blank(raw.decode("utf-8", "replace")), response.headers.get("retry-after", "")
        )

    def _read(self, status: int, text: str, retry_after: str) -> Reply | _Trouble:
        try:
            payload = json.loads(text)
        except (ValueError, RecursionError):
            payload = None
        fields = payload if isinstance(payload, dict) else {}
        fault = fields.get("error")
        if status == 200 and fault and not fields.get("choices"):  # some gateways answer 200 with the error inside
            code = fault.get("code") if isinstance(fault, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
        if status != 200:
            said = fault.get("message", fault) if isinstance(fault, dict) else fault or text
            return _Trouble(status, f"{status} {one_line(str(said))}".strip(), _seconds(retry_after))
        choices = fields.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = first.get("message")
        if not isinstance(message, dict):
            return _Trouble(502, f"its reply is no chat completion: {one_line(text)}")
        self._charge(fields.get("usage"))
        filtered = "its content filter stopped the reply" if first.get("finish_reason") == "content_filter" else ""
        return Reply(
            _plain(message.get("content")),
            str(message.get("refusal") or "") or filtered,
            first.get("finish_reason") == "length",
        )

    def _charge(self, usage: Any) -> None:
        fields = usage if isinstance(usage, dict) else {}
        given = [fields.get(name) for name in ("prompt_tokens", "completion_tokens")]
        read, written = (value if type(value) is int and 0 < value < 10**12 else 0 for value in given)
        with self._lock:
            self._usage.prompt_tokens += read
            self._usage.completion_tokens += written
            self._usage.cost += (read * self.config.price_in + written * self.config.price_out) / 1e6

    def _final(self, trouble: _Trouble) -> ChatFailure:
        variable = self.config.key_env
        if trouble.status in (401, 403):  # not the endpoint's own words: they may quote a part of the key
            fix = (
                f"check the key in {variable} and its rights"
                if self._key
                else f"{variable} is not set, export it with your key"
            )
            return ChatFailure("denied", f"{self.url} replied {trouble.status}; {fix}")
        if trouble.status == 404:
            fix = f"check the URL, and that it serves a model {self.config.model!r}"
            return ChatFailure("denied", f"{self.url}/chat/completions: {trouble.message}; {fix}")
        return ChatFailure("rejected", f"{self.url} did not accept the request: {trouble.message}")

    def _blank(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def one_line(text: str, limit: int = 200) -> str:
    """A text from outside, fit for an error message: printable, one line, cut."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[:limit]}…"


def _not_accepted(body: dict[str, Any], trouble: _Trouble) -> str | None:
    """The field to leave out after a 400 or 422: the one its message names, else the schema."""
    if trouble.status not in (400, 422):
        return None
    if "max_tokens" in body and "max_completion_tokens" in trouble.message:
        return "max_tokens"
    if "temperature" in body and "temperature" in trouble.message:
        return "temperature"
    return "response_format" if "response_format" in body else None


def _with_system_text(messages: list[Message], text: str) -> list[Message]:
    """The conversation with `text` at the end of its leading system message:

    many chat templates allow no second one.
    """
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _wait_s(seed: str, attempt: int, retry_after_s: float) -> float:
    """Doubling from half a second to half a minute, times a factor in [0.5, 1] that only `seed` decides.

    Never under Retry-After.
    """
    backoff = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.Random(seed).uniform(0.5, 1)
    return max(backoff, retry_after_s)


def _seconds(header: str) -> float:
    """Retry-After, a number of seconds or a date; 0 when absent or unreadable."""
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
        now = datetime.now(timezone.utc)
        return max((until if until.tzinfo else until.replace(tzinfo=timezone.utc)).timestamp() - now.timestamp(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _plain(content: Any) -> str:
    """The text of a message, which some endpoints send in parts."""
    if isinstance(content, list):
        return "".join(
            str(part.get("text", ""))
            for part in content
            if isinstance(part, dict) and part.get("type", "text") == "text"
        )
    return content if isinstance(content, str) else ""
