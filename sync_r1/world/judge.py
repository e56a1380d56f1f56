"""An image judge that reads attributes: how much of what the words ask for is in the picture?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sync_r1.scorers.text import exact, token_f1
from sync_r1.world import grammar
from sync_r1.world.readers import AttributeReader, View, half


@dataclass(frozen=True)
class _Look:
    """One reading of a picture: which, which part of it, and what should be seen there."""

    picture: int
    view: View
    wanted: Mapping[str, str]


class WorldJudge:
    """Scores pictures against texts such as "<bo> is a red dog with a star. a photo of <bo> at the beach".

    Every attribute that the text mentions counts; attributes in `weights` count that many times. `soft` gives the
    reader's probability of the wanted value (a smooth reward), otherwise 1 or 0 by its best guess (a benchmark score).
    """

    counts_unasked = True

    def __init__(self, reader: AttributeReader, soft: bool = False, weights: Mapping[str, float] | None = None) -> None:
        self.reader = reader
        self.soft = soft
        self.weights = dict(weights or {})

    def breakdown(self, images: Tensor, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per picture (uint8 [B, 3, 32, 32]): mentioned attribute → score in [0, 1].

        A text about two is read half by half: "left colour", "right colour", …, and "subjects", which is two.
        """
        rows: list[dict[str, float]] = [{} for _ in texts]
        looks = _looks([grammar.subjects(text) for text in texts])
        for look, scores in zip(looks, self._scores(images, looks), strict=True):
            if look.view == "whole":
                side = ""
            else:
                side = f"{look.view} "
            rows[look.picture] |= {f"{side}{name}": score for name, score in scores.items()}
        return rows

    def _scores(self, images: Tensor, looks: Sequence[_Look]) -> list[dict[str, float]]:
        """Per look: wanted attribute → score. A held thing may be in either hand."""
        if not looks:
            return []
        shown = torch.cat([_shown(images, look) for look in looks])
        wanted = [dict(look.wanted) for look in looks]
        wanted = [{**row, "spare": row["item"]} if "item" in row else row for row in wanted]
        if self.soft:
            scores = self.reader.probabilities(shown, wanted)
        else:
            found = self.reader.read(shown)
            scores = []
            for asked, seen in zip(wanted, found, strict=True):
                scores.append({name: float(seen[name] == value) for name, value in asked.items()})
        for row in scores:
            if "spare" in row:
                row["item"] = max(row["item"], row.pop("spare"))
        return scores

    def unasked(self, images: Tensor, texts: Sequence[str]) -> list[int | None]:
        """How many things each picture (uint8 [B, 3, 32, 32]) shows that its text does not name.

        A hat, every held thing and a second character count where the text asks for none; another hat than the one
        that is asked for is wrong, not unasked. None where the text names nothing that can be drawn.
        """
        asked = [grammar.subjects(text) for text in texts]
        counts: list[int | None] = [0 if any(wanted) else None for wanted in asked]
        sides: list[_Look] = []
        for index, wanted in enumerate(asked):
            views: tuple[View, ...] = ("left", "right") if len(wanted) == 2 else ("whole",)
            sides += [_Look(index, view, one) for view, one in zip(views, wanted, strict=True) if any(wanted)]
        if not sides:
            return counts
        found = self.reader.read(torch.cat([_shown(images, look) for look in sides]))
        for look, seen in zip(sides, found, strict=True):
            count = counts[look.picture]
            assert count is not None
            counts[look.picture] = count + _extra(look, seen)
        return counts

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
        """1 when a rewrite asks for the same attributes of the same placeholder, 0.5 when it has some of them, else
        0."""
        scores: list[float | None] = []
        for reference, rewrite in zip(references, rewrites, strict=True):
            kept = set(re.findall(r"<[^<>\s]+>", reference)) <= set(re.findall(r"<[^<>\s]+>", rewrite))
            scores.append(min(_agreement(reference, rewrite), 1.0 if kept else 0.5))
        return scores

    def score_clauses(self, images: Tensor, prompts: Sequence[str]) -> list[float | None]:
        """Share of a prompt's clauses (between commas) that the picture shows in full; clauses without attributes
        are left out.

        images uint8 [B, 3, 32, 32], B prompts → B scores; None where no clause mentions an attribute.
        """
        scores: list[float | None] = []
        for seen, prompt in zip(self.reader.read(images), prompts, strict=True):
            wanted = [found for clause in prompt.split(",") if (found := grammar.parse(clause))]
            hits = []
            for clause in wanted:
                hits.append(all(seen[name] == value for name, value in clause.items()))
            scores.append(sum(hits) / len(hits) if hits else None)
        return scores

    def _mean(self, row: Mapping[str, float]) -> float | None:
        weights = {name: self.weights.get(name.split()[-1], 1.0) for name in row}
        total = sum(weights.values())
        if total:
            return sum(weights[name] * score for name, score in row.items()) / total
        return None


def _looks(asked: Sequence[Sequence[Mapping[str, str]]]) -> list[_Look]:
    """What to read of every picture: the whole for one character; both halves, the place and the number for two."""
    looks = []
    for index, wanted in enumerate(asked):
        if len(wanted) == 1:
            looks.append(_Look(index, "whole", wanted[0]))
            continue
        left, right = dict(wanted[0]), dict(wanted[1])
        both = {"subjects": "two"}
        if "scene" in left:
            both["scene"] = left["scene"]
        left.pop("scene", None)
        right.pop("scene", None)
        looks += [_Look(index, "left", left), _Look(index, "right", right), _Look(index, "whole", both)]
    return looks


def _shown(images: Tensor, look: _Look) -> Tensor:
    picture = images[look.picture : look.picture + 1]
    if look.view == "whole":
        return picture
    return half(picture, look.view)


def _extra(look: _Look, seen: Mapping[str, str]) -> int:
    """How many hats, held things and characters are seen in one view beyond what is wanted there."""
    hats = int(seen["hat"] != "none" and "hat" not in look.wanted)
    if look.view != "whole":
        return hats
    held = (seen["item"] != "none") + (seen["spare"] != "none")
    return hats + max(0, held - ("item" in look.wanted)) + int(seen["subjects"] == "two")


def _agreement(reference: str, text: str) -> float:
    """1 when both mention the same attributes, 0.5 when they share one, else 0.

    By the words where the reference mentions none.
    """
    meant, written = set(grammar.parse(reference).items()), set(grammar.parse(text).items())
    if not meant:
        if exact(text, reference):
            return 1.0
        return 0.5 * (token_f1(text, reference) >= 0.5)
    if written == meant:
        return 1.0
    return 0.5 * bool(written & meant)
