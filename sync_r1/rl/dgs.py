"""Dynamic Group Scaling: preview many candidates early, finish only the promising ones (docs/dgs.md).

A controller without models: it asks `draw` for candidates and is given their preview scores. It knows neither texts nor
images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

Draw = Callable[[list[int]], list[list[float]]]  # how many more per group → their preview scores, NaN where unknown


@dataclass
class Threshold:
    """τ, which follows the acceptance: τ ← clip(τ + η·(acceptance − ρ), 0, 1)."""

    value: float | None  # τ; None until the first previews are seen
    target: float = 0.5  # ρ
    rate: float = 0.05  # η
    history: list[float] = field(default_factory=list)  # τ used at each step

    def calibrate(self, scores: Sequence[float]) -> float:
        """τ; the first call without a given value takes the quantile of `scores` that a share ρ of them passes."""
        known = torch.tensor([score for score in scores if math.isfinite(score)], dtype=torch.float64)
        if self.value is None and len(known):
            self.value = torch.quantile(known, 1 - self.target).item()
        if self.value is None:
            return 0.0
        return self.value

    def update(self, acceptance: float) -> None:
        """Too many accepted → stricter. Without a τ yet, as no preview could be scored, nothing changes."""
        if self.value is None:
            return
        self.history.append(self.value)
        self.value = min(max(self.value + self.rate * (acceptance - self.target), 0.0), 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        value, history = state["value"], list(state["history"])
        numbers = [*history, *([] if value is None else [value])]
        if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
            raise ValueError(
                f"the threshold of Dynamic Group Scaling is {value!r} after {len(history)} others, not all of them "
                "numbers"
            )
        self.value, self.history = value, history


@dataclass(frozen=True)
class Selection:
    """Candidates of every group, numbered in the order they were drawn."""

    kept: list[list[int]]  # [P][G] candidate numbers, ascending
    scores: list[list[float]]  # [P][candidates] preview scores; empty lists when nothing was previewed
    accepted: int  # candidates at or above τ; without a τ, those kept
    candidates: int
    rounds: int
    threshold: float  # τ; 0 when all are kept or none could be scored, NaN when candidates are ranked instead

    @property
    def acceptance(self) -> float:
        return self.accepted / self.candidates

    def of(self, groups: slice) -> Selection:
        """Some of the groups; the counts stay those of all."""
        return replace(self, kept=self.kept[groups], scores=self.scores[groups])


def fill_groups(draw: Draw, threshold: Threshold, *, groups: int, size: int, budget: int) -> Selection:
    """Draw until every group has `size` candidates at or above τ or has spent `budget`; short groups take the best of
    their rest.

    Every round draws at least one candidate for a group that is short, so there are at most `budget` rounds.

    Args:
        draw: proposes and scores candidates; it must return as many scores per group as it was asked for.
        threshold: read, and calibrated by the first round; the caller updates it.
        groups: P. size: G, to keep per group. budget: C ≥ G, to draw per group at most.
    """
    assert budget >= size, "a budget below the group size cannot fill a group"
    scores: list[list[float]] = [[] for _ in range(groups)]
    wanted = [size] * groups
    rounds = 0
    while any(wanted):
        for found, more, asked in zip(scores, draw(wanted), wanted):
            assert len(more) == asked, "draw must score every candidate it was asked for"
            found.extend(more)
        rounds += 1
        tau = threshold.calibrate([score for found in scores for score in found])
        passed = []
        for found in scores:
            passed.append(sum(score >= tau for score in found))
        # do not ask for many because a few failed
        rate = max(sum(passed) / sum(map(len, scores)), threshold.target / 2)
        wanted = [
            min(math.ceil(max(size - good, 0) / rate), budget - len(found)) for good, found in zip(passed, scores)
        ]
    return Selection(
        kept=[_choose(found, tau, size) for found in scores],
        scores=scores,
        accepted=sum(passed),
        candidates=sum(map(len, scores)),
        rounds=rounds,
        threshold=tau,
    )


def _choose(scores: list[float], tau: float, size: int) -> list[int]:
    """The first `size` that pass, then the best that do not; unknown scores come last."""
    passed = [number for number, score in enumerate(scores) if score >= tau][:size]
    rest = [number for number, score in enumerate(scores) if not score >= tau]
    rest.sort(key=lambda number: -math.inf if math.isnan(scores[number]) else scores[number], reverse=True)
    return sorted(passed + rest[: size - len(passed)])


class Scaling(Protocol):
    """What the rollout needs: where to stop for a preview (None: never) and which candidates to finish."""

    stop_at: int | None

    def select(self, draw: Draw, *, groups: int, size: int) -> Selection: ...

    def metrics(
        self, selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int
    ) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def keep_all(draw: Draw, *, groups: int, size: int) -> Selection:
    """Draw `size` candidates per group and keep them all; none is previewed."""
    draw([size] * groups)
    kept = [list(range(size)) for _ in range(groups)]
    return Selection(kept, [[] for _ in range(groups)], groups * size, groups * size, 1, 0.0)


class NoScaling:
    """DGS off: G candidates per group, all kept, none previewed."""

    stop_at: int | None = None

    def select(self, draw: Draw, *, groups: int, size: int) -> Selection:
        return keep_all(draw, groups=groups, size=size)

    def metrics(self, selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int) -> dict[str, float]:
        return {"dgs/nfe": float(selection.candidates * nfe_final)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


@dataclass
class GroupScaling:
    """DGS on. `threshold` is the only state, and part of the checkpoint."""

    threshold: Threshold
    candidate_factor: float  # c_max
    stop_at: int | None  # k, decoding steps before the preview

    def select(self, draw: Draw, *, groups: int, size: int) -> Selection:
        selection = fill_groups(
            draw, self.threshold, groups=groups, size=size, budget=math.ceil(self.candidate_factor * size)
        )
        self.threshold.update(selection.acceptance)
        return selection

    def metrics(self, selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int) -> dict[str, float]:
        return scaling_metrics(selection, rewards, nfe_preview=nfe_preview, nfe_final=nfe_final)

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.threshold.load_state_dict(state["threshold"])


@dataclass
class SpreadScaling:
    """DGS that keeps contrast: of all candidates those G whose preview scores vary most, the best and the worst; the
    middle is dropped.

    A group learns from differences. Keeping the best alone makes them alike, and the gradient's signal shrinks with
    their variance (docs/log.md); the most varied subset is always a head and a tail of the ranking (PODS, arXiv
    2504.13818, theorem 1).
    """

    candidate_factor: float  # c_max: always spent
    stop_at: int | None  # k

    def select(self, draw: Draw, *, groups: int, size: int) -> Selection:
        budget = math.ceil(self.candidate_factor * size)
        scores = draw([budget] * groups)
        kept = [most_varied(found, size) for found in scores]
        return Selection(kept, scores, groups * size, groups * budget, 1, math.nan)

    def metrics(self, selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int) -> dict[str, float]:
        found = scaling_metrics(selection, rewards, nfe_preview=nfe_preview, nfe_final=nfe_final)
        without_threshold = ("dgs/acceptance_rate", "dgs/threshold")
        return {name: value for name, value in found.items() if name not in without_threshold}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


def most_varied(scores: Sequence[float], size: int) -> list[int]:
    """Indices of the `size` scores with the largest variance, ascending; scores that are NaN come last."""
    order = sorted(range(len(scores)), key=lambda i: (math.isnan(scores[i]), scores[i]))
    known = [i for i in order if not math.isnan(scores[i])]
    if len(known) <= size:
        return sorted(order[:size])

    def spread(low: int) -> float:
        values = torch.tensor(
            [scores[i] for i in [*known[:low], *known[len(known) - (size - low) :]]], dtype=torch.float64
        )
        return float(values.var(correction=0))

    low = max(range(size + 1), key=spread)
    return sorted([*known[:low], *known[len(known) - (size - low) :]])


def scaling_metrics(selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int) -> dict[str, float]:
    """What filtering cost, saved and changed.

    Args:
        rewards: [P, G] final rewards of the kept candidates, NaN where unscored.
        nfe_preview, nfe_final: backbone evaluations per candidate until the preview, and in all.
    Returns: dgs/…: acceptance_rate, threshold, candidates, rounds, nfe, nfe_saved (against finishing every candidate),
        preview_corr (preview score with final reward among the kept), preview_std_all|kept, reward_var_kept, and
        reward_var_all: an estimate of what the reward variance inside groups, to which the gradient's variance is
        proportional, would be without filtering. It carries the kept candidates' regression of reward on preview score
        over to all candidates, and keeps the regression's residual variance.
    """
    finished = sum(map(len, selection.kept))
    spent = selection.candidates * nfe_preview + finished * (nfe_final - nfe_preview)
    rows = []
    for found, chosen in zip(selection.scores, selection.kept):
        rows.append([found[i] for i in chosen])
    kept = torch.tensor(rows)
    known = ~(kept.isnan() | rewards.isnan())
    preview = _within(kept, known)
    reward = _within(rewards, known)
    freedom = max(int((known.sum(dim=1) - 1).clamp(min=0).sum()), 1)
    var_preview, var_reward = preview.square().sum().item() / freedom, reward.square().sum().item() / freedom
    slope = (preview * reward).sum().item() / freedom / max(var_preview, 1e-12)
    var_all = _pooled_variance(selection.scores)
    residual = max(var_reward - slope**2 * var_preview, 0.0)
    return {
        "dgs/acceptance_rate": selection.acceptance,
        "dgs/threshold": selection.threshold,
        "dgs/candidates": float(selection.candidates),
        "dgs/rounds": float(selection.rounds),
        "dgs/nfe": float(spent),
        "dgs/nfe_saved": float(selection.candidates * nfe_final - spent),
        "dgs/preview_corr": slope * math.sqrt(var_preview / max(var_reward, 1e-12)),
        "dgs/preview_std_all": math.sqrt(var_all),
        "dgs/preview_std_kept": math.sqrt(var_preview),
        "dgs/reward_var_kept": var_reward,
        "dgs/reward_var_all": slope**2 * var_all + residual,
    }


def _within(values: Tensor, known: Tensor) -> Tensor:
    """Deviation from the mean of the group's known entries; 0 elsewhere."""
    values = torch.where(known, values, 0.0)
    return torch.where(known, values - values.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1), 0.0)


def _pooled_variance(groups: list[list[float]]) -> float:
    """Variance inside groups, pooled, of the finite values."""
    squares, freedom = 0.0, 0
    for group in groups:
        finite = [value for value in group if math.isfinite(value)]
        if finite:
            mean = sum(finite) / len(finite)
            squares += sum((value - mean) ** 2 for value in finite)
            freedom += len(finite) - 1
    return squares / max(freedom, 1)
