"""What a learner knows, as far as the answers tell, and which fact to ask next.

Within a day every answer moves P(known) by Bayesian knowledge tracing (Corbett and Anderson 1995). Across days the
library `fsrs` says how a memory fades: what was known at the end of a day is multiplied by its retrievability. A fact
that is known well enough waits until FSRS calls it due; of the others the one that waited longest is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone

from fsrs import Card, Rating, Scheduler

PRIOR = 0.2  # P(a fact is known before the first question)
LEARN = 0.8  # P(a fact that was not known is known on the same day after its answer was shown)
SLIP = 0.08  # P(wrong | known)
GUESS = (0.9, 0.25, 0.02)  # P(right | not known) by level: two choices and a picture, four choices, typed
FIRST_LEVEL = 1  # of a new fact; one higher after a right answer, one lower after a wrong one
ENOUGH = 0.95  # a fact that is known with this probability waits; benchmarks/learners.py tells what it is good for

# Steps within a day are knowledge tracing's business, so that a card is always due on a later day.
_SCHEDULER = Scheduler(desired_retention=ENOUGH, learning_steps=(), relearning_steps=(), enable_fuzzing=False)


def at_noon(day: date) -> datetime:
    """FSRS counts whole periods of 24 hours; noon of every day makes them days of the calendar."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Belief:
    """What is believed of one fact."""

    known: float = PRIOR  # P(known) at the end of `day`
    card: Card = field(default_factory=lambda: Card(card_id=0))
    day: date | None = None  # of the last answer; None before the first
    asked: int = 0
    right: int = 0
    level: int = FIRST_LEVEL  # how hard to ask next

    def at(self, day: date) -> float:
        """P(known) on a day, if nothing is asked until then."""
        if self.day is None:
            return self.known
        return self.known * _SCHEDULER.get_card_retrievability(self.card, at_noon(day))

    def after(self, right: bool, level: int, day: date) -> Belief:
        """The belief once a question of a level was answered and the true answer was shown."""
        card, _ = _SCHEDULER.review_card(self.card, _rating(right, level), at_noon(day))
        step = 1 if right else -1
        following = min(max(level + step, 0), len(GUESS) - 1)
        return Belief(traced(self.at(day), right, level), card, day, self.asked + 1, self.right + right, following)

    @property
    def due(self) -> date | None:
        """The day from which on FSRS would ask again; None before the first answer."""
        if self.day is None:
            return None
        return self.card.due.date()


def traced(known: float, right: bool, level: int) -> float:
    """P(known) after an answer to a question of a level, and after what the shown answer taught."""
    p_right = known * (1 - SLIP) + (1 - known) * GUESS[level]
    if right:
        believed = known * (1 - SLIP) / p_right
    else:
        believed = known * SLIP / (1 - p_right)
    return believed + (1 - believed) * LEARN


def _rating(right: bool, level: int) -> Rating:
    if not right:
        return Rating.Again
    return Rating.Hard if level == 0 else Rating.Good


@dataclass(frozen=True)
class Choice:
    """The next question: of which fact, how hard, and why this one now."""

    fact: str
    level: int  # of GUESS
    reason: str


@dataclass
class Memory:
    """The beliefs about the facts that were asked."""

    beliefs: dict[str, Belief] = field(default_factory=dict)
    last: str = ""  # the fact that was asked last

    def belief(self, fact: str) -> Belief:
        """What is believed of a fact; of one that was never asked the prior."""
        return self.beliefs.get(fact) or Belief()

    def known(self, fact: str, day: date) -> float:
        """P(known) on a day."""
        return self.belief(fact).at(day)

    def answered(self, fact: str, right: bool, level: int, day: date) -> None:
        """Take an answer into account."""
        self.beliefs[fact] = self.belief(fact).after(right, level, day)
        self.last = fact

    def open(self, facts: Iterable[str], day: date) -> list[str]:
        """The facts that are not known well enough on a day."""
        return [fact for fact in facts if self.known(fact, day) < ENOUGH]

    def choose(self, facts: Sequence[str], day: date) -> Choice:
        """The fact that waited longest, new ones first, of those that are not known well enough.

        Of facts that were asked on the same day it is the least known. Where all are known well enough, it
        is the least known of all. No fact is asked twice on a day while another was not
        asked, nor twice in a row where there is another. ValueError without facts.
        """
        if not facts:
            raise ValueError("there is nothing to ask: give at least one fact")
        others = [fact for fact in facts if fact != self.last] or list(facts)
        options = [fact for fact in others if self.belief(fact).day != day] or others
        waiting = self.open(options, day)
        if waiting:
            fact = min(waiting, key=lambda fact: (self.belief(fact).day or date.min, self.known(fact, day)))
        else:
            fact = min(options, key=lambda fact: self.known(fact, day))
        return Choice(fact, self.belief(fact).level, self._reason(fact, day))

    def _reason(self, fact: str, day: date) -> str:
        belief = self.belief(fact)
        if belief.day is None:
            return "new"
        known = f"known with probability {belief.at(day):.2f}"
        if belief.day == day:
            return f"asked today, {known}"
        days = (day - belief.day).days
        return f"last asked {days} {'day' if days == 1 else 'days'} ago, {known}"
