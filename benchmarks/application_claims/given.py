"""What the measurement of a claim is given: one concept and seed, and the models to measure with."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sync_r1.session import Session
from sync_r1.world.concepts import Persona, personas

TRAINED, CONFIRMED = "trained", "confirmed"  # trainings: on the concept as it is, and on facts read from pictures
Values = dict[str, list[float]]  # measure → a value per case, in an order that differences can rely on


def new_values() -> Values:
    """No values yet, of any measure."""
    return defaultdict(list)


@dataclass(frozen=True, kw_only=True)
class Given:
    """One cell: a concept with a seed, and how much of everything to measure.

    Trainings lie in `runs`/<training>/<concept>-<seed>.
    """

    concept: str
    seed: int
    counts: Mapping[str, float]
    runs: Path
    partner: str = ""  # the concept that is drawn beside this one; "" where there is none
    device: str = "cpu"

    @property
    def persona(self) -> Persona:
        """Everything true of the concept."""
        return personas()[self.concept]

    def count(self, name: str) -> int:
        """A whole number of `counts`."""
        return int(self.counts[name])

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator that follows from the concept, the seed and what it is for."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.concept} {purpose}".encode())])

    def run(self, concept: str = "", training: str = TRAINED) -> Path:
        """The folder of a training."""
        return self.runs / training / f"{concept or self.concept}-{self.seed}"

    def trained(self) -> Session:
        """The model after its training."""
        return Session.open(checkpoint=self.run(), device=self.device)

    def looked(self) -> Session:
        """The model after the look at the photos, before any reward."""
        return Session.open(checkpoint=self.run() / "sft", concept=self.concept, device=self.device)

    def untrained(self) -> Session:
        """The shipped model, which does not know the concept."""
        return Session.open(concept=self.concept, device=self.device)

    def words_right(self, training: str = TRAINED) -> list[float]:
        """Scores of the held-out prompts with private words, as the training's own evaluation found them."""
        cell = json.loads((self.run(training=training) / "cell.json").read_text(encoding="utf-8"))
        return [after for task, _, _, after, _ in sorted(cell["items"], key=lambda row: row[4]) if task == "rea"]
