"""An image judge that reads attributes: how much of what the words ask for is in the picture?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sync_r1.scorers.text import exact, token_f1
from sync_r1.world import grammar
from sync_r1.world.readers import AttributeReader


class WorldJudge:
    """Scores pictures against texts such as "<bo> is a red dog with a star. a photo of <bo> at the beach".

    Every attribute that the text mentions counts; attributes in `weights` count that many times. `soft` gives the
    reader's probability of the wanted value (a smooth reward), otherwise 1 or 0 by its best guess (a benchmark score).
    """

    def __init__(self, reader: AttributeReader, soft: bool = False, weights: Mapping[str, float] | None = None) -> None:
        self.reader = reader
        self.soft = soft
        self.weights = dict(weights or {})

    def breakdown(self, images: Tensor, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per picture (uint8 [B, 3, 32, 32]): mentioned attribute → score in [0, 1]."""
        wanted = [grammar.parse(text) for text in texts]
        if self.soft:
            return self.reader.probabilities(images, wanted)
        found = self.reader.read(images)
        return [
            {name: float(seen[name] == value) for name, value in row.items()}
            for row, seen in zip(wanted, found, strict=True)
        ]

    def __call__(
        self, images: Tensor, texts: Sequence[str], *, references: Sequence[Sequence[Path]] | None = None
    ) -> list[float | None]:
        """Weighted mean over the mentioned attributes; None when the text mentions none.

        It reads texts only, never `references`.
        """
        return [self._mean(row) for row in self.breakdown(images, texts)]

    def score_text_answer(
        self, questions: Sequence[str], references: Sequence[str], answers: Sequence[str]
    ) -> list[float | None]:
        """1 when the answer says what the reference says, 0.5 when it says a part of it or more than it, else 0.

        What a text says are its attributes; a reference without any ("nothing", "Yes.") must be met word for word, and
        0.5 is for half of its words. `questions` are not needed: in this world they never change what a right answer
        is.
        """
        return [_agreement(reference, answer) for reference, answer in zip(references, answers, strict=True)]

    def score_prompt_similarity(self, references: Sequence[str], rewrites: Sequence[str]) -> list[float | None]:
        """1 when a rewrite asks for the same attributes of the same placeholder, 0.5 when it has some of them, else 0."""
        scores: list[float | None] = []
        for reference, rewrite in zip(references, rewrites, strict=True):
            kept = set(re.findall(r"<[^<>\s]+>", reference)) <= set(re.findall(r"<[^<>\s]+>", rewrite))
            scores.append(min(_agreement(reference, rewrite), 1.0 if kept else 0.5))
        return scores

    def score_clauses(self, images: Tensor, prompts: Sequence[str]) -> list[float | None]:
        """Share of a prompt's clauses (between commas) that the picture shows in full; clauses without attributes are
        nobody's to judge.

        images uint8 [B, 3, 32, 32], B prompts → B scores; None where no clause mentions an attribute.
        """
        scores: list[float | None] = []
        for seen, prompt in zip(self.reader.read(images), prompts, strict=True):
            wanted = [found for clause in prompt.split(",") if (found := grammar.parse(clause))]
            hits = [all(seen[name] == value for name, value in clause.items()) for clause in wanted]
            scores.append(sum(hits) / len(hits) if hits else None)
        return scores

    def _mean(self, row: Mapping[str, float]) -> float | None:
        weights = {name: self.weights.get(name, 1.0) for name in row}
        total = sum(weights.values())
        return sum(weights[name] * score for name, score in row.items()) / total if total else None


def _agreement(reference: str, text: str) -> float:
    """1 when both mention the same attributes, 0.5 when they share one, else 0.

    By the words where the reference mentions none.
    """
    meant, said = set(grammar.parse(reference).items()), set(grammar.parse(text).items())
    if not meant:
        return 1.0 if exact(text, reference) else 0.5 * (token_f1(text, reference) >= 0.5)
    return 1.0 if said == meant else 0.5 * bool(said & meant)
