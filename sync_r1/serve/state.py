"""What all routes share: the served models, the worker, and what the worker does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request

from sync_r1.serve.batching import Job, Worker
from sync_r1.serve.catalogue import Catalogue
from sync_r1.serve.drawing import Drawings
from sync_r1.serve.options import ServeOptions
from sync_r1.serve.texts import Texts


@dataclass(frozen=True)
class State:
    """Lives as long as the app."""

    catalogue: Catalogue
    options: ServeOptions
    worker: Worker
    texts: Texts
    drawings: Drawings

    def submit(self, asked: Any, make: Callable[[State, Any], Job]) -> Job:
        """Make a job of what is asked and queue it. ApiError 429 when the queue is full."""
        return self.worker.submit(make(self, asked))


def state_of(request: Request) -> State:
    """The state of the app that a request came to."""
    return cast(State, request.app.state.sync_r1)
