"""What studies/applications.yaml says: which claims there are, how much is measured for each, and the bars of each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.config_fields import parse_yaml
from sync_r1.files import read_text

RULES = ("at least", "at most", "gain of at least", "always", "shown")
_BAR = re.compile(r"(at least|at most|gain of at least) (-?\d+(?:\.\d+)?)|(always|shown)")


@dataclass(frozen=True)
class Bar:
    """What a measure must be. "shown" decides nothing."""

    measure: str
    rule: str
    bar: float | None  # None of "always" and "shown"
    text: str  # as it was declared

    @classmethod
    def read(cls, measure: str, text: str) -> Bar:
        """ "at least 0.95" → a bar. ValueError for anything else than a rule."""
        found = _BAR.fullmatch(str(text))
        if found is None:
            raise ValueError(
                f"{measure!r} has the bar {text!r}; write {', '.join(RULES)}, the first three with a number"
            )
        number, plain = found[2], found[3]
        return cls(measure, plain or found[1], None if number is None else float(number), str(text))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim and its bars."""

    id: str
    measure: str  # the file in application_claims/ that measures it
    statement: str
    counts: Mapping[str, float]
    bars: Sequence[Bar]

    @property
    def goal(self) -> str:
        """All bars that decide, in words."""
        return "; ".join(f"{one.measure}: {one.text}" for one in self.bars if one.rule != "shown")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A study of applications."""

    name: str
    command: str
    recipes: list[str] = field(default_factory=list)  # of the trainings
    set: dict[str, Any] = field(default_factory=dict)  # of the trainings: dotted option → value
    concepts: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # counts of what is timed


def load(path: Path) -> Declared:
    """Read a study of applications. ValueError for what is missing or unknown, and for a bar that is none."""
    values = parse_yaml(read_text(path), str(path))
    try:
        claims = [_claim(entry) for entry in values.pop("claims")]
        return Declared(**values, claims=claims)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        fields = ", ".join(one.name for one in dataclasses.fields(Declared))
        raise ValueError(f"{path}: {error}; a study of applications has {fields}") from error


def _claim(entry: dict[str, Any]) -> Claim:
    bars = [Bar.read(measure, text) for measure, text in entry.pop("bars").items()]
    return Claim(**entry, bars=bars)


def restricted(
    study: Declared, concepts: Sequence[str] = (), seeds: Sequence[int] = (), counts: Mapping[str, float] | None = None
) -> Declared:
    """The study on other concepts and seeds, with at most so much of everything that is counted."""
    most = counts or {}
    claims = []
    for claim in study.claims:
        fewer = {name: most.get(name, count) for name, count in claim.counts.items()}
        claims.append(dataclasses.replace(claim, counts=fewer))
    return dataclasses.replace(
        study,
        concepts=list(concepts) or study.concepts,
        seeds=list(seeds) or study.seeds,
        claims=claims,
        seconds={name: most.get(name, count) for name, count in study.seconds.items()},
    )
