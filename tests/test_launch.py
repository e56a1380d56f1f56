"""The main job under a launcher: shared by two processes, written by one, and ended by both when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from sync_r1.distributed import PeerLost, Processes, join_processes, watching
from sync_r1.files import manifest_problems
from sync_r1.folder_lock import hold
from sync_r1.open_run import one_process
from sync_r1.run_folder import checkpoints
from tests.forked import ENVIRONMENT, Forked, ForkServer

ROOT = Path(__file__).parents[1]
SMALL = ["rl.num_generations=2", "rl.prompts_per_step=1", "rl.train_timesteps=1", "run.save_steps=1", "run.device=cpu"]


def command(folder: Path, *more: str) -> list[str]:
    """Arguments of `sync-r1`."""
    return [
        "train",
        "--recipe",
        "world",
        "--concept",
        "bo",
        *SMALL,
        f"run.output_dir={folder}",
        "run.name=two",
        *more,
    ]


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node=2", "--standalone"],
    "accelerate": [
        "accelerate.commands.launch",
        *("--config_file", str(ROOT / "examples" / "launch" / "data_parallel_1x8.yaml")),
        *("--num_processes", "2", "--main_process_port", "0"),
    ],
}


def test_two_processes_share_the_main_job(tmp_path: Path) -> None:
    """Under accelerate; torchrun is stopped in the midst of it below."""
    limits = [
        "rl.max_steps=2",
        "rl.draw_every=1",
        "eval.tasks=[rea, rea_gen]",
        "eval.max_items=2",
        "eval.batch_size=1",
        "rl.validation_prompts=1",
        "rl.validation_steps=1",
    ]
    launch = [sys.executable, "-m", *LAUNCHERS["accelerate"], "-m", "sync_r1.cli"]
    run = tmp_path / "two"
    done = subprocess.run(
        [*launch, *command(tmp_path, *limits)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["processes"] == 2 and summary["steps"] == 2 and len(summary["tasks"]) == 2
    assert done.stdout.count("held-out") == 1, "one process speaks"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all(
        row["dgs/candidates"] >= 4 and "val/reward" in row for row in rows
    )
    before = json.loads((run / "eval" / "before.json").read_text())
    drawn = [item["image"] for item in before["items"] if item["task"] == "rea_gen"]
    assert len(before["items"]) == 4 and len(drawn) == 2 and all((run / "eval" / path).is_file() for path in drawn)
    assert [path.name for path in checkpoints(run)] == ["step_00001", "step_00002"]
    assert (run / "report.html").is_file() and (run / "sheet.png").is_file()


Started = Sequence[Forked] | Sequence[subprocess.Popen[str]]


def wait_for(found: Callable[[], bool], started: Started) -> None:
    deadline = time.monotonic() + 240
    while not found():
        assert time.monotonic() < deadline, "it never came"
        for process in started:
            assert process.poll() is None, process.communicate()[0][-2000:]
        time.sleep(0.1)


def ended(started: Started) -> list[str]:
    """What each process printed until it ended."""
    try:
        return [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.parametrize("lost", [0, 1], ids=["the one that writes", "the other"])
def test_when_one_process_dies_the_other_says_so_and_ends(lost: int, tmp_path: Path, fork_server: ForkServer) -> None:
    saved = tmp_path / "two" / "checkpoints"
    started = fork_server.start_two(tmp_path, command(tmp_path, "rl.max_steps=500", "--no-evaluate"))
    try:
        wait_for(lambda: len(checkpoints(saved.parent)) >= 2, started)
        started[lost].send_signal(signal.SIGKILL)
    finally:
        said = ended(started)[1 - lost]
    assert started[1 - lost].returncode == 2, said[-2000:]
    assert f"process {1 - lost} of 2 lost another one" in said and "--resume latest" in said and "Traceback" not in said
    good = checkpoints(saved.parent)
    assert good and all(manifest_problems(path) == [] for path in good)


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_two_processes_stop_together(phase: str, tmp_path: Path, fork_server: ForkServer) -> None:
    """In training the signal of one is enough; in the evaluation, which nothing saves, both get it."""
    run = tmp_path / "two"
    options = {"training": ["--no-evaluate"], "evaluation": ["eval.tasks=[rea_gen]", "eval.batch_size=1"]}[phase]
    begun = run / ("checkpoints/step_00001" if phase == "training" else "eval/images/before")
    started = fork_server.start_two(tmp_path, command(tmp_path, "rl.max_steps=500", *options))
    try:
        wait_for(begun.is_dir, started)
        for process in started[1:] if phase == "training" else started:
            process.send_signal(signal.SIGTERM)
    finally:
        said = ended(started)
    assert [process.returncode for process in started] == [143, 143], said
    assert "Traceback" not in said[0] + said[1]
    assert said[0].count("go on with: sync-r1 train --config") == 1 and "go on with" not in said[1], said
    good = checkpoints(run)
    assert all(manifest_problems(path) == [] for path in good) and bool(good) == (phase == "training")
    assert not (run / "eval" / "before.json").exists() and not (run / ".lock.json").exists()


@pytest.mark.parametrize(("launcher", "number"), [("torchrun", signal.SIGTERM), ("accelerate", signal.SIGINT)])
def test_a_launcher_that_is_stopped_leaves_a_checkpoint(launcher: str, number: signal.Signals, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "sync_r1.cli"]
    options = ["rl.max_steps=500", "--no-evaluate"]
    started = [
        subprocess.Popen(
            [*launch, *command(tmp_path, *options)],
            env=ENVIRONMENT,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    ]
    saved = tmp_path / "two" / "checkpoints"
    try:
        wait_for((saved / "step_00001").is_dir, started)
        started[0].send_signal(number)
    finally:
        said = ended(started)[0]
    assert started[0].returncode != 0, "a stopped training is no success"
    assert "stopped at step" in said and "--resume latest --no-evaluate" in said, said
    assert all(manifest_problems(path) == [] for path in checkpoints(saved.parent))
    assert not (tmp_path / "two" / ".lock.json").exists()


def test_two_processes_are_both_refused_a_folder_in_use(tmp_path: Path, fork_server: ForkServer) -> None:
    with hold(tmp_path / "two"):
        started = fork_server.start_two(tmp_path, command(tmp_path, "--no-evaluate"))
        said = ended(started)
    assert [process.returncode for process in started] == [2, 2], said
    assert all(f"two is in use by process {os.getpid()}" in text and "Traceback" not in text for text in said)


def test_only_lost_processes_are_called_so() -> None:
    pair = Processes(0, 2)
    with pytest.raises(PeerLost, match=r"process 0 of 2 lost another one .*; resume"), watching(pair, "resume"):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), watching(pair, "resume"):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_sharded_launches_are_refused_before_anything_loads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=rf"set to use {name}, .* MULTI_GPU, as in examples/launch"):
        join_processes(cpu=True, timeout_s=1)


@pytest.mark.parametrize(("layout", "machines", "processes"), [("1x8", 1, 8), ("2x8", 2, 16)])
def test_accelerate_reads_the_launch_files(layout: str, machines: int, processes: int) -> None:
    found = load_config_from_file(str(ROOT / "examples" / "launch" / f"data_parallel_{layout}.yaml"))
    assert (found.num_machines, found.num_processes, found.mixed_precision) == (machines, processes, "no")
    assert found.distributed_type == "MULTI_GPU"


@pytest.mark.parametrize("sharding", ["", "fsdp2", "zero1"])
@pytest.mark.parametrize("layout", ["1x8", "2x8", "cpu"])
def test_the_launch_script_starts_training(layout: str, sharding: str, tmp_path: Path) -> None:
    for name in ("accelerate", "python"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MACHINE": "1", "MAIN": "10.0.0.1"}
    script = [
        "bash",
        str(ROOT / "examples" / "launch" / "train.sh"),
        layout,
        *([sharding] if sharding else []),
        "run.name=a b",
    ]
    given = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    train = given[given.index("-m") :] if layout != "cpu" else given[given.index("sync_r1.cli") - 1 :]
    assert train == ["-m", "sync_r1.cli", "train", "run.name=a b", *([f"run.sharding={sharding}"] if sharding else [])]
    if layout != "cpu":
        assert load_config_from_file(given[given.index("--config_file") + 1]).num_machines == int(layout[0])


def test_a_warm_up_is_refused_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="sft runs in one process; run sync-r1 sft without accelerate launch"):
        one_process("sft")
