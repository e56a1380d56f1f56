"""How far a piece of work is: a live bar on a terminal, elsewhere a plain line at least every ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from sync_r1.console import say

EVERY_S = 9.0  # between plain lines: less than ten seconds, because a busy machine wakes a thread late
BAR_FROM, FIGURES_FROM = 70, 110  # columns of a terminal that has room for a bar, and for figures beside it


class WorkProgress:
    """Shows one piece of work from `start` to `stop`, or while it is entered as a context.

    A terminal gets a live bar. A file, a pipe or a terminal that cannot move its cursor gets plain lines: after the
    first update (at once where the total is unknown), then every few seconds, also while a single step lasts longer
    than that, and at the end.

    Args:
        console: where it is shown; a quiet one shows nothing.
        title: what is being done. total: of how many; None where that is unknown. done: how many are done already.
    """

    def __init__(self, console: Console, title: str, total: float | None, done: float = 0) -> None:
        self.console, self.title, self.total, self.done = console, title, total, done
        self.figures = ""
        self._begun, self._moved = done, False
        self._started = self._updated = time.monotonic()
        self._printed: tuple[str, float, str] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar: RichProgress | None = None

    def __enter__(self) -> WorkProgress:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Begin the display; `with` does the same."""
        self._started = self._updated = time.monotonic()
        if _is_live(self.console):
            self._bar = RichProgress(*_columns(self), console=self.console)
            self._bar.start()
            self._bar.add_task(self.title, total=self.total)
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif not self.console.quiet:
            self._thread = threading.Thread(target=self._print_regularly, daemon=True)
            self._thread.start()
            if self.total is None:
                self._print()  # there will be no first step to wait for

    def update(self, done: float, *, title: str | None = None, figures: str | None = None) -> None:
        """So many are done now; `title` and `figures` stay what they were unless given."""
        if title is not None:
            self.title = title
        if figures is not None:
            self.figures = figures
        self.done, self._updated = done, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif self._thread is not None and not self._moved and done > self._begun:
            self._moved = True  # the first step is news, the later ones come with the clock
            self._print()

    def stop(self) -> None:
        """End the display, however the work ended. The last state is shown; a second call does nothing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            if self._printed != self._state():
                self._print()

    def left_s(self) -> float | None:
        """Seconds that the rest takes at the mean speed so far; None while that is unknown, and when nothing is
        left."""
        if self.total is None or not self._begun < self.done < self.total:
            return None
        rest = (self._updated - self._started) / (self.done - self._begun) * (self.total - self.done)
        return max(rest - (time.monotonic() - self._updated), 0)

    def count(self) -> str:
        """How many of how many, such as "3/200"; nothing where the total is unknown."""
        if self.total is None:
            return ""
        return f"{_number(self.done)}/{_number(self.total)}"

    def times(self) -> str:
        """How long it has taken and how long the rest takes, such as "0:40 elapsed  2:10 left"."""
        elapsed, left = time.monotonic() - self._started, self.left_s()
        return f"{_clock(elapsed)} elapsed" + ("" if left is None else f"  {_clock(left)} left")

    def line(self) -> str:
        """All of it on one line."""
        return "  ".join(part for part in (self.title, self.count(), self.times(), self.figures) if part)

    def _state(self) -> tuple[str, float, str]:
        return self.title, self.done, self.figures

    def _print(self) -> None:
        self._printed = self._state()
        say(self.line(), console=self.console)

    def _print_regularly(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._print()


class _Shown(ProgressColumn):
    """A column of the live bar whose text is asked for whenever it is drawn."""

    max_refresh = 0.5

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__(Column(no_wrap=True))
        self.text = text

    def render(self, task: Task) -> Text:
        return Text(self.text())


def _columns(work: WorkProgress) -> list[ProgressColumn]:
    """What the terminal's width has room for; a narrow one shows what matters most first and loses the end."""
    if work.console.width < BAR_FROM:
        return [_Shown(lambda: f"{work.count()}  {work.times()}  {work.title}")]
    columns = [_Shown(lambda: work.title), BarColumn(bar_width=20), _Shown(work.count), _Shown(work.times)]
    if work.console.width >= FIGURES_FROM:
        return [*columns, _Shown(lambda: work.figures)]
    return columns


def _number(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return f"{value:.1f}"


def _clock(seconds: float) -> str:
    """`65` → "1:05", `3700` → "1:01:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


@contextmanager
def loading(console: Console) -> Iterator[None]:
    """Around the import of PyTorch, which takes a busy machine a minute: plain lines where no live bar can be drawn."""
    if console.quiet or _is_live(console):
        yield
        return
    with WorkProgress(console, "loading", None):
        yield


def _is_live(console: Console) -> bool:
    return console.is_interactive and console.file.isatty()


@contextmanager
def over_tasks(console: Console, title: str, total: int) -> Iterator[Callable[[str, int, int], None]]:
    """Progress over the items of several tasks: yields what `predict` calls with (task, done of it, of how many)."""
    done: dict[str, int] = {}
    with WorkProgress(console, title, total) as work:

        def advance(task: str, count: int, _: int) -> None:
            done[task] = count
            work.update(sum(done.values()), title=f"{title}: {task}")

        yield advance
        work.update(total, title=title)
