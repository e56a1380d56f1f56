"""benchmarks/speed.py: what it counts as a run, what it writes, what it refuses."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import benchmark

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    return benchmark("speed")


class Side:
    """Work that took the given seconds, one after the other, while 100 FLOPs were counted in the first."""

    def __init__(self, speed: ModuleType, seconds: list[float], flops: int) -> None:
        figures = sys.modules[speed.Counter.__module__].Figures
        self.runs = [{"draw": figures(value, flops, 8)} for value in seconds]

    def __call__(self) -> dict:
        return self.runs.pop(0)


def test_the_counting_run_is_a_run_only_if_kept(speed: ModuleType) -> None:
    for keep, expected in ((False, [(1.0, 4.0), (2.0, 6.0)]), (True, [(9.0, 99.0), (1.0, 4.0)])):
        ours, plain = Side(speed, [9.0, 1.0, 2.0], 100), Side(speed, [99.0, 4.0, 6.0], 300)
        *_, (pairs, counts) = speed.alternate(ours, plain, speed.Counter(), runs=2, seconds=60, keep=keep)
        assert [(one["draw"].seconds, other["draw"].seconds) for one, other in pairs] == expected
        assert [side["draw"].flops for side in counts] == [100, 300]
    *_, (pairs, _) = speed.alternate(
        Side(speed, [9.0, 1.0], 1), Side(speed, [9.0, 2.0], 1), speed.Counter(), runs=5, seconds=0, keep=False
    )
    assert len(pairs) == 1, "one run at least, however short the time"
    runs = speed.alternate(
        Side(speed, [9.0, 1.0], 1), Side(speed, [9.0, 2.0], 1), speed.Counter(), runs=5, seconds=60, keep=True
    )
    assert [len(next(runs)[0]) for _ in range(2)] == [1, 2], "every run is told when it ends"


def test_rows_are_medians_of_paired_ratios_and_replace_earlier_ones(speed: ModuleType, tmp_path: Path) -> None:
    options = Namespace(device="cpu", dtype="fp32", out=tmp_path / "results.json")
    sides = [
        Side(speed, seconds, flops) for seconds, flops in (([0.0, 1.0, 2.0, 4.0], 100), ([0.0, 5.0, 8.0, 40.0], 300))
    ]
    *_, (pairs, counts) = speed.alternate(*sides, speed.Counter(), runs=3, seconds=60, keep=False)
    row = speed.row("tiny", "draw", pairs, counts, (50.0, 4.0), options)
    assert (row["ours_s"], row["plain_s"], row["ratio"], row["runs"], row["goal"]) == (2.0, 8.0, 5.0, 3, 4)
    assert (row["flop_ratio"], row["ours_limits_s"], row["plain_limits_s"]) == (3.0, [2.0, 2.0], [6.0, 2.0])
    speed.write([{**row, "ratio": 1.0}], options)
    speed.write([row], options)
    assert json.loads(options.out.read_text()) == [row]
    assert "| tiny | draw | 2 | 8 | **5.0×** | ≥ 4× | 3.0× | 2 / 2 | 100% | 3 |" in speed.page([row])


def test_the_page_is_that_of_the_results(speed: ModuleType) -> None:
    found = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    assert (ROOT / "docs" / "speed.md").read_text() == speed.page(found)


def test_unknown_names_end_the_program(speed: ModuleType) -> None:
    assert speed.chosen("answer,step", speed.UNITS, "--only") == ["answer", "step"]
    with pytest.raises(SystemExit, match=r"--only names look; it takes memory, answer, draw, step"):
        speed.chosen("look", speed.UNITS, "--only")


def test_what_a_step_costs_in_flops() -> None:
    found = []
    for rows in (4, 2):
        work = benchmark("workload").Workload("tiny", "cpu", "fp32", group=4, timesteps=2, plain_rows=rows)
        with work.counter:
            found.append(work.plain_step())
        assert work.rl.num_generations == 4
        with work.counter:
            ours = {name: spent.flops for name, spent in work.our_step().items()}
        work.close()
    every, some = ({name: spent.flops for name, spent in figures.items()} for figures in found)
    saved = {name: every[name] / ours[name] for name in ours}
    assert saved["draw"] > 3.0 and saved["update, all T steps"] > 3.2 and saved["step"] > 3.7, (
        "ours does more than it did"
    )
    assert some["draw"] == every["draw"], "padded to one length"
    assert some["step"] == pytest.approx(every["step"], rel=0.05) and some["update"] == pytest.approx(
        every["update"], rel=0.05
    )
