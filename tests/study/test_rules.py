"""The rules that compare more than two scores: curves, the best of several arms, counts of cells, variance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sync_r1.study.claims import judge
from sync_r1.study.curves import share_of_best
from sync_r1.study.results import MISSING, page
from sync_r1.study.study_file import START, Claim
from sync_r1.study.variance import read_variance, variance_ratio

CURVES = {  # image evaluations → score: twice as cheap as the best, the best, one that ends low
    "tree": [(100, 0.2), (200, 0.6), (300, 0.9), (400, 0.9), (500, 0.9)],
    "plain": [(200, 0.2), (400, 0.6), (600, 0.9), (800, 0.9), (1000, 0.9)],
    "plain-small": [(100, 0.5), (200, 0.5), (300, 0.5)],
}


def curve(points: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    return [{"nfe_total": nfe, "v": score} for nfe, score in points]


def cell(arm: str, seed: int, scores: Mapping[str, Sequence[float]], **more: Any) -> dict[str, Any]:
    """A cell whose items went from 0 to `scores`, per task."""
    items = [[task, "all", 0.0, score, str(i)] for task, values in scores.items() for i, score in enumerate(values)]
    return {"arm": arm, "concept": "bo", "seed": seed, "items": items, "curve": [], "nfe": 100, **more}


def claim(rule: str, **fields: Any) -> Claim:
    given = {"arm": "a", "against": ["b"], "measures": ["rea"], **fields}
    return Claim(id="x", statement="x", rule=rule, **given)


def cells(scores: Mapping[str, Sequence[float]], **more: Any) -> list[dict[str, Any]]:
    """arm → score per cell."""
    found = []
    for arm, values in scores.items():
        found += [cell(arm, seed, {"rea": [value] * 4}, **more) for seed, value in enumerate(values)]
    return found


def test_the_best_of_several_arms_is_what_counts_not_the_cheapest() -> None:
    value, low, high, best = share_of_best(
        [curve(CURVES["tree"])] * 3, [[curve(CURVES[name])] * 3 for name in ("plain-small", "plain")], "v", 100
    )
    assert best == 1 and (value, low, high) == pytest.approx((0.5, 0.5, 0.5))  # 300 of 600 evaluations
    found = [cell(arm, seed, {}, curve=curve(points)) for arm, points in CURVES.items() for seed in range(3)]
    faster = claim("cheaper-than-best", arm="tree", against=["plain-small", "plain"], measures=["v"], at_most=0.5)
    entry = judge(faster, found)
    assert entry["holds"] is True and entry["delta"] == pytest.approx(0.5)
    assert [row["against"] for row in entry["measures"]] == ["best of plain-small, plain"]
    half = claim("cheaper-than-best", arm="plain", against=["plain-small", "tree"], measures=["v"], at_most=0.5)
    assert judge(half, found)["holds"] is False
    assert judge(faster, [one for one in found if one["arm"] != "plain"])["measures"] == []


def test_which_arm_is_best_is_drawn_anew_in_every_resample() -> None:
    """Two arms take turns in ending high, and where one does the share is 2, else a half: the better one of every
    resample is high in at least half of its cells."""
    high, low = curve([(100, 0.9), (200, 0.9), (300, 0.9)]), curve([(400, 0.8), (500, 0.8), (600, 0.8)])
    mine = [curve([(200, 0.9), (300, 0.9), (400, 0.9)])] * 4
    _, lowest, highest, _ = share_of_best(mine, [[high, high, low, low], [low, low, high, high]], "v", 400)
    assert lowest == pytest.approx((2 + 2 + 0.5 + 0.5) / 4) and highest > 1.6


def test_a_level_is_reached_whatever_the_other_has() -> None:
    found = cells({"a": [0.95, 0.92, 0.9], "b": [0.5, 0.5, 0.5]})
    entry = judge(claim("reaches", at_least=0.9), found)
    assert entry["holds"] is True and entry["delta"] == pytest.approx((0.95 + 0.92 + 0.9) / 3)
    assert judge(claim("reaches", at_least=0.93), found)["holds"] is False
    assert judge(claim("reaches", against=[START], at_least=0.9), found)["holds"] is True


def test_higher_may_ask_for_most_cells_and_for_few_evaluations() -> None:
    found = cells({"a": [0.9, 0.9, 0.9, 0.9, 0.4], "b": [0.5] * 5})
    entry = judge(claim("higher", in_cells=0.8), found)
    assert entry["measures"][0]["above"] == 4 and entry["holds"] is True
    assert judge(claim("higher", in_cells=0.9), found)["holds"] is False
    assert judge(claim("higher", nfe_at_most=100), found)["holds"] is True
    assert judge(claim("higher", nfe_at_most=99), found)["holds"] is False


def test_two_measures_of_the_same_items_are_compared() -> None:
    found = [cell("a", seed, {"drawn": [0.9, 0.8, 1.0], "words": [0.5, 0.4, 0.6]}) for seed in range(3)]
    entry = judge(claim("higher", against=["a"], measures=["drawn"], against_measure="words"), found)
    assert entry["delta"] == pytest.approx(0.4) and entry["holds"] is True
    assert entry["runs"] == ["a/bo-0", "a/bo-1", "a/bo-2"]


def test_what_cannot_be_compared_yet_is_listed_and_undecided() -> None:
    found = cells({"a": [0.9, 0.9, 0.9], "b": [0.5, 0.5, 0.5]})
    entry = judge(claim("higher", against=["b", "c"]), found)
    assert entry["holds"] is None and entry["missing"] == [["rea", "c"]]
    nothing = judge(claim("higher", arm="z"), found)
    assert nothing["measures"] == [] and "missing" not in nothing
    result = {
        "study": "s", "command": "c", "evaluator": "e", "ran_with": {}, "arms": {}, "alarm": {}, "dgs": {},
        "claims": [entry, nothing], "loop": {"runs": 0, "examples": [], "rewrites": []},
    }  # fmt: skip
    lines = page(result, dict.fromkeys(("claims", "settings", "curves", "dgs", "loop"))).splitlines()
    assert [line for line in lines if line.endswith(f"| {MISSING} |")] == [
        f"|  |  | rea | c | | | 0 | {MISSING} |",
        f"| x |  (rule `higher`) | | | | | 0 | {MISSING} |",
    ]


def measured(*ratios: float) -> dict[str, Any]:
    """A file in which the tree has these shares of plain's variance, one per concept; concepts differ in size."""
    policies: dict[str, Any] = {}
    for number, ratio in enumerate(ratios):
        plain = [1.0 + number, 2.0 + number, 3.0 + number]
        rules = {"base": {"traces": plain}, "rule of the tree": {"traces": [ratio * value for value in plain]}}
        policies[f"c{number}, start"] = {"body": rules, "rows": rules}
    return {"arms": {"plain": "base", "tree": "rule of the tree"}, "policies": policies, "seed": 0}


