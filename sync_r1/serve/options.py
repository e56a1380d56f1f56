"""The options of a server, and the limits that hold for every request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

KEY_VARIABLE = "SYNC_R1_API_KEY"
SHORTEST_KEY = 16  # letters; shorter ones can be guessed

MAX_BODY_BYTES = 48 << 20  # two pictures as base64 and the words around them
MAX_PICTURE_BYTES = 20 << 20
MAX_MEGAPIXELS = 50
MAX_SIDE = 1024  # of an enlarged drawing
MAX_PICTURES = 10  # per request
MAX_TEXTS = 8  # answers per request
MAX_STEPS = 64
MAX_MESSAGES = 1000
MAX_STOPS = 4
BODY_SECONDS = 60.0  # for a request to arrive


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a server listens and works."""

    host: str = "127.0.0.1"
    port: int = 8000
    key: str = ""  # an empty one admits every client
    allowed_hosts: tuple[str, ...] = ()  # names by which it is called, besides its address
    max_waiting: int = 32  # requests in the queue; more are refused and may come again
    max_rows: int = 16  # texts or pictures that are made at once
    time_limit_s: float = 120.0  # for a request, waiting included
    rewrite: bool = False  # whether prompts are spelled out from the facts where a request does not say
    feedback: Path = Path("feedback")  # folder of what clients say about texts, a file per concept
    gather_s: float = 0.01  # how long a batch waits for the clients of the last one
    stop_s: int = 30  # that requests under way may take after the server was asked to stop
    protected: bool = False  # whether something else than the key keeps strangers out

    def __post_init__(self) -> None:
        for name, least in (("max_waiting", 1), ("max_rows", 1), ("time_limit_s", 0.01), ("gather_s", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not self.key and not self.protected and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host} lets other machines in, so a key is needed; set the environment variable "
                f"{KEY_VARIABLE}, or listen on 127.0.0.1"
            )
        if self.key and (len(self.key) < SHORTEST_KEY or not self.key.isascii() or not self.key.isprintable()):
            raise ValueError(
                f"{KEY_VARIABLE} must have at least {SHORTEST_KEY} printable ASCII letters; make one with "
                "`openssl rand -hex 24`"
            )

    @property
    def trusted_hosts(self) -> list[str]:
        """What the Host header of a request may name. Any host where a key is asked for and no name is given."""
        own = ["localhost", "127.0.0.1", "::1", "[::1]", *self.allowed_hosts]
        if self.host in ("0.0.0.0", "::"):
            if not self.allowed_hosts:
                return ["*"]
            return own
        return [*own, self.host]


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
