"""Lessons in the studio: who learns, the question that is open, and the teacher's table.

The open question follows from the answers so far, so that it is the same one when the page is opened anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.apps.learn import Feedback, Item, Learner, Lesson, facts_of, report
from sync_r1.apps.studio.folder import StudioFolder
from sync_r1.session import Session

MOST_THINGS = 4  # of one lesson: each needs its model
MOST_LESSONS = 8  # that are kept in memory


@dataclass(frozen=True)
class Open:
    """What the page shows: the question, or that it is enough for today."""

    item: Item | None
    number: int
    until: str  # the day of the next question, where it is enough


class Lessons:
    """Lessons that were begun; what they know about pictures is worth keeping, answers lie in files."""

    def __init__(self, studio: StudioFolder) -> None:
        self.studio = studio
        self._known: dict[tuple[Any, ...], Lesson] = {}

    def lesson(self, sessions: Mapping[str, Session], learner: str) -> Lesson:
        """The lesson of a learner about some things, with the answers as they are on the disk now."""
        key = (learner, *((name, id(session)) for name, session in sessions.items()))
        who = Learner(learner, self.studio.lessons)
        if key in self._known:
            self._known[key].learner = who
        else:
            while len(self._known) >= MOST_LESSONS:
                del self._known[next(iter(self._known))]
            self._known[key] = Lesson(sessions, who)
        return self._known[key]

    def open(self, sessions: Mapping[str, Session], learner: str, more: bool = False) -> Open:
        """The question that helps most now.

        Args:
            more: ask on although everything is known well enough for today.
        """
        lesson = self.lesson(sessions, learner)
        number = len(lesson.learner.answers) + 1
        if lesson.finished and not more:
            return Open(None, number, str(lesson.next_day))
        return Open(lesson.next_item(), number, "")

    def answer(self, sessions: Mapping[str, Session], learner: str, item: Item, given: str) -> Feedback:
        """Judge and keep an answer."""
        return self.lesson(sessions, learner).answer(item, given)


def check_things(names: Sequence[str]) -> list[str]:
    """The things of a lesson. ValueError for none, or more than four."""
    if not 1 <= len(names) <= MOST_THINGS:
        raise ValueError(f"{len(names)} things are chosen; choose 1 to {MOST_THINGS}")
    return list(names)


def learners(studio: StudioFolder) -> list[str]:
    """Names of all learners."""
    return sorted(path.stem for path in studio.lessons.glob("*.jsonl"))


def table(studio: StudioFolder, learner: str, names: Sequence[str]) -> list[list[str]]:
    """What is believed of every fact: fact, sentence, right of asked, known, due."""
    from sync_r1.apps.learn.store import here_and_now

    who = Learner(learner, studio.lessons)
    facts = [fact for name in check_things(names) for fact in facts_of(studio.thing(name))]
    rows = []
    for row in report(who, facts, here_and_now().date()):
        rows.append([row.fact, row.sentence, f"{row.right}/{row.asked}", f"{row.known:.2f}", row.due or "new"])
    return rows


def csv_file(studio: StudioFolder, learner: str) -> Path:
    """All answers as a table in the folder of downloads."""
    return Learner(learner, studio.lessons).write_csv(studio.temporary / "downloads" / f"{learner}.csv")


def reset(studio: StudioFolder, learner: str) -> None:
    """Begin anew; the old answers stay in the file."""
    Learner(learner, studio.lessons).reset()


def delete(studio: StudioFolder, learner: str) -> None:
    """Remove a learner. ValueError when there is none."""
    Learner(learner, studio.lessons).delete()
