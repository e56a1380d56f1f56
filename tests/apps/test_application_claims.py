"""Claims of the applications: declared with bars, measured cell by cell, judged by rules, shown as they were found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import yaml

from sync_r1.study.study_file import load_study
from tests.helpers import benchmark

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "applications.yaml"
SMALL: dict[str, Any] = {
    "name": "small",
    "command": "python benchmarks/applications.py",
    "recipes": ["demo"],
    "set": {},
    "concepts": ["ivo", "rex"],
    "seeds": [0, 1],
    "claims": [
        {
            "id": "A1",
            "measure": "edit",
            "statement": "s",
            "counts": {"pictures": 2},
            "bars": {"right": "at least 0.5", "change": "gain of at least 0", "start": "shown"},
        }
    ],
    "seconds": {"repeats": 1},
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("applications")


def module(name: str) -> ModuleType:
    return benchmark(f"application_claims.{name}")


def cells(right: Sequence[float], change: Sequence[float], concepts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"concept": name, "seed": 0, "values": {"right": list(right), "change": list(change)}} for name in concepts]


# what is declared


def test_the_shipped_study_declares_every_claim(script: ModuleType) -> None:
    study = script.load(STUDY)
    assert [claim.id for claim in study.claims] == [f"A{number}" for number in range(1, 14)]
    assert len(study.concepts) == 5 and len(study.seeds) == 3
    assert not {"ivo", "lumen", "cleo", "rex"} & set(study.concepts), "what was tuned on does not count"
    for claim in study.claims:
        assert module(claim.measure).__doc__.startswith(f"{claim.id}: ")
        assert claim.goal, "a claim has a bar that decides"


def test_what_is_declared_wrongly_is_named(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    (claim,) = SMALL["claims"]
    for changes, said in (
        ({"claims": [{**claim, "bars": {"right": "about 0.5"}}]}, "'right' has the bar 'about 0.5'; write at least"),
        ({"claims": [{**claim, "cells": 3}]}, "unexpected keyword argument 'cells'"),
        ({"arms": {}}, "unexpected keyword argument 'arms'"),
    ):
        path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False), encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            script.load(path)
    study = script.load(STUDY)
    with pytest.raises(ValueError, match=r"unknown claims A99; there are A1, "):
        script.chosen(study, ["A99"])
    with pytest.raises(ValueError, match=r"--most 'picture=2': write NAME=NUMBER; names are "):
        script.counted(study, ["picture=2"])
    with pytest.raises(ValueError, match=r"is run by: python benchmarks/applications.py"):
        load_study(STUDY)


# verdicts


@pytest.mark.parametrize(
    ("text", "values", "met"),
    [
        ("at least 0.5", [1, 0], True),
        ("at least 0.6", [1, 0], False),
        ("at most 0.5", [1, 0], True),
        ("at most 0.4", [1, 0], False),
        ("gain of at least 0.25", [0.25] * 8, True),
        ("gain of at least 0.25", [1, -0.5], False),  # its interval reaches below 0
        ("gain of at least 0", [0] * 8, False),
        ("always", [1, 1, 1], True),
        ("always", [1, 1, 0.99], False),
    ],
)
def test_rules(text: str, values: list[float], met: bool) -> None:
    judged, declared = module("judged"), module("declared")
    claim = declared.Claim(id="A1", measure="edit", statement="s", counts={}, bars=[declared.Bar.read("right", text)])
    entry = judged.judge(claim, cells(values, [], ["bo", "ana", "chai"]), "c")
    assert entry["holds"] is met and entry["goal"] == f"right: {text}"
    assert judged.judge(claim, cells(values, [], ["bo", "ana"]), "c")["holds"] is None, "too few cells"


def test_the_bar_that_decides_gives_the_figures(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    (claim,) = script.load(path).claims
    judge = module("judged").judge
    concepts = ["bo", "ana", "chai"]
    good = judge(claim, cells([1, 1], [0.5, 0.5], concepts), "c")
    assert good["holds"] is True and good["value"] == 1 and good["n"] == 6, "the first of all"
    assert (good["n_concepts"], good["n_seeds"], good["ci95"]) == (3, 1, [1, 1])
    bad = judge(claim, cells([1, 1], [-0.5, 0.5], concepts), "c")
    assert bad["holds"] is False and bad["value"] == 0
    empty = judge(claim, [], "c")
    assert empty["holds"] is None and empty["value"] is None and empty["n"] == 0
    assert [row["measure"] for row in empty["measures"]] == ["right", "change", "start"]


def test_concepts_count_equally_and_are_drawn_again() -> None:
    """Two seeds of one concept and one of another: the mean is over concepts first."""
    estimate = module("judged").estimate
    found = [
        {"concept": "bo", "seed": 0, "values": {"x": [1.0] * 50}},
        {"concept": "bo", "seed": 1, "values": {"x": [1.0] * 50}},
        {"concept": "ana", "seed": 0, "values": {"x": [0.0]}},
    ]
    value, low, high = estimate("x", found)
    assert value == 0.5 and (low, high) == (0, 1)


def test_every_comparison_of_simulated_learners_counts(script: ModuleType) -> None:
    claim = next(claim for claim in script.load(STUDY).claims if claim.id == "A8")
    learners = json.loads((ROOT / "docs" / "learners.json").read_text(encoding="utf-8"))
    entry = module("judged").judge_elsewhere(claim, module("simulated_learners").rows(learners), "c")
    assert entry["holds"] is True and len(entry["measures"]) == 12 and entry["n"] == 300
    learners["mastery"]["6 days"]["a day later"]["adaptive over"]["random"]["ci95"] = [-0.01, 0.02]
    worse = module("judged").judge_elsewhere(claim, module("simulated_learners").rows(learners), "c")
    assert worse["holds"] is False and worse["ci95"] == [-0.01, 0.02]


def test_kills_and_hostile_requests_are_one_claim(script: ModuleType) -> None:
    """200 steps with one problem and a request in four that was answered with an error of the server."""
    claim = next(claim for claim in script.load(STUDY).claims if claim.id == "A13")
    found = {"kills": 200, "hostile": 4, "statuses": {"200": 1, "404": 2, "500": 1}, "problems": ["a", "b"]}
    entry = module("judged").judge_elsewhere(claim, module("kills").rows(found), "c")
    assert entry["holds"] is False and [row["value"] for row in entry["measures"]] == [0.995, 0.75]
    found |= {"statuses": {"404": 4}, "problems": []}
    entry = module("judged").judge_elsewhere(claim, module("kills").rows(found), "c")
    assert entry["holds"] is True and [row["n"] for row in entry["measures"]] == [200, 4]


# the pipeline


@pytest.fixture
def given(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """A small study whose trainings and measurements are replaced by fixed results."""
    monkeypatch.setattr(script, "train", lambda *arguments, **options: None)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    (tmp_path / "page.md").write_text("# Page\n\n## First\ntext\n", encoding="utf-8")
    words = [str(path), "--jobs", "1"]
    for name, file in (("folder", "runs"), ("out", "out.json"), ("page", "page.md")):
        words += [f"--{name}", str(tmp_path / file)]
    found: argparse.Namespace = script.parser().parse_args(words)
    return found


def stand_in(measured: list[str], stop_at: str = "") -> Any:
    """Values that follow from the cell; "stopped" where it should be."""

    def measure(cell: Any) -> dict[str, list[float]]:
        name = f"{cell.concept}-{cell.seed}"
        if name == stop_at:
            raise KeyboardInterrupt
        measured.append(name)
        return {"right": [1.0, 0.0], "change": [0.5], "start": [0.5], "an edit": [0.1, 0.3]}

    return measure


def test_a_stopped_study_goes_on_and_is_shown_as_it_was_found(
    script: ModuleType, given: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    for name in ("edit", "seconds"):
        monkeypatch.setattr(module(name), "measure", stand_in(measured, stop_at="rex-0"))
    with pytest.raises(KeyboardInterrupt):
        script.run(given)
    assert measured == ["ivo-0", "ivo-1"]
    for name in ("edit", "seconds"):
        monkeypatch.setattr(module(name), "measure", stand_in(measured))
    result = script.run(given)
    assert measured[2:] == ["rex-0", "rex-1", "ivo-0", "rex-0"], "the rest, then what is timed"
    assert json.loads(given.out.read_text(encoding="utf-8")) == result
    (claim,) = result["claims"]
    assert (claim["n_concepts"], claim["n_seeds"], claim["n"]) == (2, 2, 8)
    assert claim["command"] == "python benchmarks/applications.py --claims A1"
    assert result["seconds"]["an edit"] == {"median": 0.2, "range": [0.1, 0.3], "n": 4}
    page = given.page.read_text(encoding="utf-8")
    assert (
        page.startswith("# Page\n\n## First\ntext\n\n## What is claimed") and "| right | at least 0.5 | 0.500 |" in page
    )
    assert script.run(given) == result and len(measured) == 6, "nothing is measured twice"
    assert given.page.read_text(encoding="utf-8") == page, "the section is replaced, not added"
    given.page.write_text(page + "\n## Last\nend\n", encoding="utf-8")
    given.most = ["pictures=1"]
    script.run(given)
    assert len(measured) == 10, "other counts are measured anew"
    assert given.page.read_text(encoding="utf-8").endswith("\n\n## Last\nend\n")


def test_a_cell_of_other_weights_does_not_count(
    script: ModuleType, given: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    for name in ("edit", "seconds"):
        monkeypatch.setattr(module(name), "measure", stand_in(measured))
    script.run(given)
    monkeypatch.setattr(script, "weights_name", lambda: "other")
    given.report = True
    assert script.run(given)["claims"][0]["n"] == 0


def test_a_signal_stops_trainings_too_and_says_how_to_go_on(given: argparse.Namespace, tmp_path: Path) -> None:
    words = [str(given.study), "--folder", str(given.folder), "--jobs", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "applications.py"), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said.txt").open("w") as said:
        study = psutil.Popen(command, cwd=tmp_path, env=environment, stderr=said, stdout=subprocess.DEVNULL)
        trainings = until(study.children, "the study starts a training")
        until(lambda: [one for one in trainings if "train" in one.cmdline()], "the training is begun")
        study.terminate()
        assert study.wait(timeout=60) == 143
    assert not [one for one in trainings if one.is_running()], "no training outlives its study"
    assert "stopped by SIGTERM: " in (text := (tmp_path / "said.txt").read_text(encoding="utf-8")), text
    assert f"go on with: python {command[1]} {given.study} --folder" in text


def until(found: Callable[[], list[Any]], what: str) -> list[Any]:
    """What is found, as soon as it is not empty."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if values := found():
            return values
        time.sleep(0.1)
    raise AssertionError(f"not within a minute: {what}")


# what docs/ shows


def test_the_page_shows_the_results() -> None:
    result = json.loads((ROOT / "docs" / "applications.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "applications.md").read_text(encoding="utf-8")
    assert page.endswith(module("section").section(result))
    assert [claim["id"] for claim in result["claims"]] == [f"A{number}" for number in range(1, 14)]
    fields = {"id", "statement", "goal", "value", "ci95", "n", "n_concepts", "n_seeds", "holds", "command"}
    assert all(fields <= set(claim) for claim in result["claims"])
