"""A study runs, skips what is finished, resumes, and makes anew what was made with other options."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import yaml
from rich.console import Console

from sync_r1.commands.study import study as study_command
from sync_r1.study import joined_models
from sync_r1.study.results import hacking_section, hacking_summary, write_results
from sync_r1.study.runner import Cell, Runner
from sync_r1.study.study_file import Study, load_study
from tests.forked import Forked, ForkServer

TINY = {
    "rl.max_steps": 1, "rl.num_generations": 2, "rl.prompts_per_step": 1, "rl.train_timesteps": 1, "rl.draw_every": 1,
    "rl.validation_prompts": 1,
    "run.save_steps": 1, "run.log_completions": False, "eval.max_items": 1, "eval.tasks": ["rea", "rea_gen"],
}  # fmt: skip
DECLARED: dict[str, Any] = {
    "name": "tiny",
    "recipes": ["world"],
    "set": TINY,
    "cells": [["bo", 0]],
    "arms": {
        "text": {"recipes": ["understanding-only"]},
        "both": None,
        "plain": {"recipes": ["no-dgs"], "same_nfe_as": "both", "set": {"rl.draw_every": 2, "run.save_steps": 2}},
        "joined": {"understanding": "text", "generation": "both"},
    },
    "claims": [
        {
            "id": "c",
            "statement": "s",
            "rule": "higher",
            "arm": "both",
            "against": ["start", "joined"],
            "measures": ["rea", "rea_gen"],
        }
    ],
}


@pytest.fixture(autouse=True)
def forked_cells(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells run in processes forked from one that has imported everything; `tests/test_signals.py` starts them anew."""

    def start(command: list[str], stdout: BinaryIO, **_: Any) -> Forked:
        module, arguments = command[2], command[3:]
        script = Path(joined_models.__file__) if module == joined_models.__name__ else None
        return fork_server.start(Path.cwd(), arguments, script=script, log=Path(stdout.name))

    forked = SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr("sync_r1.study.runner.subprocess", forked)


def declared(folder: Path, **changes: Any) -> Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**DECLARED, **changes}))
    return load_study(path)


def runner(folder: Path, study: Study) -> Runner:
    return Runner(study, folder / "cells", jobs=2, console=Console(width=300))


def test_a_study_runs_once_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = declared(tmp_path)
    assert runner(tmp_path, study).run() == []
    cells = {cell["arm"]: cell for cell in runner(tmp_path, study).results()}
    assert set(cells) == set(study.arms)
    assert {row[0] for row in cells["joined"]["items"]} == {"rea", "rea_gen"}
    assert cells["text"]["nfe"] == 0 < cells["both"]["nfe"] == cells["joined"]["nfe"]
    per_step = 1 * 2 * 8  # prompts × G × T
    assert cells["plain"]["steps"] == 2 * round(cells["both"]["nfe"] / per_step)  # every second rollout is drawn
    assert [row["step"] for row in cells["both"]["curve"]] == [1] and "val/evaluator" in cells["both"]["curve"][0]

    result = write_results(
        study, list(cells.values()), tmp_path / "docs" / "results", "sync-r1 study", tmp_path / "cells"
    )
    assert [row["measure"] for row in result["claims"][0]["measures"]] == ["rea", "rea_gen"] * 2
    assert (
        result["claims"][0]["n_concepts"] == 1
        and json.loads((tmp_path / "docs" / "results.json").read_text()) == result
    )
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "| start | 1 |" in page and (tmp_path / "docs" / "results_claims.png").is_file()
    assert (
        result["loop"]["arm"] == "both"
        and result["loop"]["runs"] == 1
        and sum(row["items"] for row in result["loop"]["rewrites"]) == 1
    )
    assert list(result["dgs"]) == ["both"] and (tmp_path / "docs" / "results_dgs.png").is_file()
    assert (
        "![results_dgs.png](results_dgs.png)" in page
        and "| both | 1 | 1 |" in page
        and "## From the rewrite to the picture" in page
    )

    shutil.copytree(tmp_path / "docs", tmp_path / "clone")  # elsewhere, without the run folders
    (tmp_path / "clone" / "results_loop.png").write_bytes(b"kept")
    old = {**cells["text"], "arm": "gone"}
    again = write_results(study, list(cells.values()), tmp_path / "clone" / "results", "x", tmp_path / "nothing", [old])
    assert again["loop"] == result["loop"] and (tmp_path / "clone" / "results_loop.png").read_bytes() == b"kept"
    assert json.loads((tmp_path / "clone" / "results_cells.json").read_text()) == [*cells.values(), old], (
        "no cell is ever lost"
    )
    with pytest.raises(ValueError, match="holds the study 'tiny'; give 'other' a place of its own"):
        write_results(
            declared(tmp_path, name="other"),
            list(cells.values()),
            tmp_path / "clone" / "results",
            "x",
            tmp_path / "nothing",
        )
    elsewhere = runner(tmp_path / "elsewhere", study)
    elsewhere.console = Console(width=400)
    assert elsewhere.restore(tmp_path / "clone" / "results_cells.json") == [*cells.values(), old]
    assert {cell["arm"] for cell in elsewhere.results()} == set(study.arms) and not (elsewhere.folder / "gone").exists()
    assert "4 finished cells taken over from" in capsys.readouterr().out
    declared(tmp_path)
    plan = {"folder": tmp_path / "planned", "out": tmp_path / "clone" / "results", "jobs": 2, "quick": False}
    study_command(tmp_path / "study.yaml", only_report=False, only_plan=True, **plan)
    assert "0 cells left, about 0.0 hours with 2 at a time" in capsys.readouterr().out
    for damaged in ("[{}]", "[1]", "{", "7"):
        (tmp_path / "clone" / "results_cells.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"results_cells.json is damaged"):
            elsewhere.restore(tmp_path / "clone" / "results_cells.json")

    metrics = tmp_path / "cells" / "both" / "bo-0" / "metrics.jsonl"
    metrics.unlink()  # a run folder is lost: cell.json knows the curve
    assert [cell["curve"] for cell in runner(tmp_path, study).results() if cell["arm"] == "both"] == [
        cells["both"]["curve"]
    ]

    untouched = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("cell.json")}
    assert runner(tmp_path, study).run() == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("cell.json")} == untouched

    text = tmp_path / "cells" / "text" / "bo-0"
    shutil.rmtree(text / "checkpoints")  # taken over without its weights, which only a joined cell needs
    (tmp_path / "cells" / "joined" / "bo-0" / "cell.json").unlink()
    assert runner(tmp_path, study).run() == []
    assert (text / "checkpoints" / "step_00001" / "manifest.json").is_file()


