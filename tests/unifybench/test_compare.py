"""Differences and their intervals, checked by hand and by simulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sync_r1.unifybench.bootstrap import bootstrap_interval, paired_interval, resampled_means
from sync_r1.unifybench.compare import compare
from sync_r1.unifybench.results import EvalResult, ScoredItem


def result(scores: dict[str, list[float | None]], judge: str = "reader") -> EvalResult:
    items = [
        ScoredItem(task=task, id=f"{task}_{i}", prompt="p", input="p", prediction="", truth="t", score=value, seed=i)
        for task, values in scores.items()
        for i, value in enumerate(values)
    ]
    return EvalResult(items=items, metrics=dict.fromkeys(scores, "exact"), judge=judge)


def test_overall_scores_are_plain_means_over_tasks() -> None:
    before = result({"vqa": [0, 0, 1, 1], "rea": [0, 0], "pure_gen": [0.5, 0.5]})
    after = result({"vqa": [1, 0, 1, 1], "rea": [1, 0], "pure_gen": [0.75, 0.25]})
    found = compare(before, after)
    assert set(found) == {"understanding", "generation", "tasks"} and set(found["tasks"]) == {"vqa", "rea", "pure_gen"}
    overall = found["understanding"]
    assert (overall["before"], overall["after"], overall["delta"], overall["n"]) == (0.25, 0.625, 0.375, 6)
    assert overall["ci95"][0] <= overall["delta"] <= overall["ci95"][1]
    assert found["generation"]["delta"] == 0 and found["generation"]["ci95"] == [-0.25, 0.25]
    row = found["tasks"]["vqa"]
    assert (row["before"], row["after"], row["delta"], row["n"], row["metric"]) == (0.5, 0.75, 0.25, 4, "exact")
    json.dumps(found)


def test_what_nothing_asked_for_is_compared_where_both_counted_it() -> None:
    before, after = result({"pure_gen": [0.5, 0.5, 0.5]}), result({"pure_gen": [0.5, 0.5, 0.5]})
    assert "unasked" not in compare(before, after)
    for phase, counts in ((before, (2.0, 1.0)), (after, (0.0, 1.0))):
        for item, count in zip(phase.items, counts, strict=False):  # the third was not counted
            item.metrics["unasked"] = count
    found = compare(before, after)["unasked"]
    assert (found["before"], found["after"], found["delta"], found["n"]) == (1.5, 0.5, -1.0, 2)


def test_equal_differences_leave_no_doubt() -> None:
    found = compare(result({"vqa": [0.1, 0.3]}), result({"vqa": [0.3, 0.5]}))
    assert found["understanding"]["ci95"] == pytest.approx([0.2, 0.2]) and "generation" not in found


def test_interval_of_two_items_is_the_exact_binomial() -> None:
    """Two items with differences 0 and 1: the resampled mean is 0, ½, 1 with probability ¼, ½, ¼."""
    means = resampled_means(np.array([0.0, 1.0]), 10_000, np.random.default_rng(0))
    assert [np.mean(means == value) for value in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.02)
    assert bootstrap_interval([[np.array([0.0, 1.0])]]) == (0.0, 1.0)


def test_half_interval_has_the_width_of_a_stratified_mean() -> None:
    """Standard error of the mean over two tasks: ½·√(s₁²/n₁ + s₂²/n₂), whatever the tasks' sizes."""
    rng = np.random.default_rng(1)
    small, large = rng.normal(0, 1, 40), rng.normal(5, 2, 400)
    low, high = bootstrap_interval([[small], [large]])
    expected = 0.5 * np.sqrt(small.var() / 40 + large.var() / 400) * 2 * 1.96
    assert high - low == pytest.approx(expected, rel=0.05)


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        differences = [[rng.normal(0.3, 0.5, 25)], [rng.normal(0.1, 0.2, 40)]]
        low, high = bootstrap_interval(differences, resamples=500, seed=trial)
        hits += low <= 0.2 <= high
    assert 0.89 <= hits / 200 <= 0.985


def test_pairs_are_drawn_together() -> None:
    """What varies between items, and between runs, is in both sides alike and leaves no width."""
    rng = np.random.default_rng(0)
    runs = []
    for level in (0.2, 0.5, 0.9):
        other = level + rng.normal(0, 0.1, 20)
        runs.append([[np.stack([other + 0.3, other])]])
    assert paired_interval(runs, lambda one, two: one - two, resamples=500) == pytest.approx((0.3, 0.3))
    low, high = paired_interval(runs, lambda one, two: one, resamples=500)
    assert high - low > 0.3
    both = resampled_means(runs[0][0][0], 7, np.random.default_rng(1))
    assert both.shape == (2, 7)
    assert np.array_equal(both[1], resampled_means(runs[0][0][0][1], 7, np.random.default_rng(1)))


def test_recognition_weighs_yes_and_no_equally() -> None:
    def rec(scores: list[float]) -> EvalResult:
        truths = ["Yes.", "No.", "No.", "No."]
        items = [
            ScoredItem(task="rec", id=str(i), prompt="?", input="", prediction="", truth=truth, score=value)
            for i, (truth, value) in enumerate(zip(truths, scores))
        ]
        return EvalResult(items=items, metrics={"rec": "recognition"})

    always_no = rec([0, 1, 1, 1])
    assert always_no.tasks["rec"]["mean"] == 0.5 and always_no.tasks["rec"]["recall"] == 0
    found = compare(always_no, rec([1, 1, 1, 0]))["tasks"]["rec"]
    assert found["after"] == pytest.approx((1 + 2 / 3) / 2) and found["delta"] == pytest.approx(1 / 3)


def test_unscored_items_are_left_out_on_both_sides() -> None:
    found = compare(result({"pure_gen": [0.5, None, 0.2]}), result({"pure_gen": [0.7, 1.0, None]}))["tasks"]["pure_gen"]
    assert (found["n"], found["unscored"]) == (1, 2) and found["delta"] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no item was scored"):
        compare(result({"pure_gen": [None]}), result({"pure_gen": [1.0]}))
    assert result({"pure_gen": [None]}).tasks["pure_gen"]["mean"] is None


def test_different_questions_or_judges_are_refused() -> None:
    before = result({"vqa": [0, 1]})
    with pytest.raises(ValueError, match=r"first at item 1: \('vqa', 'vqa_1'.* before, nothing after"):
        compare(before, result({"vqa": [0]}))
    with pytest.raises(ValueError, match="first at item 0"):
        compare(before, result({"qa": [0, 1]}))
    with pytest.raises(ValueError, match="judge is 'reader' before and 'other' after"):
        compare(before, result({"vqa": [0, 1]}, judge="other"))


def test_results_are_read_back(tmp_path: Path) -> None:
    first = result({"vqa": [0, 1], "pure_gen": [None]})
    path = first.write(tmp_path / "deep" / "before.json")
    assert EvalResult.read(path).to_dict() == first.to_dict() and not list(path.parent.glob("*.tmp"))
    path.write_text("{}")
    with pytest.raises(ValueError, match="no result of an evaluation"):
        EvalResult.read(path)


def test_other_decoding_is_no_training_gain() -> None:
    before, after = result({"vqa": [0.0, 1.0]}), result({"vqa": [1.0, 1.0]})
    before.protocol, after.protocol = {"model": "a", "guidance_scale": 0.0}, {"model": "b", "guidance_scale": 2.0}
    with pytest.raises(ValueError, match=r"guidance_scale differ before and after"):
        compare(before, after)
    after.protocol["guidance_scale"] = 0.0
    assert compare(before, after)["understanding"]["delta"] == 0.5
