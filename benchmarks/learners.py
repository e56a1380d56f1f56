"""Does the choice of the next question help? Simulated learners, asked by four ways of choosing, equally often.

    python benchmarks/learners.py --out docs/learners.json

A learner has 24 facts and is asked 10 questions on each of 6 or of 12 days, every answer is shown. From 10 to 50 % of
the facts are known before. Learners of three kinds, none of which is what `sync_r1.apps.learn.memory` believes:

- mastery: what was learned stays. Every fact has a rate of its own at which a shown answer is learned.
- half-life: a memory has a half-life that grows with every recall, more so the more of it had faded.
- activation: every question leaves a trace that decays, the faster the fresher the memory was (Pavlik and Anderson
  2005), so that spaced questions last longer. Time between days counts for 0.025 of itself, as there.

Measured is the share of the facts that are known a day and a week after the last questions: the true probability that
the learner recalls them, so no test adds noise. The same learners meet every way. Differences are paired over learners;
their 95 % intervals come from a bootstrap. Parameters were tuned on other seeds (--seed).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from sync_r1.apps.learn.memory import ENOUGH, GUESS, Memory
from sync_r1.files import write_text
from sync_r1.unifybench.bootstrap import interval, resampled_means

FACTS, QUESTIONS = 24, 10
COURSES = (6, 12)  # days
MINUTE = 0.5 / (24 * 60)  # days between two questions
FIRST_DAY = date(2026, 1, 1)
PAST = (-30.0, -25.0, -20.0, -15.0, -10.0, -5.0)  # days on which what is known before was met, for `Activation`
DELAYS = {"a day later": 1, "a week later": 7}
REPORTED_SEED = 20260  # never used for tuning


class Learner(Protocol):
    """A learner with a memory of FACTS facts."""

    def recall(self, fact: int, now: float) -> float:
        """P(recalled) at a time in days."""
        ...

    def shown(self, fact: int, recalled: bool, now: float) -> None:
        """The true answer was shown after the learner recalled the fact, or did not."""
        ...


def known_before(rng: np.random.Generator) -> np.ndarray:
    """Which facts [FACTS] bool a learner knew before: another share of them for every learner."""
    return rng.random(FACTS) < rng.uniform(0.1, 0.5)


class Mastery:
    """Learns for good."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.knows = known_before(rng)
        self.rate = rng.beta(2, 3, FACTS)

    def recall(self, fact: int, now: float) -> float:
        return float(self.knows[fact])

    def shown(self, fact: int, recalled: bool, now: float) -> None:
        if not self.knows[fact] and self.rng.random() < self.rate[fact]:
            self.knows[fact] = True