def test_variance_is_averaged_over_concepts_that_count_the_same(tmp_path: Path) -> None:
    (tmp_path / "gradient_variance.json").write_text(json.dumps(measured(0.2, 0.4, 0.6)))
    found = read_variance(tmp_path / "results")
    value, low, high, concepts = variance_ratio(found, "tree", "plain", "variance/body/start")
    assert value == pytest.approx(0.4) and 0.2 <= low < 0.4 < high <= 0.6 and concepts == ["c0", "c1", "c2"]
    assert read_variance(tmp_path / "elsewhere" / "results") == {}
    with pytest.raises(ValueError, match="'variance/body/trained' was measured of no concept"):
        variance_ratio(found, "tree", "plain", "variance/body/trained")
    with pytest.raises(ValueError, match="no rule stands for 'sft' or for 'plain'; there are plain, tree"):
        variance_ratio(found, "sft", "plain", "variance/body/start")


def test_a_claim_about_variance_needs_no_cell() -> None:
    measures = ["variance/body/start", "variance/rows/start"]
    less = claim("less-noise", arm="tree", against=["plain"], measures=measures, at_most=0.5)
    entry = judge(less, [], measured(0.3, 0.3, 0.3))
    assert entry["holds"] is True and entry["delta"] == pytest.approx(0.3) and entry["n_concepts"] == 3
    assert judge(less, [], measured(0.3, 0.3))["holds"] is None, "two concepts decide nothing"
    assert judge(less, [], measured(0.6, 0.6, 0.6))["holds"] is False
    assert judge(less, [])["measures"] == []
