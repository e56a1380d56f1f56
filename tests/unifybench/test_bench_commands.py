"""The commands of `sync-r1 bench`."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sync_r1.commands.unifybench import app
from sync_r1.unifybench.protocol import Protocol

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rl.max_steps=3"], "'rl.max_steps=3' has no effect on a benchmark; it takes eval.judge"),
        (["eval.guidance_scale=3"], "decoding and seeds with --set"),
        (["model.path=x"], "name the model under test with --model"),
        (["--run", "runs/x", "model.num_tokens=2"], "'model.num_tokens=2' has no effect on --run"),
        (["--chat", "http://localhost:1/v1", "model.num_tokens=2"], "has no effect on --chat"),
        (["--steps", "0,60"], "--steps is '0,60', but only a run has checkpoints; name it with --run"),
        (["--run", "runs/x", "--chat", "http://localhost:1/v1"], "--run and --chat are both given"),
        (["--chat-model", "m"], "--chat and --chat-model go together"),
        (["--run", "no-such-run", "--concept", "bo"], "no-such-run: no such run"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--out", str(tmp_path), *options])
    assert isinstance(result.exception, ValueError) and message in str(result.exception)


def test_commands_on_the_world(tmp_path: Path) -> None:
    runner, out = CliRunner(), tmp_path / "out"

    def call(*words: object) -> str:
        result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    common = ["--concept", "bo", "--max-items", 1, "--tasks", "rec,rea", "--tasks", "rea_gen"]
    first = call("run", *common, "--out", out)
    assert "rea_gen.clip_i" in first and first.count("| world |") == 1
    assert call("run", *common, "--out", out) == first
    call("run", *common, "--as", "image-prompt", "--out", tmp_path / "shown", "--data", out / "data")
    assert call("table", out, tmp_path / "shown", "--format", "csv").count("rec.weight") == 2
    assert set(json.loads(call("compare", out, tmp_path / "shown", "--json"))["columns"]) >= {
        "rec.weight",
        "rea.bleu",
        "rea_gen.clip_t",
    }
    assert call("score", out, "--set", "recognition=substring").count("rec.weight") == 1
    assert "pure_name" in call("protocols")
    away = ["score", str(out), "--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "eval.judge.max_retries=0"]
    result = runner.invoke(app, away)
    assert (
        result.exit_code == 1
        and "rea_gen.judge lacks 1 of 1 scores" in result.output
        and "go on with: sync-r1 bench score" in result.output
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_command_killed_and_run_again_leaves_the_same_files(root: Path, tmp_path: Path) -> None:
    """SIGKILL at three random moments.

    benchmarks/unifybench_kill.py does this with more of everything, from the start of the process.
    """
    torch.set_num_threads(1)
    words = [
        "run",
        "--concept",
        "bo",
        "--data",
        str(root),
        "--max-items",
        "2",
        "--tasks",
        "rec,rea,rea_gen",
        "--batch-size",
        "1",
        "--out",
    ]

    def call(out: Path) -> None:
        assert CliRunner().invoke(app, [*words, str(out)], catch_exceptions=False).exit_code == 0

    def files(out: Path) -> dict[str, str]:
        texts = {path: path.read_bytes().decode("latin1") for path in sorted(out.rglob("*")) if path.is_file()}
        return {
            path.relative_to(out).as_posix(): re.sub('"scored_at": "[^"]*"', "", text) for path, text in texts.items()
        }

    started = time.monotonic()
    call(tmp_path / "whole")
    needed, moments, killed = time.monotonic() - started, random.Random(1), 0
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                call(tmp_path / "torn")
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.3, 0.8) * needed)
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    call(tmp_path / "torn")
    assert killed and files(tmp_path / "torn") == files(tmp_path / "whole") and len(files(tmp_path / "torn")) > 15
