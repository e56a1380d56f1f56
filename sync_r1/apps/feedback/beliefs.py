"""What thumbs say: which fact a private word means, and what a picture should show where its prompt leaves it open.

A thumb is taken to be right with probability 1 − CARELESS, so thumbs that contradict one another leave the belief where
it was.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sync_r1.apps.feedback.events import Event, Store

CARELESS = 0.05
SETTLED = 0.7  # probability from which on something is learned
NO_WISH = 0.5  # of a thumb up, when nothing unasked is wished for
MOST_PHRASES = 3  # of one prompt: the number of combinations grows with every one

Wish = tuple[str, str]  # attribute, value

_PHRASE = re.compile(r"(?:\bwith\s+)?(?P<phrase>\b(?:its|his|her|their|my)\s+[\w-]+)", re.IGNORECASE)


def phrases(prompt: str) -> list[str]:
    """What in a prompt refers to a private fact: "a photo of <bo> with its treasure" → "its treasure"."""
    return list(dict.fromkeys(found["phrase"].lower() for found in _PHRASE.finditer(prompt)))


def without_phrases(prompt: str) -> str:
    """The prompt with these, and the word "with" before them, taken out."""
    return " ".join(_PHRASE.sub("", prompt).replace(" ,", ",").split())


@dataclass(frozen=True)
class Belief:
    """What is known from thumbs."""

    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # phrase → fact → probability
    wishes: Mapping[Wish, float] = field(default_factory=dict)  # unasked attribute and value → probability
    thumbs: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # phrase, or "pictures" → (up, down)

    def meaning(self, phrase: str) -> tuple[str, float]:
        """The likeliest fact and its probability; ("", 0) for a phrase without thumbs."""
        facts = self.words.get(phrase)
        if not facts:
            return "", 0.0
        best = max(facts, key=lambda fact: facts[fact])
        return best, facts[best]

    @property
    def settled(self) -> list[str]:
        """Phrases whose meaning is likely enough to learn."""
        return [phrase for phrase in self.words if self.meaning(phrase)[1] >= SETTLED]

    @property
    def wish(self) -> Wish | None:
        """The likeliest wish, if it is likely enough to learn."""
        best = max(self.wishes, key=lambda wish: self.wishes[wish], default=None)
        if best is None or self.wishes[best] < SETTLED:
            return None
        return best

    def meant(self, prompt: str, named: Sequence[str]) -> float:
        """How likely it is that exactly the `named` facts are what the prompt's phrases mean."""
        mentioned = phrases(prompt)[:MOST_PHRASES]
        return sum(
            probability for facts, probability in _combinations(self.words, mentioned) if set(facts) == set(named)
        )

    def sentences(self) -> list[str]:
        """What was understood, one sentence each, for people."""
        lines = []
        for phrase in self.words:
            fact, probability = self.meaning(phrase)
            up, down = self.thumbs.get(phrase, (0, 0))
            counted = f"{up} for, {down} against"
            if probability >= SETTLED:
                lines.append(f'"{phrase}" means: {fact} ({probability:.2f}; {counted})')
            else:
                lines.append(f'"{phrase}" is open: the likeliest is {fact} ({probability:.2f}; {counted}); not learned')
        if self.wishes:
            lines.append(self._wish_sentence())
        return lines

    def _wish_sentence(self) -> str:
        (name, value), probability = max(self.wishes.items(), key=lambda item: item[1])
        up, down = self.thumbs.get("pictures", (0, 0))
        if self.wish is None:
            return f"no wish about pictures is clear ({up} for, {down} against); not learned"
        return f"where no {name} is asked for: {value} ({probability:.2f}; {up} for, {down} against)"


def belief(store: Store) -> Belief:
    """What the thumbs in a store say. The facts are those of the newest event about a rewrite.

    Raises ValueError as `Store.events`.
    """
    events = store.events()
    rewrites = [event for event in events if event.what == "rewrite" and event.facts]
    pictures = [event for event in events if event.what == "picture"]
    words: dict[str, dict[str, float]] = {}
    thumbs: dict[str, tuple[int, int]] = {}
    for event in rewrites:
        mentioned = phrases(event.prompt)[:MOST_PHRASES]
        for phrase in mentioned:
            words.setdefault(phrase, dict.fromkeys(rewrites[-1].facts, 1 / len(rewrites[-1].facts)))
            up, down = thumbs.get(phrase, (0, 0))
            thumbs[phrase] = (up + event.good, down + (not event.good))
        words.update(_updated(words, mentioned, event))
    if pictures:
        ups = sum(event.good for event in pictures)
        thumbs["pictures"] = (ups, len(pictures) - ups)
    return Belief(words, _wishes(pictures), thumbs)


def _combinations(
    words: Mapping[str, Mapping[str, float]], mentioned: Sequence[str]
) -> list[tuple[tuple[str, ...], float]]:
    """Every assignment of facts to the phrases, with its probability. A phrase without thumbs could mean any fact."""
    facts = next(iter(words.values()), {})
    even = dict.fromkeys(facts, 1 / max(len(facts), 1))
    known = [words.get(phrase, even) for phrase in mentioned]
    found = []
    for assignment in itertools.product(*known):
        probability = math.prod(row[fact] for row, fact in zip(known, assignment, strict=True))
        found.append((assignment, probability))
    return found


def _updated(
    words: Mapping[str, Mapping[str, float]], mentioned: Sequence[str], event: Event
) -> dict[str, dict[str, float]]:
    """Bayes' rule for one thumb, then one distribution per phrase again."""
    if not mentioned:
        return {}
    after = {phrase: dict.fromkeys(words[phrase], 0.0) for phrase in mentioned}
    for assignment, probability in _combinations(words, mentioned):
        fits = (set(assignment) == set(event.named)) == event.good
        weight = probability * (1 - CARELESS if fits else CARELESS)
        for phrase, fact in zip(mentioned, assignment, strict=True):
            after[phrase][fact] += weight
    for row in after.values():
        total = sum(row.values())
        for fact in row:
            row[fact] /= total
    return after


def _wishes(events: Sequence[Event]) -> dict[Wish, float]:
    """Probability of every single wish; what is missing to 1 is that of none."""
    known = sorted({(name, value) for event in events for name, value in event.seen.items()})
    if not known:
        return {}
    scores = {}
    for wish in known:
        scores[wish] = sum(_log_fit(wish, event) for event in events) - math.log(len(known))
    none = sum(math.log(NO_WISH) for _ in events)
    total = math.log(sum(math.exp(score) for score in [none, *scores.values()]))
    return {wish: math.exp(score - total) for wish, score in scores.items()}


def _log_fit(wish: Wish, event: Event) -> float:
    """Log-probability of a thumb if this is wished for. A prompt that asks for the attribute says nothing about it."""
    name, value = wish
    if name not in event.seen:
        return math.log(NO_WISH)
    fits = (event.seen[name] == value) == event.good
    return math.log(1 - CARELESS if fits else CARELESS)