def test_divergence_is_counted_from_the_curves() -> None:
    looks = [(0.1, 0.6), (0.1, 0.6), (0.3, 0.5), (0.3, 0.5)]
    curve = [{"step": step, "val/reward": reward, "val/evaluator": seen} for step, (reward, seen) in enumerate(looks)]
    cells = {"bo-0": {"curve": curve}, "bo-1": {"curve": curve[:1] * 4}, "bo-2": {"curve": curve[:3]}}
    assert hacking_summary({"a": cells, "b": {"bo-0": {"curve": [{"step": 1.0}]}}}) == {"a": {"runs": 2, "set_off": 1}}
    assert "a 1 of 2" in " ".join(hacking_section({"a": {"runs": 2, "set_off": 1}})) and "4 times" in " ".join(
        hacking_section({})
    )


def test_a_cell_is_resumed_and_made_anew_when_the_study_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"arms": {"text": {"recipes": ["understanding-only"]}}, "claims": []}
    study, cell = declared(tmp_path, **one), Cell("text", "bo", 0)
    work = runner(tmp_path, study)
    work.console = Console(width=200)
    assert work.run() == []
    said = capsys.readouterr().out
    assert re.search(r"text/bo-0: \d+\.\d min, 1 of 1 cells finished", said)
    assert re.search(r"^study \S+, cells  1/1  \d+:\d\d elapsed$", said, re.MULTILINE)
    (work.place(cell) / "cell.json").unlink()  # stopped between training and its last file
    (work.place(cell) / "eval" / "after.json").unlink()
    assert not work.finished(cell)
    saved = work.place(cell) / "checkpoints" / "step_00001"
    saved = saved.rename(saved.with_name(".step_00001.old"))  # killed while replacing it
    written = (saved / "manifest.json").stat().st_mtime_ns
    assert work.run() == [] and work.finished(cell)
    assert (saved / "manifest.json").stat().st_mtime_ns == written
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]

    changed = runner(tmp_path, declared(tmp_path, **one, set={**TINY, "rl.text_loss_weight": 2.0}))
    assert not changed.finished(cell) and changed.results() == []
    assert changed.run() == [] and changed.finished(cell) and not work.finished(cell)

    builds_on = {"arms": {**one["arms"], "joined": {"understanding": "text", "generation": "text"}}, "claims": []}
    later = runner(tmp_path, declared(tmp_path, **builds_on, set={**TINY, "rl.text_loss_weight": 3.0}))
    (later.place(Cell("joined", "bo", 0))).mkdir(parents=True)
    (later.place(Cell("joined", "bo", 0)) / "cell.json").write_text(json.dumps({"made_with": "+".join(["x"] * 2)}))
    assert not later.finished(Cell("joined", "bo", 0))  # what it builds on has to be made anew


def test_a_cell_that_fails_names_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = declared(
        tmp_path,
        arms={"a": {"set": {"eval.tasks": ["dense"]}}, "b": {"recipes": ["no-dgs"], "same_nfe_as": "a"}},
        claims=[],
    )
    failed = Runner(study, tmp_path / "cells", jobs=1, console=Console(width=300)).run()
    assert [cell.arm for cell in failed] == ["a", "b"]
    said = capsys.readouterr().out
    assert "unknown task 'dense'" in said and "a/bo-0/log.txt" in said
    with pytest.raises(ValueError, match="no cell of study 'tiny' is finished"):
        write_results(study, [], tmp_path / "results", "x", tmp_path)


def test_the_command_refuses_another_studys_place_before_it_runs_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(tmp_path)
    (tmp_path / "results.json").write_text('{"study": "other"}')
    monkeypatch.setattr(Runner, "run", lambda self: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="holds the study 'other'; give 'tiny' a place of its own"):
        study_command(
            tmp_path / "study.yaml",
            folder=tmp_path / "runs",
            out=tmp_path / "results",
            jobs=1,
            quick=False,
            only_report=False,
        )
    assert not (tmp_path / "runs").exists()
