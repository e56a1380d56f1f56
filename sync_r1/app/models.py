"""Work with a model, asked for by a handler of the page and done in the server's one model thread."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from sync_r1.app.catalogue import StudioCatalogue, source_id
from sync_r1.serve.batching import Job, Worker
from sync_r1.serve.errors import ApiError
from sync_r1.session import Session

T = TypeVar("T")


class Task(Job):
    """A job whose events are read by the thread that asked for it."""

    def __init__(self, work: Callable[[Task], None], seconds: float) -> None:
        self.handler = self._do
        self.key, self.request, self.size = None, None, 1
        self.deadline = time.monotonic() + seconds
        self.cancelled = self.over = self.begun = False
        self.taken = False  # the worker has begun with it
        self._work = work
        self._arrived: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def _do(self, jobs: Sequence[Job]) -> None:
        self.taken = True
        self._work(self)
        self.finish(None)

    def _put(self, last: bool, event: Any) -> None:
        self._arrived.put((last, event))

    def cancel(self) -> None:
        """Stop as soon as possible. What still waits for the model ends at once, as the worker passes it over."""
        super().cancel()
        if not self.taken:
            self._put(True, None)

    def events(self) -> Iterator[Any]:
        """What the work sends, until it ends. ValueError where it failed."""
        try:
            while True:
                last, event = self._arrived.get()
                if isinstance(event, ApiError):
                    raise ValueError(event.message)
                if last:
                    return
                yield event
        finally:
            self.cancel()


class Models:
    """All models of a studio behind one lock, which is the worker's thread."""

    def __init__(self, catalogue: StudioCatalogue, worker: Worker, seconds: float) -> None:
        self.catalogue, self.worker, self.seconds = catalogue, worker, seconds
        self._asked: dict[str, Task] = {}  # what each open page waits for

    def use(self, thing: str, weights: str, work: Callable[[Session], T]) -> T:
        """What `work` finds with a session. ValueError where it cannot be done."""
        found: list[T] = []

        def run(task: Task) -> None:
            found.append(work(self.catalogue.session(source_id(thing, weights))))

        for _ in self._submit(Task(run, self.seconds)).events():
            pass
        return found[0]

    def do(self, work: Callable[[], T]) -> T:
        """What `work` finds without a session, done in the model thread as well."""
        found: list[T] = []
        for _ in self._submit(Task(lambda _: found.append(work()), self.seconds)).events():
            pass
        return found[0]

    def stream(
        self, page: str, thing: str, weights: str, work: Callable[[Session, Callable[[Any], bool]], None]
    ) -> Iterator[Any]:
        """What `work` hands to its second argument, one after the other, while the page wants it.

        That returns False once the page wants no more, so that `work` can end early.

        Args:
            page: the open page that asks, for `cancel`.
        """

        def run(task: Task) -> None:
            session = self.catalogue.session(source_id(thing, weights))

            def send(event: Any) -> bool:
                task.send(event)  # what was finished as the page said stop is shown, too
                return not task.unwanted

            work(session, send)

        task = self._submit(Task(run, self.seconds))
        self._asked[page] = task
        try:
            yield from task.events()
        finally:
            if self._asked.get(page) is task:
                del self._asked[page]

    def cancel(self, page: str) -> None:
        """End what a page waits for; what is finished stays."""
        task = self._asked.get(page)
        if task is not None:
            task.cancel()

    def _submit(self, task: Task) -> Task:
        try:
            self.worker.submit(task)
        except ApiError as error:
            raise ValueError(error.message) from error
        return task


def noting(work: Callable[[], T]) -> tuple[T, list[str]]:
    """What `work` returns, and what it warned of, once each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    found = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return result, list(dict.fromkeys(found))
