"""The rules that decide a claim, each a comparison of the claim's arm with another one.

Pure functions on finished cells and on the measured variance of gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sync_r1.study.curves import measured, nfe_share, share_of_best
from sync_r1.study.estimates import (
    RESAMPLES,
    Cells,
    PairedEstimate,
    compare,
    difference,
    level,
    ratio,
    relative,
    with_task_renamed,
)
from sync_r1.study.study_file import START, Claim
from sync_r1.study.variance import variance_ratio
from sync_r1.unifybench.bootstrap import Statistic, interval, resampled_means


@dataclass(frozen=True)
class Evidence:
    """What claims are decided by."""

    arms: Mapping[str, Cells]  # arm → "concept-seed" → cell
    variance: Mapping[str, Any] = field(default_factory=dict)  # of gradients, see variance.py

    def of(self, arm: str) -> Cells:
        """Cells of an arm; empty without any."""
        return self.arms.get(arm, {})


Rule = Callable[[Claim, Evidence, str, str], tuple[PairedEstimate, bool]]  # claim, evidence, other arm, measure


def _compared(claim: Claim, evidence: Evidence, other: str, measure: str, statistic: Statistic) -> PairedEstimate:
    """The claim's arm by `measure` against another arm, or against its own start."""
    arm = evidence.of(claim.arm)
    against = arm if other == START else evidence.of(other)
    if claim.against_measure:
        against = with_task_renamed(against, claim.against_measure, measure)
    return compare(arm, against, measure, statistic, start=other == START)


def _gain(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The relative gain is at least `at_least`, and its interval excludes 0."""
    found = _compared(claim, evidence, other, measure, relative)
    return found, found.value >= claim.at_least and found.low > 0


def _higher(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The difference's interval lies above 0, in the share `in_cells` of the cells the arm is above, and its runs spent
    at most `nfe_at_most` evaluations each, where the claim says so."""
    found = _compared(claim, evidence, other, measure, difference)
    often = found.above >= claim.in_cells * len(found.cells)
    spent = 0
    if claim.nfe_at_most:
        spent = max(evidence.of(claim.arm)[name]["nfe"] for name in found.cells)
    return found, found.low > 0 and often and spent <= claim.nfe_at_most


def _share(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The arm reaches at least the share `at_least` of the other."""
    found = _compared(claim, evidence, other, measure, ratio)
    return found, found.value >= claim.at_least


def _reaches(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The arm's own mean is at least `at_least`, whatever the other's is."""
    found = _compared(claim, evidence, other, measure, level)
    return found, found.value >= claim.at_least


def _not_beaten(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The other is not better: the interval of arm − other does not lie below 0."""
    found = _compared(claim, evidence, other, measure, difference)
    return found, found.high >= 0


def _cheaper(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The arm reaches the other's final validation score with at most the share `at_most` of the image evaluations the
    other needs.
    """
    arm, against = evidence.of(claim.arm), evidence.of(other)
    names = _with_curves([arm, against], measure)
    shares = np.array([nfe_share(arm[name]["curve"], against[name]["curve"], measure) for name in names])
    low, high = interval(resampled_means(shares, RESAMPLES, np.random.default_rng(0)))
    found = PairedEstimate(float(shares.mean()), low, high, float(shares.mean()), 1.0, names)
    return found, found.value <= claim.at_most


def _cheaper_than_best(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The same against that one of all the others whose final score is the best; the interval lies below 1."""
    arm, others = evidence.of(claim.arm), [evidence.of(name) for name in claim.against]
    names = _with_curves([arm, *others], measure)
    curves = [[cells[name]["curve"] for name in names] for cells in (arm, *others)]
    value, low, high, _ = share_of_best(curves[0], curves[1:], measure, RESAMPLES)
    return PairedEstimate(value, low, high, value, 1.0, names), value <= claim.at_most and high < 1


def _with_curves(arms: Sequence[Cells], measure: str) -> list[str]:
    """The cells that all arms have, with a curve of `measure`. ValueError when there are none."""
    shared = sorted(set.intersection(*map(set, arms)))
    names = [name for name in shared if all(measured(cells[name], measure) for cells in arms)]
    if not names:
        raise ValueError(f"no cell of all arms has a curve of {measure!r}")
    return names


def _less_noise(claim: Claim, evidence: Evidence, other: str, measure: str) -> tuple[PairedEstimate, bool]:
    """The variance of the arm's gradient times its evaluations is at most the share `at_most` of the other's, and the
    interval lies below 1."""
    value, low, high, concepts = variance_ratio(evidence.variance, claim.arm, other, measure)
    names = [f"{concept}-{evidence.variance.get('seed', 0)}" for concept in concepts]
    return PairedEstimate(value, low, high, value, 1.0, names), value <= claim.at_most and high < 1


RULES: dict[str, Rule] = {
    "gain": _gain,
    "higher": _higher,
    "share": _share,
    "reaches": _reaches,
    "not-beaten": _not_beaten,
    "cheaper": _cheaper,
    "cheaper-than-best": _cheaper_than_best,
    "less-noise": _less_noise,
}


def opponents(claim: Claim) -> list[str]:
    """What the claim's arm is compared with, one at a time."""
    if claim.rule == "cheaper-than-best":
        return [f"best of {', '.join(claim.against)}"]
    return claim.against
