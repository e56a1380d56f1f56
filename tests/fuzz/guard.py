"""Runs one call on hostile input and says how it ended: nothing but a result or a clear ValueError is allowed.

While it runs, an audit hook watches what Python opens, moves, starts and connects to; afterwards every file around it
is compared.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import socket
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

LONGEST_S = 20.0  # of one call; real ones take milliseconds
MOST_BYTES = 1 << 30  # of address space that one call may add
LONGEST_MESSAGE = 10_000  # a path may be that long
CODE = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn"}
CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
}
NO_MEMORY = ("allocate", "not enough memory", "out of memory")

P = ParamSpec("P")
T = TypeVar("T")


class Hang(BaseException):
    """The time was up. No Exception, so that nothing on the way swallows it."""


@dataclass
class Watch:
    """What is allowed while a call runs, and what was done beyond it."""

    writable: Sequence[Path]
    port: int = 0  # on this machine, the only one to connect to
    seen: list[str] = field(default_factory=list)

    def look(self, event: str, args: tuple[Any, ...]) -> None:
        if event in CODE:
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "open" and _writes(args):
            self._changed(event, args[0])
        elif event in CHANGES:
            for number, path in enumerate(args[: 2 if event in ("os.rename", "os.link") else 1]):
                self._changed(
                    event, path, args[-1 if number else -2] if event in ("os.rename", "os.link") else args[-1]
                )
        elif (
            event == "socket.connect"
            and args[0].family in (socket.AF_INET, socket.AF_INET6)
            and args[1][1] != self.port
        ):
            self.seen.append(f"connection to {args[1]}")

    def _changed(self, event: str, path: Any, folder_fd: Any = -1) -> None:
        if isinstance(path, int) or "__pycache__" in os.fsdecode(path) or os.fsdecode(path) == os.devnull:
            return
        within = os.readlink(f"/proc/self/fd/{folder_fd}") if isinstance(folder_fd, int) and folder_fd >= 0 else ""
        whole = os.path.abspath(os.path.join(within, os.fsdecode(path)))
        place = Path(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))
        if not any(place.is_relative_to(os.path.realpath(folder)) for folder in self.writable):
            self.seen.append(f"{event} of {whole}")


def _writes(args: tuple[Any, ...]) -> bool:
    mode, flags = args[1], args[2] or 0
    return bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


_watching: Watch | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching is not None:
        _watching.look(event, args)


sys.addaudithook(_hook)  # there is no way to remove one; it is idle outside `watched`


@contextmanager
def watched(writable: Sequence[Path], port: int = 0) -> Iterator[None]:
    """AssertionError when something else was written, code was started or another place was connected to."""
    global _watching
    platform.processor()  # asks `uname` once; clients of judges name the machine in their first request
    watch = _watching = Watch(writable, port)
    try:
        yield
    finally:
        _watching = None
        assert not watch.seen, f"left its bounds: {watch.seen}"


@contextmanager
def bounded(seconds: float = LONGEST_S) -> Iterator[None]:
    """`Hang` after `seconds`; allocations beyond the limit fail."""
    ours = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")

    def stop(*_: Any) -> None:
        raise Hang(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop) if ours else None
    if ours:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with _little_memory():
            yield
    finally:
        if ours:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def _little_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    old = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@dataclass(frozen=True)
class Refused:
    """A clear error."""

    message: str


def attempt(names: Sequence[str], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Refused:
    """The call's value, or the ValueError it raised, which must say one of `names`: the file or the field.

    All else passes through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            said = str(error)
            assert any(name in said for name in names), (
                f"no file or field of {list(names)[:6]} is named: {said[:500]!r}"
            )
            assert len(said) <= LONGEST_MESSAGE, f"{len(said)} characters of error: {said[:300]!r} …"
            assert not any(words in said.lower() for words in NO_MEMORY), f"asked for too much memory: {said[:500]!r}"
            assert said.encode("utf-8", "surrogateescape"), "an error that no terminal shows"
            return Refused(said)


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder, links not followed: kind, size, time of change, and the content of what is small."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kind = stat.S_IFMT(facts.st_mode)
        content = os.readlink(path) if stat.S_ISLNK(facts.st_mode) else ""
        if stat.S_ISREG(facts.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest() if facts.st_size < 1 << 24 else ""
        size = facts.st_size if stat.S_ISREG(facts.st_mode) else 0
        found[os.fsdecode(path.relative_to(folder))] = (
            kind,
            size,
            0 if stat.S_ISDIR(facts.st_mode) else facts.st_mtime_ns,
            content,
        )
    return found
