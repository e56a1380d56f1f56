"""One thread works on the model; requests that arrive together and ask for the same kind of work share a pass.

No timer holds a request back that comes alone. After a batch of several the next one waits a few milliseconds for as
many to come again, because clients that got their answers together ask together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from sync_r1.serve.errors import ApiError, bad_request

log = logging.getLogger("sync_r1.serve")

Handler = Callable[[Sequence["Job"]], None]


class Job:
    """A request's work: made in the event loop, done in the worker's thread, which sends events back.

    Args:
        handler: does the work of jobs with equal keys, and calls `finish` or `fail` of each.
        key: jobs with the same key may be done together; with None a job is done alone.
        size: texts or pictures that it makes.
        seconds: from now on, after which it is given up.
    """

    def __init__(self, handler: Handler, key: Hashable, request: Any, size: int, seconds: float) -> None:
        self.handler, self.key, self.request, self.size = handler, key, request, size
        self.deadline = time.monotonic() + seconds
        self.cancelled = False
        self.over = False  # finished or failed
        self.begun = False  # something was sent, so it cannot be done a second time
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()

    # called by the worker

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def unwanted(self) -> bool:
        """Whether the client has gone, or has waited longer than is allowed."""
        return self.cancelled or self.over or self.late

    def send(self, event: Any) -> None:
        """Hand a part of the result to the client."""
        self.begun = True
        self._put(False, event)

    def finish(self, value: Any) -> None:
        if not self.over:
            self.over = True
            self._put(True, value)

    def fail(self, error: ApiError) -> None:
        self.finish(error)

    def _put(self, last: bool, event: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, (last, event))
        except RuntimeError:  # the loop is closed, so no client waits any more
            self.cancelled = True

    # called in the event loop

    def cancel(self) -> None:
        """The client has gone: stop as soon as possible."""
        self.cancelled = True

    async def next(self) -> tuple[bool, Any]:
        """The next event and whether it is the last. ApiError when the work failed."""
        last, event = await self._events.get()
        if isinstance(event, ApiError):
            raise event
        return last, event


class Worker:
    """Does jobs in a thread of its own, oldest first, together with waiting ones of the same key.

    Args:
        max_waiting: jobs in the queue at most.
        max_rows: texts or pictures per batch at most; a job that is larger is done alone.
        gather_s: how long to wait for as many jobs as the last batch had.
        watch: called with the number of texts or pictures of every batch, and the seconds it took.
    """

    def __init__(
        self,
        max_waiting: int,
        max_rows: int,
        gather_s: float,
        watch: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self.max_waiting, self.max_rows, self.gather_s, self.watch = max_waiting, max_rows, gather_s, watch
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._last_jobs = 1
        self._seconds_per_job = 0.1  # a moving average
        self._thread = threading.Thread(target=self._run, name="sync-r1-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done, refuse what waits, and end the thread."""
        with self._changed:
            self._stopping = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in refused:
            job.fail(ApiError(503, "the server is being stopped", headers={"Retry-After": "10"}))
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job) -> Job:
        """Put a job into the queue. ApiError 429 when that is full."""
        with self._changed:
            if self._stopping:
                raise ApiError(503, "the server is being stopped", headers={"Retry-After": "10"})
            if len(self._waiting) >= self.max_waiting:
                wait = str(max(1, math.ceil(self._seconds_per_job * len(self._waiting))))
                message = f"{len(self._waiting)} requests are waiting already; try again in {wait} s"
                raise ApiError(429, message, code="queue_full", headers={"Retry-After": wait})
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def _run(self) -> None:
        while batch := self._next():
            started = time.monotonic()
            work(batch)
            seconds = time.monotonic() - started
            self._seconds_per_job = 0.8 * self._seconds_per_job + 0.2 * seconds / len(batch)
            self.watch(sum(job.size for job in batch), seconds)

    def _next(self) -> list[Job]:
        """The next jobs that can be done together; [] when the worker is to stop."""
        with self._changed:
            first = self._first()
            if first is None:
                return []
            batch = [first]
            until = time.monotonic() + self.gather_s
            self._take_alike(batch)
            while first.key is not None and len(batch) < self._last_jobs and not self._stopping:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
                self._take_alike(batch)
            self._last_jobs = len(batch)
            return batch

    def _first(self) -> Job | None:
        """The oldest job that a client still waits for; None when the worker is to stop."""
        while True:
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
            job = self._waiting.popleft()
            if not given_up(job):
                return job

    def _take_alike(self, batch: list[Job]) -> None:
        """Move waiting jobs like those of the batch into it, as many as fit."""
        free_rows = self.max_rows - sum(job.size for job in batch)
        if batch[0].key is None:
            return
        for job in list(self._waiting):
            if job.key == batch[0].key and job.size <= free_rows and not given_up(job):
                self._waiting.remove(job)
                batch.append(job)
                free_rows -= job.size


def given_up(job: Job) -> bool:
    """Whether no client waits for a job any more; one that is late gets an error."""
    if job.late:
        job.fail(ApiError(503, "the request took longer than is allowed; ask for less, or try again", code="timeout"))
    return job.unwanted


def work(batch: Sequence[Job]) -> None:
    """Do jobs together. Where that fails, each is done alone, so that one cannot spoil the others."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a client should know stands in its reply
            batch[0].handler(batch)
    except Exception as error:
        again = [job for job in batch if not job.over and not job.begun]
        if len(batch) > 1 and again:
            for job in again:
                work([job])
        _fail_rest(batch, error)
    for job in batch:
        if not job.over and not given_up(job):
            job.fail(ApiError(500, "the server did not finish this request; its log says why"))


def _fail_rest(batch: Sequence[Job], error: Exception) -> None:
    for job in batch:
        if job.over:
            continue
        if isinstance(error, ApiError):
            job.fail(error)
        elif isinstance(error, ValueError):
            job.fail(bad_request(str(error)))
        else:
            log.error("a request failed", exc_info=error)
            job.fail(ApiError(500, f"the server failed ({type(error).__name__}); its log says why"))
