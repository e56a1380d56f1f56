"""From a job to HTTP: wait for it while the client does, or pass its events on as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from sync_r1.serve.batching import Job
from sync_r1.serve.errors import ApiError

T = TypeVar("T")
LOOK_EVERY_S = 0.2
CLIENT_GONE = 499  # no client reads it; it stands in the metrics

Event = tuple[bool, Any]
Write = Callable[[Event], list[str]]


async def until_gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while not await request.is_disconnected():
        await asyncio.sleep(LOOK_EVERY_S)


async def while_wanted(request: Request, job: Job, wanted: Awaitable[T]) -> T:
    """What is awaited, unless the client goes before: then the job is cancelled, and ApiError raised."""
    result = asyncio.ensure_future(wanted)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ApiError(CLIENT_GONE, "the client has gone")
    finally:
        if not result.done():
            job.cancel()
        for task in (result, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def result_of(request: Request, job: Job) -> Any:
    """The value that the job finishes with. ApiError where it fails."""
    return (await while_wanted(request, job, job.next()))[1]


async def streamed(request: Request, job: Job, write: Write) -> Response:
    """Server-sent events, written as `write` turns the job's events into them.

    What fails before the first event is an ordinary error.
    """
    first = await while_wanted(request, job, job.next())
    return StreamingResponse(_lines(request, job, first, write), media_type="text/event-stream")


async def _lines(request: Request, job: Job, event: Event, write: Write) -> AsyncIterator[str]:
    try:
        while True:
            for line in await run_in_threadpool(write, event):  # a large PNG takes a while
                yield line
            if event[0]:
                return
            event = await while_wanted(request, job, job.next())
    except ApiError as error:
        yield sse(error.body)
    finally:
        job.cancel()


def sse(value: Any, name: str = "") -> str:
    """One server-sent event."""
    head = ""
    if name:
        head = f"event: {name}\n"
    return f"{head}data: {json.dumps(value)}\n\n"
