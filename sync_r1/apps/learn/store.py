"""A learner's answers: one line of JSON each, only ever appended, so that an interrupted lesson loses nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

from sync_r1.apps.learn.facts import Fact
from sync_r1.apps.learn.memory import GUESS, Memory
from sync_r1.config_fields import shown
from sync_r1.data.layout import ID
from sync_r1.files import is_device_name, read_text, write_text

LONGEST_ANSWER = 500
FORMULA_SIGNS = "=+-@\t\r"  # a table program would take such a cell for a formula
COLUMNS = ("time", "fact", "kind", "level", "question", "given", "answer", "right", "seconds")


@dataclass(frozen=True)
class Answer:
    """One answered question."""

    time: str  # ISO 8601 with the offset of the place
    fact: str
    kind: str
    level: int
    question: str
    given: str
    answer: str
    right: bool
    seconds: float = 0.0

    @property
    def day(self) -> date:
        return datetime.fromisoformat(self.time).date()


class Learner:
    """What a learner answered, in `<folder>/<name>.jsonl`."""

    def __init__(self, name: str, folder: Path | str = "lessons") -> None:
        """ValueError for a name that is no plain file name, and for a line that is no answer."""
        if not re.fullmatch(ID, name) or is_device_name(name):
            raise ValueError(
                f"learner is {shown(name)}; use the letters a to z, digits, _ and - only, at most 40, starting with a "
                "letter or digit, because files are named after it"
            )
        self.name = name
        self.path = Path(folder) / f"{name}.jsonl"
        self.answers: list[Answer] = []
        self.memory = Memory()
        if self.path.exists():
            self._read()

    def add(self, answer: Answer) -> None:
        """Write an answer and take it into account."""
        self._append(asdict(answer))
        self._take(answer)

    def reset(self) -> None:
        """Begin anew: what was answered stays in the file and counts no more."""
        self._append({"reset": True, "time": here_and_now().isoformat(timespec="seconds")})
        self.answers, self.memory = [], Memory()

    def delete(self) -> None:
        """Remove the learner's file. ValueError when there is none."""
        if not self.path.exists():
            raise ValueError(f"{self.path}: there is no learner {self.name!r} to delete")
        self.path.unlink()
        self.answers, self.memory = [], Memory()

    def write_csv(self, path: Path) -> Path:
        """All answers as a table. Cells that a table program would take for a formula begin with an apostrophe."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for answer in self.answers:
            table.writerow([quoted(str(asdict(answer)[column])) for column in COLUMNS])
        return write_text(path, text.getvalue())

    def _append(self, row: dict[str, object]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size:
            line = "\n" + line  # after a line that a power cut left half written
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.memory.answered(answer.fact, answer.right, answer.level, answer.day)

    def _read(self) -> None:
        lines = read_text(self.path).split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if row.get("reset"):
                    self.answers, self.memory = [], Memory()
                    continue
                answer = Answer(**row)
                if answer.level not in range(len(GUESS)):
                    raise ValueError(f"level is {answer.level!r}")
                self._take(answer)
            except (ValueError, TypeError, AttributeError) as error:
                if not line.endswith("}"):
                    continue  # half written
                raise ValueError(f"{self.path}, line {number}: this is no answer ({error}); remove the line") from error


@dataclass(frozen=True)
class Known:
    """What is believed of one fact, for the teacher."""

    fact: str
    sentence: str
    asked: int
    right: int
    known: float  # P(known) today
    due: str  # the day of the next question, or "" for one that was never asked


def report(learner: Learner, facts: Sequence[Fact], day: date) -> list[Known]:
    """Every fact with what is believed of it on a day."""
    rows = []
    for fact in facts:
        belief = learner.memory.belief(fact.id)
        due = "" if belief.due is None else belief.due.isoformat()
        rows.append(Known(fact.id, fact.sentence, belief.asked, belief.right, belief.at(day), due))
    return rows


def quoted(cell: str) -> str:
    """A cell that no table program takes for a formula."""
    if cell.startswith(tuple(FORMULA_SIGNS)):
        return f"'{cell}"
    return cell


def here_and_now() -> datetime:
    """The time with the offset of this place."""
    return datetime.now().astimezone()
