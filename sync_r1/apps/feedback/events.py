"""What people said about texts and pictures: one JSON object a line, in `feedback/<thing>.jsonl`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sync_r1.files import read_text

What = Literal["rewrite", "picture", "answer"]
FOLDER = Path("feedback")
WAIT_S = 10.0  # for another process that writes an event


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Event:
    """One thumb, with what the model's own look at it found."""

    what: What
    prompt: str  # what was asked: a drawing prompt or a question, with the placeholder
    output: str  # the model's text, or the file of its picture
    good: bool
    named: list[str] = field(default_factory=list)  # the facts or sentences it used, by credit
    facts: list[str] = field(default_factory=list)  # all private facts of the thing at that time
    seen: dict[str, str] = field(default_factory=dict)  # of a picture: what is seen and was not asked for
    picture: str = ""  # of an answer: the file of the picture that was asked about
    time: str = field(default_factory=_now)


_EVENT = TypeAdapter(Event)


class Store:
    """The events of one thing. Only added to; several processes may add and read at the same time."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, thing: str, folder: Path | str = FOLDER) -> Store:
        """`<folder>/<thing>.jsonl`. `thing` is a concept's name, which is a file name."""
        return cls(Path(folder) / f"{thing}.jsonl")

    def add(self, event: Event) -> None:
        """Append an event, whole or not at all. What a killed process left half written is cut off first.

        Raises:
            ValueError: another process holds the file for more than ten seconds.
            OSError: it cannot be written.
        """
        line = (json.dumps(asdict(event), ensure_ascii=False) + "\n").encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(), self.path.open("ab+") as file:
            end = _whole(file.seek(0, os.SEEK_END), self.path)
            file.truncate(end)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def events(self) -> list[Event]:
        """All events, oldest first; none while there is no file. A last line without its end does not count.

        Raises ValueError for a line that is no event: the file, the line, the field and what is wrong with it.
        """
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(read_text(self.path).split("\n")[:-1], 1):
            try:
                found.append(_EVENT.validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the line"
                raise ValueError(
                    f"{self.path}, line {number}: {where}: {first['msg']}; mend the line or delete it"
                ) from error
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=WAIT_S):
                yield
        except Timeout as error:
            raise ValueError(f"{self.path} is being written by another process; try again in a moment") from error


def _whole(size: int, path: Path) -> int:
    """How many bytes of the file hold complete lines."""
    if size == 0:
        return 0
    with path.open("rb") as file:
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1
