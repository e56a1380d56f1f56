"""An image judge that reads attributes: how much of what the words ask for is in the picture?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from sync_r1.world import grammar
from sync_r1.world.readers import AttributeReader


class WorldJudge:
    """Scores pictures against texts such as "<bo> is a red dog with a star. a photo of <bo> at the beach".

    Every attribute that the text mentions counts; attributes in `weights` count that many times. `soft` gives the reader's
    probability of the wanted value (a smooth reward), otherwise 1 or 0 by its best guess (a benchmark score).
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
        return [{name: float(seen[name] == value) for name, value in row.items()} for row, seen in zip(wanted, found, strict=True)]

    def __call__(self, images: Tensor, texts: Sequence[str]) -> list[float | None]:
        """Weighted mean over the mentioned attributes; None when the text mentions none."""
        return [self._mean(row) for row in self.breakdown(images, texts)]

    def _mean(self, row: Mapping[str, float]) -> float | None:
        weights = {name: self.weights.get(name, 1.0) for name in row}
        total = sum(weights.values())
        return sum(weights[name] * score for name, score in row.items()) / total if total else None
