"""What /metrics shows, in Prometheus' text form."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROWS = (1, 2, 4, 8, 16, 32)
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
OTHER = "other"  # every path that no route has


class Metrics:
    """Counts requests and batches, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sync_r1_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "sync_r1_request_seconds", "Time of a request.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.rows = Histogram(
            "sync_r1_batch_rows", "Texts or pictures in a batch.", buckets=ROWS, registry=self.registry
        )
        self.work = Counter("sync_r1_work_seconds", "Time spent in the model.", registry=self.registry)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Show how many requests wait."""
        gauge = Gauge("sync_r1_waiting", "Requests in the queue.", registry=self.registry)
        gauge.set_function(waiting)

    def batch(self, rows: int, seconds: float) -> None:
        """Count a batch of the worker."""
        self.rows.observe(rows)
        self.work.inc(seconds)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)


class MeasureRequests:
    """ASGI middleware that counts every request with its status and its time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", OTHER)
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - started)