class HalfLife:
    """A memory halves in a time that grows with every recall."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.start = 0.8 * np.exp(rng.normal(0, 0.8, FACTS))  # days
        self.growth = rng.uniform(1.0, 3.0)
        self.half_life = np.where(known_before(rng), 20.0, 0.0)
        self.since = np.zeros(FACTS)

    def recall(self, fact: int, now: float) -> float:
        if self.half_life[fact] == 0:
            return 0.0
        return float(0.5 ** ((now - self.since[fact]) / self.half_life[fact]))

    def shown(self, fact: int, recalled: bool, now: float) -> None:
        faded = 1 - self.recall(fact, now)
        if recalled:
            self.half_life[fact] *= 1 + self.growth * faded + 0.1
        else:
            self.half_life[fact] = max(self.start[fact], 0.4 * self.half_life[fact])
        self.since[fact] = now


class Activation:
    """Traces that decay by a power of time; parameters of Pavlik and Anderson (2005), varied over facts."""

    SPACING, THRESHOLD, NOISE, BETWEEN = 0.217, -0.704, 0.255, 0.025

    def __init__(self, rng: np.random.Generator) -> None:
        self.decay = np.clip(rng.normal(0.177, 0.06, FACTS), 0.05, None)
        self.traces: list[list[tuple[float, float]]] = [[] for _ in range(FACTS)]  # of each fact: time, decay
        for fact in np.flatnonzero(known_before(rng)):
            for then in PAST:
                self.shown(int(fact), True, then)

    def _level(self, fact: int, now: float) -> float:
        total = 0.0
        for then, decay in self.traces[fact]:
            total += self._seconds(then, now) ** -decay
        return math.log(total) if total else -math.inf

    def _seconds(self, then: float, now: float) -> float:
        between = int(now) - int(then)
        within = (now - then - between) * 86400
        return max(1.0, within + between * 86400 * self.BETWEEN)

    def recall(self, fact: int, now: float) -> float:
        level = self._level(fact, now)
        if level == -math.inf:
            return 0.0
        return 1 / (1 + math.exp((self.THRESHOLD - level) / self.NOISE))

    def shown(self, fact: int, recalled: bool, now: float) -> None:
        level = self._level(fact, now)
        fresh = math.exp(level) if level > -math.inf else 0.0
        self.traces[fact].append((now, self.SPACING * fresh + float(self.decay[fact])))


KINDS: dict[str, Callable[[np.random.Generator], Learner]] = {
    "mastery": Mastery,
    "half-life": HalfLife,
    "activation": Activation,
}
Way = Callable[[Memory, int, date, np.random.Generator], tuple[int, int]]  # → fact and level


def adaptive(memory: Memory, number: int, day: date, rng: np.random.Generator) -> tuple[int, int]:
    choice = memory.choose(NAMES, day)
    return NAMES.index(choice.fact), choice.level


def by_due_date(memory: Memory, number: int, day: date, rng: np.random.Generator) -> tuple[int, int]:
    """As flash card programs do: what is due, the least known first; then what is new; then the least known."""
    asked = {fact: memory.belief(fact).due for fact in NAMES}
    due = [fact for fact, when in asked.items() if when is not None and when <= day]
    new = [fact for fact, when in asked.items() if when is None]
    if due:
        fact = min(due, key=lambda fact: memory.known(fact, day))
    elif new:
        fact = new[0]
    else:
        fact = min(NAMES, key=lambda fact: memory.known(fact, day))
    return NAMES.index(fact), memory.belief(fact).level


def round_robin(memory: Memory, number: int, day: date, rng: np.random.Generator) -> tuple[int, int]:
    return number % FACTS, memory.belief(NAMES[number % FACTS]).level


def at_random(memory: Memory, number: int, day: date, rng: np.random.Generator) -> tuple[int, int]:
    fact = int(rng.integers(FACTS))
    return fact, memory.belief(NAMES[fact]).level


NAMES = [f"fact {number}" for number in range(FACTS)]
WAYS: dict[str, Way] = {
    "adaptive": adaptive,
    "due dates": by_due_date,
    "round robin": round_robin,
    "random": at_random,
}


def teach(learner: Learner, way: Way, days: int, rng: np.random.Generator) -> dict[str, float]:
    """Ask all questions; returns delay → share of the facts that are known then."""
    memory, slip = Memory(), rng.uniform(0.02, 0.15)
    for number in range(days * QUESTIONS):
        day, place = divmod(number, QUESTIONS)
        now = day + place * MINUTE
        fact, level = way(memory, number, FIRST_DAY + timedelta(days=day), rng)
        recalled = bool(rng.random() < learner.recall(fact, now))
        chance = 1 - slip if recalled else GUESS[level]
        right = bool(rng.random() < chance)
        learner.shown(fact, recalled, now)
        memory.answered(NAMES[fact], right, level, FIRST_DAY + timedelta(days=day))
    end = days - 1
    known = {}
    for name, delay in DELAYS.items():
        known[name] = float(np.mean([learner.recall(fact, end + delay) for fact in range(FACTS)]))
    return known


def mean_interval(values: np.ndarray, seed: int = 0) -> list[float]:
    """95 % interval of the mean by bootstrap over learners."""
    ends = interval(resampled_means(values, 4000, np.random.default_rng(seed)))
    return [round(end, 4) for end in ends]


def measure(kind: str, days: int, count: int, seed: int, ways: Sequence[str]) -> dict[str, object]:
    """Every way with the same learners; means, and what the first way has over each other."""
    scores: dict[str, dict[str, list[float]]] = {way: {name: [] for name in DELAYS} for way in ways}
    for number in range(count):
        for way in ways:
            learner = KINDS[kind](np.random.default_rng([seed, number]))
            known = teach(learner, WAYS[way], days, np.random.default_rng([seed, number, 1]))
            for name, share in known.items():
                scores[way][name].append(share)
    result: dict[str, object] = {}
    for name in DELAYS:
        values = {way: np.array(scores[way][name]) for way in ways}
        gains = {}
        for way in ways[1:]:
            difference = values[ways[0]] - values[way]
            gains[way] = {"difference": round(float(difference.mean()), 4), "ci95": mean_interval(difference)}
        known_share = {way: round(float(value.mean()), 4) for way, value in values.items()}
        result[name] = {"known": known_share, f"{ways[0]} over": gains}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=REPORTED_SEED)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    started = time.perf_counter()
    setting = {"facts": FACTS, "questions a day": QUESTIONS, "learners": given.learners}
    result: dict[str, object] = {"setting": {**setting, "seed": given.seed, "known enough": ENOUGH}}
    for kind in given.kinds:
        courses = {f"{days} days": measure(kind, days, given.learners, given.seed, given.ways) for days in COURSES}
        result[kind] = courses
        print(kind, json.dumps(courses), f"{time.perf_counter() - started:.0f} s", flush=True)
    if given.out is not None:
        write_text(given.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
