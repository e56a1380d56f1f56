"""Statistics and rules on hand-made cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sync_r1.study.claims import judge
from sync_r1.study.curves import nfe_share
from sync_r1.study.estimates import by_arm, compare, difference, relative
from sync_r1.study.results import settings_figure
from sync_r1.study.study_file import START, Claim

Pairs = Sequence[tuple[float, float]]


def cell(arm: str, seed: int, rea: Pairs, draw: Pairs = ((0.5, 0.5),), **more: Any) -> dict[str, Any]:
    items = [
        [task, "all", *pair, str(i)]
        for task, pairs in (("rea", rea), ("rea_gen", draw))
        for i, pair in enumerate(pairs)
    ]
    return {"arm": arm, "concept": "bo", "seed": seed, "items": items, "curve": [], **more}


def claim(rule: str, against: str = "b", measure: str = "understanding", **limits: float) -> Claim:
    return Claim(id="x", statement="x", rule=rule, arm="a", against=[against], measures=[measure], **limits)  # type: ignore[arg-type]


def test_a_constant_difference_has_no_width() -> None:
    first = {"bo-0": cell("a", 0, [(0, 0.9), (0, 0.5)]), "bo-1": cell("a", 1, [(0, 0.7), (0, 0.3)])}
    second = {"bo-0": cell("b", 0, [(0, 0.7), (0, 0.3)]), "bo-1": cell("b", 1, [(0, 0.5), (0, 0.1)])}
    found = compare(first, second, "understanding")
    # pairing removes what varies between items and cells
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))
    assert (found.arm, found.other) == pytest.approx((0.6, 0.4)) and found.cells == ["bo-0", "bo-1"]


def test_overall_scores_are_means_over_tasks_and_strata() -> None:
    scored = [("rec", "recall", 1.0), ("rec", "recall", 1.0), ("rec", "no_recall", 0.0), ("qa", "all", 1.0)]
    items = [[task, side, 0, value, str(i)] for i, (task, side, value) in enumerate(scored)]
    first = {"bo-0": {**cell("a", 0, []), "items": items}}
    assert compare(first, first, "understanding", start=True).arm == pytest.approx((0.5 + 1.0) / 2)


def test_relative_gain_against_the_start() -> None:
    cells = [cell("a", seed, [(0.4, 0.6), (0.4, 0.6)]) for seed in range(3)]
    entry = judge(claim("gain", START, at_least=0.25), cells)
    assert (
        entry["holds"] and entry["delta"] == pytest.approx(0.5) and entry["n_seeds"] == 3 and entry["n_concepts"] == 1
    )
    assert entry["runs"] == ["a/bo-0", "a/bo-1", "a/bo-2"]
    assert judge(claim("gain", START, at_least=0.6), cells)["holds"] is False
    assert relative(cells_mean(0.6), cells_mean(0.4))[0] == pytest.approx(0.5)


def test_one_cell_decides_nothing() -> None:
    entry = judge(claim("gain", START, at_least=0.25), [cell("a", 0, [(0.4, 0.6), (0.4, 0.6)])])
    assert entry["holds"] is None and entry["measures"][0]["holds"] is None
    assert entry["delta"] == pytest.approx(0.5) and entry["measures"][0]["cells"] == ["bo-0"]


def cells_mean(value: float) -> Any:
    import numpy as np

    return np.array([value])


def test_noise_is_not_a_result() -> None:
    noisy = [cell("a", seed, [(0, score)]) for seed, score in enumerate([0.9, 0.1, 0.6])]
    flat = [cell("b", seed, [(0, 0.5)]) for seed in range(3)]
    assert judge(claim("higher"), [*noisy, *flat])["holds"] is False
    assert judge(claim("not-beaten"), [*noisy, *flat])["holds"]
    found = compare(by_arm(noisy)["a"], by_arm(flat)["b"], "rea", difference)
    assert found.value == pytest.approx(0.1 / 3) and found.low < 0 < found.high


def test_share_and_a_beaten_default() -> None:
    cells = [cell("a", seed, [(0, 0.45)]) for seed in range(3)] + [cell("b", seed, [(0, 0.5)]) for seed in range(3)]
    assert judge(claim("share", at_least=0.95), cells)["holds"] is False
    assert judge(claim("share", at_least=0.9), cells)["holds"]
    assert judge(claim("not-beaten"), cells)["holds"] is False


def test_the_hardest_measure_decides() -> None:
    cells = [
        made for n in range(3) for made in (cell("a", n, [(0, 0.9)], [(0, 0.2)]), cell("b", n, [(0, 0.5)], [(0, 0.4)]))
    ]
    entry = judge(
        Claim(id="x", statement="x", rule="higher", arm="a", against=["b"], measures=["understanding", "generation"]),
        cells,
    )
    assert (
        not entry["holds"]
        and entry["delta"] == pytest.approx(-0.2)
        and [row["holds"] for row in entry["measures"]] == [True, False]
    )


def test_evaluations_needed_for_the_same_score() -> None:
    # ends at (0.8 + 0.9 + 1.0) / 3 = 0.9 after 1000
    slow = [{"nfe_total": 100.0 * i, "v": 0.1 * i} for i in range(1, 11)]
    fast = [{"nfe_total": 100.0 * i, "v": 0.2 * i} for i in range(1, 6)]  # reaches 0.9 at 500
    assert nfe_share(fast, slow, "v") == pytest.approx(0.5)  # 450, between two points, of 900
    assert nfe_share(slow, slow, "v") == pytest.approx(1.0)
    assert nfe_share(slow[:3], slow, "v") == 1.0  # never reached
    assert nfe_share(fast[4:], slow, "v") == pytest.approx(500 / 900)  # nothing is known before the first point
    cells = [
        made for n in range(3) for made in (cell("a", n, [(0, 1)], curve=fast), cell("b", n, [(0, 1)], curve=slow))
    ]
    assert judge(claim("cheaper", measure="v", at_most=0.51), cells)["holds"] is True
    assert judge(claim("cheaper", measure="v", at_most=0.4), cells)["holds"] is False
    faster = [cell("c", n, [(0, 1)], curve=[{"nfe_total": 2000.0, "v": 0.9}]) for n in range(3)]
    both = Claim(id="x", statement="x", rule="cheaper", arm="a", against=["b", "c"], measures=["v"], at_most=0.6)
    assert judge(both, [*cells, *faster])["delta"] == pytest.approx(0.5)  # the larger share is the harder one
    assert judge(claim("cheaper", measure="w"), cells)["holds"] is None  # never measured


def test_an_unfinished_arm_gives_no_verdict() -> None:
    entry = judge(claim("higher"), [cell("a", 0, [(0, 1)])])
    assert entry["holds"] is None and entry["measures"] == []
    apart = judge(claim("higher"), [cell("a", 0, [(0, 1)]), cell("b", 1, [(0, 1)])])
    assert apart["holds"] is None  # no cell in common yet


def test_a_failing_comparison_decides_before_the_others_are_there() -> None:
    good, bad = ([cell(arm, seed, [(0.5, after)] * 4) for seed in range(3)] for arm, after in (("b", 0.4), ("b", 0.9)))
    mine = [cell("a", seed, [(0.5, 0.6)] * 4) for seed in range(3)]
    both = Claim(id="x", statement="x", rule="higher", arm="a", against=["b", "c"], measures=["understanding"])
    entries = [judge(both, [*mine, *others]) for others in (good, bad)]
    assert [entry["holds"] for entry in entries] == [None, False] and all(
        len(entry["measures"]) == 1 for entry in entries
    )


def test_only_items_that_both_could_score_count() -> None:
    first, second = cell("a", 0, [(0, 1), (0, 0)]), cell("b", 0, [(0, 0.5), (0, 0.5)])
    del first["items"][1]  # the judge was away
    found = compare({"bo-0": first}, {"bo-0": second}, "rea")
    assert (found.arm, found.other) == (1.0, 0.5)
    with pytest.raises(ValueError, match="no item of 'qa'"):
        compare({"bo-0": first}, {"bo-0": second}, "qa")
    with pytest.raises(ValueError, match="no finished cell"):
        compare({"bo-0": cell("a", 0, [(0, 1)])}, {}, "rea")


def test_the_settings_figure_shows_the_default_first_on_the_cells_that_all_share() -> None:
    cells = [cell(arm, seed, [(0, 0.5 + seed / 10)]) for arm in ("a", "b", "c") for seed in (0, 1)] + [
        cell("a", 2, [(0, 1.0)])
    ]
    rivals = Claim(id="x", statement="x", rule="not-beaten", arm="a", against=["b", "c"], measures=["understanding"])
    figure = settings_figure([claim("higher"), rivals], by_arm(cells))
    assert figure is not None
    (axes,) = figure.axes  # none for the claim that compares no settings
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "a",
        "b",
        "c",
    ] and axes.get_title() == "x, 2 cells"
    means = {
        line.get_label(): list(line.get_ydata()) for line in axes.lines if not str(line.get_label()).startswith("_")
    }
    assert means["understanding"] == pytest.approx([0.55] * 3)
    assert settings_figure([rivals], by_arm(cells[:4])) is None, "c has no cell"
