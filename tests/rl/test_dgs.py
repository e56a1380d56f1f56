"""DGS as a controller: bounded, deterministic, with a threshold that follows the acceptance."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import pvariance

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_r1.rl.dgs import (
    GroupScaling,
    NoScaling,
    Selection,
    SpreadScaling,
    Threshold,
    fill_groups,
    most_varied,
    scaling_metrics,
)


class Script:
    """Draws prepared scores and remembers what it was asked."""

    def __init__(self, *groups: list[float]) -> None:
        self.groups, self.asked = [list(group) for group in groups], []

    def __call__(self, wanted: list[int]) -> list[list[float]]:
        self.asked.append(list(wanted))
        return [[group.pop(0) for _ in range(count)] for group, count in zip(self.groups, wanted)]


def test_keeps_the_first_that_pass_and_draws_only_what_is_missing() -> None:
    script = Script([0.9, 0.8, 0.1, 0.7, 0.2, 0.6], [0.9, 0.9, 0.9, 0.0, 0.0, 0.0])
    found = fill_groups(script, Threshold(0.5), groups=2, size=3, budget=6)
    assert script.asked == [[3, 3], [2, 0]]  # one missing, 5 of 6 passed: ask for two
    assert found.kept == [[0, 1, 3], [0, 1, 2]]
    assert (found.candidates, found.accepted, found.rounds) == (8, 6, 2)
    assert found.acceptance == 6 / 8


def test_short_groups_take_the_best_of_the_rest() -> None:
    script = Script([0.1, 0.4, 0.3, 0.2, math.nan, 0.9])
    found = fill_groups(script, Threshold(0.8), groups=1, size=2, budget=6)
    assert found.kept == [[1, 5]] and found.candidates == 6


def test_unknown_scores_come_last() -> None:
    found = fill_groups(Script([math.nan, 0.1, math.nan]), Threshold(0.5), groups=1, size=2, budget=3)
    assert found.kept == [[0, 1]]


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(
        st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=12, max_size=12), min_size=1, max_size=3
    ),
    tau=st.floats(0, 1),
    size=st.integers(1, 6),
    factor=st.floats(1, 2),
)
def test_it_is_bounded_and_always_fills_the_group(
    scores: list[list[float]], tau: float, size: int, factor: float
) -> None:
    budget = math.ceil(factor * size)
    found = fill_groups(Script(*scores), Threshold(tau), groups=len(scores), size=size, budget=budget)
    assert found.rounds <= budget
    for group, drawn, kept in zip(scores, found.scores, found.kept):
        assert len(drawn) <= budget and len(set(kept)) == size == len(kept)
        passed = [i for i, score in enumerate(drawn) if score >= tau]
        assert set(passed[:size]) <= set(kept)
        assert len(drawn) == len(passed) == size or len(drawn) >= size
        assert str(drawn) == str(group[: len(drawn)])


def test_threshold_follows_the_acceptance() -> None:
    threshold = Threshold(0.5, target=0.5, rate=0.1)
    threshold.update(1.0)
    assert threshold.value == pytest.approx(0.55)  # too many accepted: stricter
    threshold.update(0.0)
    assert threshold.value == pytest.approx(0.5)
    assert threshold.history == pytest.approx([0.5, 0.55])
    threshold.value = 0.99
    for _ in range(5):
        threshold.update(1.0)
    assert threshold.value == 1.0


def test_threshold_settles_where_the_target_share_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    scaling = GroupScaling(Threshold(0.0, target=0.5, rate=0.1), candidate_factor=2.0, stop_at=3)
    for _ in range(200):
        scaling.select(lambda wanted: [torch.rand(n, generator=generator).tolist() for n in wanted], groups=2, size=8)
    recent = scaling.threshold.history[-50:]
    assert 0.4 < sum(recent) / len(recent) < 0.6  # uniform scores: half pass at 0.5


def test_first_previews_calibrate_the_threshold() -> None:
    threshold = Threshold(None, target=0.25)
    assert threshold.calibrate([0.1, 0.2, 0.3, 0.4, 0.5, math.nan]) == pytest.approx(0.4)
    assert threshold.calibrate([0.9]) == pytest.approx(0.4)
    assert Threshold(None).calibrate([math.nan]) == 0.0


def test_state_goes_through_a_checkpoint() -> None:
    first = GroupScaling(Threshold(None), 2.0, 3)
    first.select(Script([0.1, 0.9, 0.5, 0.6]), groups=1, size=2)
    second = GroupScaling(Threshold(None), 2.0, 3)
    second.load_state_dict(first.state_dict())
    assert second.threshold == first.threshold


def test_off_is_a_null_object() -> None:
    script, off = Script([0.0] * 3, [0.0] * 3), NoScaling()
    found = off.select(script, groups=2, size=3)
    assert script.asked == [[3, 3]] and found.kept == [[0, 1, 2], [0, 1, 2]]
    assert off.stop_at is None and off.state_dict() == {}
    assert off.metrics(found, torch.zeros(2, 3), nfe_preview=8, nfe_final=8) == {"dgs/nfe": 48.0}


def test_metrics_by_hand() -> None:
    selection = Selection([[0, 1, 2]], [[0.2, 0.4, 0.6, 0.0]], accepted=3, candidates=4, rounds=1, threshold=0.1)
    found = scaling_metrics(selection, torch.tensor([[0.1, 0.3, 0.5]]), nfe_preview=3, nfe_final=8)
    assert found["dgs/nfe"] == 4 * 3 + 3 * 5
    assert found["dgs/nfe_saved"] == 4 * 8 - 27
    assert found["dgs/acceptance_rate"] == 0.75
    assert found["dgs/preview_corr"] == pytest.approx(1.0)
    assert found["dgs/reward_var_kept"] == pytest.approx(0.04)
    assert found["dgs/preview_std_kept"] == pytest.approx(0.2)
    assert found["dgs/preview_std_all"] == pytest.approx(torch.tensor([0.2, 0.4, 0.6, 0.0]).std().item())
    assert found["dgs/reward_var_all"] == pytest.approx(found["dgs/preview_std_all"] ** 2)  # slope 1, no residual


def test_metrics_survive_what_could_not_be_scored() -> None:
    selection = Selection([[0, 1]], [[math.nan, math.nan]], accepted=0, candidates=2, rounds=1, threshold=0.0)
    found = scaling_metrics(selection, torch.tensor([[math.nan, 1.0]]), nfe_preview=1, nfe_final=2)
    assert all(math.isfinite(value) for value in found.values())


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8), st.integers(1, 8))
def test_the_most_varied_are_found(scores: list[float], size: int) -> None:
    """Against every subset."""
    size = min(size, len(scores))
    found = most_varied(scores, size)
    assert len(found) == size and found == sorted(set(found))
    every = combinations(range(len(scores)), size)
    best = max(pvariance([scores[i] for i in subset]) for subset in every)
    assert pvariance([scores[i] for i in found]) == pytest.approx(best, abs=1e-9)


def test_spread_spends_its_budget_and_finishes_the_ends() -> None:
    script = Script([0.5, 0.1, 0.52, 0.9, 0.48, 0.2], [math.nan, 0.3, math.nan, 0.4, math.nan, math.nan])
    found = SpreadScaling(1.5, 2).select(script, groups=2, size=4)
    assert script.asked == [[6, 6]] and found.candidates == 12 and found.rounds == 1
    assert found.kept == [[1, 2, 3, 5], [0, 1, 2, 3]]  # unknown scores only where nothing else is left
