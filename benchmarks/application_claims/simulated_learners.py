"""A8: what simulated learners know, from docs/learners.json, which benchmarks/learners.py writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

AGAINST = ("round robin", "random")
WHEN = "a day later"


def rows(learners: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per kind of learner, length of the course, and way that the adaptive choice is compared with."""
    count = learners["setting"]["learners"]
    for kind, courses in learners.items():
        if kind == "setting":
            continue
        for days, found in courses.items():
            for way in AGAINST:
                gain = found[WHEN]["adaptive over"][way]
                name = f"{kind}, {days}, over {way}"
                yield {"measure": name, "value": gain["difference"], "ci95": gain["ci95"], "n": count}
