"""A limit on a whole HTTP exchange:

httpx's own timeouts start anew with every piece that arrives, so slow drips never end.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Trace = Callable[[str, dict[str, Any]], None]


@contextmanager
def cut_after(seconds: float) -> Iterator[Trace]:
    """Yields httpx's `trace` extension for one request on a connection of its own, which is cut off when the time is
    up.
    """
    deadline = time.monotonic() + seconds
    opened: list[socket.socket] = []

    def cut() -> None:
        for connection in opened:
            with suppress(OSError):  # closed already, or moved into the socket of TLS that follows
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def trace(event: str, info: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete", "proxy.start_tls.complete"):
            opened.append(info["return_value"].get_extra_info("socket"))
            if time.monotonic() >= deadline:
                cut()

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield trace
    finally:
        timer.cancel()
