"""The variance of the gradient as evidence for a claim: what benchmarks/gradient_variance.py wrote, averaged over
concepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sync_r1.files import read_object
from sync_r1.unifybench.bootstrap import paired_interval

FILE = "gradient_variance.json"  # beside the results
PARTS = ("body", "rows")  # of the image part's gradient: the transformer body, and the concept's rows
PHASES = ("start", "trained")
MEASURES = tuple(f"variance/{part}/{phase}" for part in PARTS for phase in PHASES)
RESAMPLES = 4000

Policies = Mapping[str, Mapping[str, Any]]  # "concept, phase" → what was measured of it


def read_variance(out: Path) -> dict[str, Any]:
    """What lies beside the results `out`; empty without it."""
    return read_object(out.with_name(FILE)) or {}


def variance_ratio(
    found: Mapping[str, Any], arm: str, against: str, measure: str, seed: int = 0
) -> tuple[float, float, float, list[str]]:
    """Noise of one way to draw over that of another at equal evaluations: the ratio, its 95 % interval, the concepts.

    Every concept counts the same. The interval resamples concepts and, within each, its prompts, the same of both.

    Args:
        found: gradient_variance.json. `arms` says which of its rules stands for an arm of the study; `policies` has,
            per policy, part and rule, the traces of the covariance times evaluations, one per prompt.
        measure: of MEASURES.
    Raises:
        ValueError: an arm that was not measured, or no concept in this phase.
    """
    _, part, phase = measure.split("/")
    rules = found.get("arms", {})
    if arm not in rules or against not in rules:
        raise ValueError(f"no rule stands for {arm!r} or for {against!r}; there are {', '.join(rules) or 'none'}")
    pairs: dict[str, np.ndarray] = {}
    for name, policy in found.get("policies", {}).items():
        concept, _, at = name.partition(", ")
        measured = policy.get(part, {})
        if at == phase and rules[arm] in measured and rules[against] in measured:
            traces = np.array([measured[rules[side]]["traces"] for side in (arm, against)])  # [2, prompts]
            pairs[concept] = traces / traces[1].mean()
    if not pairs:
        raise ValueError(f"{measure!r} was measured of no concept")
    means = np.mean([pair.mean(axis=1) for pair in pairs.values()], axis=0)  # [2]
    low, high = paired_interval(
        [[[pair]] for pair in pairs.values()], lambda first, second: first / second, resamples=RESAMPLES, seed=seed
    )
    return float(means[0] / means[1]), low, high, sorted(pairs)
