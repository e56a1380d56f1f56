"""Trainings in the background: detached, and told from their process, files and log alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sync_r1.apps import jobs

TINY = (
    "train --recipe world --concept bo --no-evaluate run.device=cpu run.save_steps=1 rl.num_generations=2 "
    "rl.prompts_per_step=1 rl.text_prompts_per_step=1 rl.train_timesteps=1 rl.draw_every=1 rl.dgs_enabled=false "
    "rl.validation_prompts=0"
).split()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def wait(until: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


def test_a_training_is_stopped_with_a_checkpoint_goes_on_and_finishes(here: Path) -> None:
    folder = here / "runs" / "a"
    job = jobs.start([*TINY, "run.name=a", "rl.max_steps=400"], folder)
    wait(lambda: jobs.state(folder).step >= 1)
    assert jobs.state(folder).name == "running" and os.getpgid(job.pid) != os.getpgid(0)
    with pytest.raises(ValueError, match=r"the training did not begin: error: .* in use by process"):
        jobs.start([*TINY, "run.name=a", "rl.max_steps=400"], folder)
    assert jobs.stop(folder).name in ("running", "stopping", "stopped")
    wait(lambda: job.process() is None)
    ended = jobs.state(folder)
    assert (
        ended.name == "stopped"
        and ended.steps == 400
        and ended.command.endswith("--resume latest --no-evaluate --background")
    )
    again = ended.command.split()[1:-1]
    jobs.start([*again, f"rl.max_steps={ended.step + 1}"], folder)
    wait(lambda: jobs.state(folder).name not in ("running", "stopping"))
    assert jobs.state(folder).name == "finished" and jobs.state(folder).command == ""


def test_a_killed_training_is_told_as_stopped_and_a_wrong_one_as_failed(here: Path) -> None:
    folder = here / "runs" / "b"
    job = jobs.start([*TINY, "run.name=b", "rl.max_steps=400"], folder)
    killed = jobs.stop(folder, now=True)
    assert killed.name == "stopped" and job.process() is None and killed.command.startswith("sync-r1 train")
    with pytest.raises(ValueError, match="no training runs in"):
        jobs.stop(folder)
    with pytest.raises(ValueError, match=r"did not begin: error: .*rl.max_steps"):
        jobs.start([*TINY, "run.name=c", "rl.max_steps=-1"], here / "runs" / "c")
    assert list(jobs.all_jobs(here / "runs")) == ["b"]


def made(folder: Path, pid: int, created: float, log: str = "") -> jobs.Job:
    folder.mkdir(parents=True)
    (folder / jobs.JOB).write_text(json.dumps({"pid": pid, "created": created, "arguments": ["train", "run.name=x"]}))
    (folder / jobs.LOG).write_text(log)
    found = jobs.read_job(folder)
    assert found is not None
    return found


def test_a_process_id_that_came_into_use_again_is_another_process(here: Path) -> None:
    own = psutil.Process()
    assert made(here / "x", own.pid, own.create_time()).process() is not None
    assert made(here / "y", own.pid, own.create_time() - 60).process() is None
    assert jobs.state(here / "y").name == "stopped"


def test_finished_needs_the_summary_of_this_very_job(here: Path) -> None:
    own = psutil.Process()
    made(here / "old", own.pid, time.time() + 60, "training 3/3\n")
    (here / "old" / "summary.json").write_text("{}")
    assert jobs.state(here / "old").name == "stopped"
    made(here / "new", own.pid, own.create_time() - 60, "error: the disk is full\n")
    assert jobs.state(here / "new").name == "failed"
    (here / "new" / "summary.json").write_text(json.dumps({"stopped": 2}))
    assert jobs.state(here / "new").name == "failed"
    (here / "new" / "summary.json").write_text("{}")
    assert jobs.state(here / "new").name == "finished"


def test_the_last_step_survives_a_line_cut_short(here: Path) -> None:
    made(here / "x", 1, 0.0)
    (here / "x" / "metrics.jsonl").write_text('{"step": 7}\n{"step": 8, "rew')
    assert jobs.state(here / "x").step == 7
    with pytest.raises(ValueError, match="no training that was started in the background"):
        jobs.state(here)
