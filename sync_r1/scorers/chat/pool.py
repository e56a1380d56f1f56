"""Several endpoints that serve the same model: requests are dealt round-robin, and one that fails hands its requests
on."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import fields, replace
from typing import Any

import httpx2

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.endpoint import ChatFailure, Endpoint, Message, Reply, Usage

REST_S = 30.0  # an endpoint that gave no reply is left alone this long while others answer


def addresses(url: str) -> list[str]:
    """The URLs of a comma-separated list. ValueError when one is given twice."""
    found = [part.strip() for part in url.split(",") if part.strip()]
    if repeated := next((one for one in found if found.count(one) > 1), None):
        raise ValueError(f"the endpoint {repeated} is listed twice; list each server once")
    return found or [url]


class EndpointPool:
    """Used like one `Endpoint`; safe to share between threads. `config.concurrency` counts for each of them.

    A request goes to the next endpoint in turn. When that one gives no reply (busy, broken, denied), it rests for
    REST_S, in which it is asked last, and the request goes on to the next one without waiting. Only when none replies
    is one asked with retries and backoff. Processes of one launch begin with different endpoints.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.endpoints = [Endpoint(replace(config, url=url)) for url in addresses(config.url)]
        self._lock, self._turn = threading.Lock(), int(os.environ.get("RANK", "0"))
        self._rests = [0.0] * len(self.endpoints)  # until when, on the monotonic clock

    @property
    def hosts(self) -> str:
        """For the record beside a score."""
        return " + ".join(dict.fromkeys(httpx2.URL(endpoint.url).host for endpoint in self.endpoints))

    @property
    def usage(self) -> Usage:
        """The sum of all counters (a copy)."""
        parts = [endpoint.usage for endpoint in self.endpoints]
        return Usage(**{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(Usage)})

    def count(self, **more: int) -> None:
        """Add to the counters."""
        self.endpoints[0].count(**more)

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()

    def send(self, messages: list[Message], shape: dict[str, Any] | None, max_tokens: int) -> Reply | ChatFailure:
        """One conversation. A request that is not accepted fails at once.

        A server's failure counts only when all have it.
        """
        if len(self.endpoints) == 1:
            return self.endpoints[0].send(messages, shape, max_tokens)
        failures: dict[int, ChatFailure] = {}
        for place in self._order():
            got = self.endpoints[place].send(messages, shape, max_tokens, retries=0)
            if isinstance(got, Reply) or got.kind not in ("unavailable", "denied"):
                return got
            failures[place] = got
            with self._lock:
                self._rests[place] = time.monotonic() + REST_S
        busy = [place for place, failure in failures.items() if failure.kind == "unavailable"]
        if busy:
            return self.endpoints[busy[0]].send(messages, shape, max_tokens)
        return next(iter(failures.values()))

    def _order(self) -> list[int]:
        """Endpoints from the one whose turn it is; those that rest come last."""
        with self._lock:
            start, self._turn = self._turn, self._turn + 1
            now, rests = time.monotonic(), list(self._rests)
        turns = [(start + number) % len(self.endpoints) for number in range(len(self.endpoints))]
        return sorted(turns, key=lambda place: rests[place] > now)
