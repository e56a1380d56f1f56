"""A lesson: the next question, and what is shown after the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from PIL import Image

from sync_r1.apps.learn.facts import Fact, facts_of
from sync_r1.apps.learn.items import Item, Source, make_item, own_drawing, picture_of
from sync_r1.apps.learn.store import LONGEST_ANSWER, Answer, Learner, here_and_now
from sync_r1.session import Session


@dataclass(frozen=True)
class Feedback:
    """What a learner gets back after an answer."""

    right: bool
    sentence: str
    picture: Image.Image
    known: float  # P(the fact is known) now


@dataclass
class Lesson:
    """Questions to one learner about one or several things."""

    sessions: Mapping[str, Session]  # by the concept's id
    learner: Learner
    seed: int = 0
    clock: Callable[[], datetime] = here_and_now
    facts: list[Fact] = field(init=False)
    _sources: dict[str, Source] = field(init=False, default_factory=dict)
    _asked_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """ValueError without things, or for a thing without anything to learn about."""
        if not self.sessions:
            raise ValueError("there is nothing to learn about: name at least one concept")
        self.facts = [fact for session in self.sessions.values() for fact in facts_of(session.concept)]

    @property
    def today(self) -> date:
        """The day of the calendar where the learner is."""
        return self.clock().date()

    def next_item(self) -> Item:
        """The question that helps this learner most now."""
        ids = [fact.id for fact in self.facts]
        choice = self.learner.memory.choose(ids, self.today)
        fact = self.facts[ids.index(choice.fact)]
        self._asked_at = time.monotonic()
        return make_item(self._source(fact), fact, choice.level, self.facts, self._random(), choice.reason)

    def answer(self, item: Item, given: str) -> Feedback:
        """Judge an answer, remember it, and say and show what is true. An empty one stands for "I do not know".

        ValueError for one of more than 500 letters.
        """
        if len(given) > LONGEST_ANSWER:
            raise ValueError(f"the answer has {len(given)} letters; at most {LONGEST_ANSWER} are read, so shorten it")
        right, fact, written = item.is_right(given), item.fact, given.strip()
        source, rng = self._source(fact), self._random()
        seconds = round(time.monotonic() - self._asked_at, 1)
        moment = self.clock().isoformat(timespec="seconds")
        self.learner.add(
            Answer(moment, fact.id, item.kind, item.level, item.question, written, fact.answer, right, seconds)
        )
        picture = own_drawing(source, written, rng) if right and item.kind == "draw" else None
        sentence = f"{'Right' if right else 'No'}: {fact.answer}. {fact.sentence}"
        known = self.learner.memory.known(fact.id, self.today)
        return Feedback(right, sentence, picture or picture_of(source, fact, rng), known)

    @property
    def finished(self) -> bool:
        """Whether every fact is known well enough for today."""
        return not self.learner.memory.open([fact.id for fact in self.facts], self.today)

    @property
    def next_day(self) -> date | None:
        """The day on which the first fact is due again; None before the first answer."""
        due = [self.learner.memory.belief(fact.id).due for fact in self.facts]
        return min((day for day in due if day is not None), default=None)

    def _source(self, fact: Fact) -> Source:
        """Of the fact's thing; whether drawings of it can be trusted is found out once."""
        if fact.thing not in self._sources:
            self._sources[fact.thing] = Source.of(self.sessions[fact.thing])
        return self._sources[fact.thing]

    def _random(self) -> np.random.Generator:
        """Another generator for every question, the same after a restart."""
        return np.random.default_rng([self.seed, len(self.learner.answers)])
