"""The belief as reward functions in TRL's shape: keyword columns in, a score in [0, 1] or None out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sync_r1.apps.feedback.beliefs import Belief, Wish, phrases, without_phrases
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.apps.feedback.rating import reward_reader
from sync_r1.scorers.base import Score
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.judge import WorldJudge


class WordReward:
    """How likely it is that a rewrite names what the words of its prompt mean, times the share of the rest it keeps.

    None for a prompt that holds no word whose meaning is settled. Which facts a rewrite names is read by credit, under
    the weights as they are when it is first seen.
    """

    def __init__(self, session: Session, belief: Belief) -> None:
        self.session, self.belief = session, belief
        self._named: dict[tuple[str, str], list[str]] = {}

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], kind: Sequence[str], **_: Any
    ) -> list[Score]:
        """One score per trajectory."""
        settled = set(self.belief.settled)
        rows = list(zip(prompts, completions, strict=True))
        judged = [
            which == "reason" and not settled.isdisjoint(phrases(prompt))
            for which, prompt in zip(kind, prompts, strict=True)
        ]
        self._name([row for row, wanted in zip(rows, judged, strict=True) if wanted])
        scores: list[Score] = []
        for row, wanted in zip(rows, judged, strict=True):
            scores.append(self._score(row) if wanted else None)
        return scores

    def _name(self, rows: Sequence[tuple[str, str]]) -> None:
        new = [row for row in dict.fromkeys(rows) if row not in self._named]
        self._named.update(zip(new, facts_named(self.session, new), strict=True))

    def _score(self, row: tuple[str, str]) -> float:
        prompt, completion = row
        return self.belief.meant(prompt, self._named[row]) * kept_share(prompt, completion, self.belief)


def reward(session: Session, belief: Belief) -> WordReward:
    """The reward function of what words mean."""
    return WordReward(session, belief)


def kept_share(prompt: str, completion: str, belief: Belief) -> float:
    """The share of the prompt's words, without those that refer to facts, that are in the text as well, as often.

    Less where the text adds more words than the longest fact has for each phrase: a text that keeps everything and
    says it twice, or says more, is not what was asked for.
    """
    asked, written = _counted(without_phrases(prompt)), _counted(completion)
    kept = (asked & written).total()
    mentioned = phrases(prompt)
    room = sum(max(map(len, map(str.split, belief.words.get(phrase, ()))), default=0) for phrase in mentioned)
    added = written.total() - kept
    return kept / max(asked.total(), 1) * min(1.0, room / max(added, 1))


def _counted(text: str) -> Counter[str]:
    return Counter(text.replace(",", " ").lower().split())


class WishReward:
    """How surely a picture shows what is wished for. None where the drawing prompt asks for that attribute itself."""

    def __init__(self, wish: Wish) -> None:
        self.attribute, self.value = wish

    def __call__(self, *, images: Tensor, drawing_prompts: Sequence[str], **_: Any) -> list[Score]:
        """One score per picture."""
        wanted: list[Mapping[str, str]] = [{self.attribute: self.value} for _ in drawing_prompts]
        found = reward_reader().probabilities(images, wanted)
        scores: list[Score] = []
        for prompt, row in zip(drawing_prompts, found, strict=True):
            scores.append(None if self.attribute in grammar.parse(prompt) else row[self.attribute])
        return scores


class PromptReward:
    """How surely a picture shows what its drawing prompt and the info line ask for, whatever is wished for besides."""

    def __init__(self) -> None:
        self.judge = WorldJudge(reward_reader(), soft=True)

    def __call__(
        self, *, images: Tensor, drawing_prompts: Sequence[str], concept: Sequence[Any], **_: Any
    ) -> list[Score]:
        """One score per picture."""
        texts = [f"{who.info} {prompt}" for who, prompt in zip(concept, drawing_prompts, strict=True)]
        return self.judge(images, texts)
