"""`sync-r1 sft` from files to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sync_r1.commands import sft
from sync_r1.session import Session
from tests.rl.toys import same, weights


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    sft.register(app)
    return app


def test_a_warm_up_from_the_command_line(app: typer.Typer, opened: Callable[[], Session], tmp_path: Path) -> None:
    start = opened()
    start.model.save_pretrained(tmp_path / "model")
    given = [
        "--model",
        tmp_path / "model",
        "--data",
        start.root,
        "--concept",
        "bo",
        "--stage",
        1,
        "--stage",
        2,
        "--evaluate",
    ]
    options = [
        "run.device=cpu",
        "sft.epochs=1",
        "eval.tasks=[rea]",
        "eval.clip=''",
        "eval.judge.url=''",
        "eval.max_completion_length=4",
    ]
    place = [f"run.output_dir={tmp_path}", "run.name=warm"]
    arguments = [str(argument) for argument in (*given, *options, *place)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "95 % interval" in result.stdout
    summary = json.loads((tmp_path / "warm" / "summary.json").read_text())
    assert summary["finished"] and summary["stages"] == ["1", "2"] and summary["understanding"]["n"] == 1
    assert f"checkpoint  {summary['checkpoint']}" in result.stdout
    warmed = Session.open(model=summary["checkpoint"], data=start.root, concept="bo", device="cpu")
    assert warmed.tokens == start.tokens and not same(weights(start.model), weights(warmed.model))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds an earlier run"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert CliRunner().invoke(app, [*arguments, "--resume", "latest"], catch_exceptions=False).exit_code == 0
    with pytest.raises(ValueError, match=r"sft.stages is \[\]"):
        CliRunner().invoke(app, [], catch_exceptions=False)
