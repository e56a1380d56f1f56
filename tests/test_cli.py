"""The command line as a user meets it: help, results, one-line errors."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from sync_r1 import __version__, cli, doctor
from sync_r1.data import add_concept_folder
from sync_r1.files import write_manifest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    (folder / "model").mkdir(parents=True)
    save_file({"a": np.zeros((2, 3), dtype=np.float32)}, folder / "model/model.safetensors")
    write_manifest(folder)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the entry point as the shell does; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["sync-r1", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("path", [[], ["report"], ["doctor"], ["concept"], ["concept", "add"], ["models", "check"]])
def test_help_everywhere(path: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*path, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output
    if path and path not in (["concept"],):
        assert "Example: sync-r1" in result.output


def test_every_command_has_help_with_an_example() -> None:
    """Also those that are added later."""
    import typer.main

    def leaves(command: object, name: str) -> list[tuple[str, str]]:
        children = getattr(command, "commands", None)
        if children:
            return [leaf for key, child in children.items() for leaf in leaves(child, f"{name} {key}")]
        return [(name, getattr(command, "help", None) or "")]

    for name, text in leaves(typer.main.get_command(cli.app), "sync-r1"):
        assert "Example" in text, f"`{name} --help` has no example"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == f"sync-r1 {__version__}"


def test_concept_add_list_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, photos: Path
) -> None:
    data = str(tmp_path / "data")
    given = [
        "--pictures",
        str(photos),
        "--class",
        "dog",
        "--info",
        "a small grey terrier",
        "--fact",
        "zed has a green raincoat.",
    ]
    assert call(monkeypatch, "concept", "add", "zed", *given, "--data", data) == 0
    assert "added <zed> (dog, animal)" in capsys.readouterr().out
    assert call(monkeypatch, "concept", "list", "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "zed"
    assert call(monkeypatch, "concept", "list", "--data", data) == 0
    assert "zed" in capsys.readouterr().out
    assert call(monkeypatch, "concept", "show", "zed", "--data", data) == 0
    shown = capsys.readouterr().out
    assert "info: <zed> is a small grey terrier" in shown and "- <zed> has a green raincoat." in shown
    assert call(monkeypatch, "concept", "add", "zed", *given, "--data", data) == 2
    assert "concept name 'zed' is taken" in capsys.readouterr().err


def test_one_broken_concept_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, photos: Path
) -> None:
    data = tmp_path / "data"
    for name in ("zed", "kip"):
        add_concept_folder(data, name, photos, "dog", "brown", [f"<{name}> has a red ball."])
    train = data / "concept" / "train"
    shutil.copytree(train / "kip", train / "my dog")
    assert call(monkeypatch, "concept", "list", "--data", str(data), "--json") == 0
    output = capsys.readouterr()
    assert [row["name"] for row in json.loads(output.out)] == ["zed", "kip"]
    assert f"left out {train / 'my dog'}: concept id 'my dog' is not allowed" in output.err
    (train / "kip" / "info.json").write_text("{")
    assert call(monkeypatch, "concept", "list", "--data", str(data)) == 0
    output = capsys.readouterr()
    assert "zed" in output.out and "kip" not in output.out and "kip: " in output.err
    shutil.rmtree(train / "zed")
    assert call(monkeypatch, "concept", "list", "--data", str(data)) == 2
    assert f"none of the 2 concepts in {data} can be read" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder_in_every_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, photos: Path
) -> None:
    home, here = photos.parent, tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    given = ["--class", "dog", "--info", "brown", "--fact", "<zed> has a red ball."]
    assert call(monkeypatch, "concept", "add", "zed", "--data=~/mine", "--pictures=~/photos", *given) == 0
    assert (home / "mine/concept/train/zed/info.json").is_file()
    monkeypatch.setenv("SYNC_R1_DATA", "~/mine")
    assert call(monkeypatch, "concept", "show", "zed") == 0
    assert call(monkeypatch, "data", "check", "~/mine") == 0
    capsys.readouterr()
    assert call(monkeypatch, "train", "--data=~/mine", "run.output_dir=~/runs", "--show-config") == 0
    shown = capsys.readouterr().out
    assert f"root: {home}/mine" in shown and f"output_dir: {home}/runs" in shown
    for command in (["ask", "What?", "--data=~/none"], ["bench", "run", "--data=~/none"]):
        assert call(monkeypatch, *command) == 2
        assert f"{home}/none/concept/train: no such folder" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("command", ["ask", "draw", "rewrite"])
def test_a_prompt_that_is_no_utf8_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    prompt = b"bo in a caf\xe9".decode("utf-8", "surrogateescape")  # as Python gets it from a Latin-1 terminal
    assert call(monkeypatch, command, prompt, "--concept", "bo") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "holds bytes that are no UTF-8 text, after 'bo in a caf'" in errors[-1] and "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], "no run directory at nowhere"),
        (["concept", "list", "--data", "nowhere"], "nowhere"),
        (["concept", "show", "../bo", "--data", "nowhere"], "nowhere/concept/train: no such folder"),
    ],
)
def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    monkeypatch.delenv("SYNC_R1_DEBUG", raising=False)
    assert call(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1
    assert words in output.err


def test_debug_shows_where_an_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_R1_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["sync-r1", "report", "nowhere"])
    with pytest.raises(FileNotFoundError):
        cli.main()


def test_report_of_a_small_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    assert call(monkeypatch, "report", str(tmp_path)) == 0
    assert "report.html" in capsys.readouterr().out and (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(("fine", "code"), [(True, 0), (False, 1)])
def test_models_check_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fine: bool, code: int
) -> None:
    from sync_r1.models.showo import check

    result = {"showo.logits": {"max_error": 1e-6, "ok": True}, "magvit.codes": {"max_error": 3.0, "ok": fine}}
    monkeypatch.setattr(check, "check_kit", lambda folder: result)
    assert call(monkeypatch, "models", "check", "kit") == code
    assert json.loads(capsys.readouterr().out) == result


def test_doctor_with_and_without_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: Path
) -> None:
    examine = doctor.examine
    monkeypatch.setattr(doctor, "examine", lambda: examine(weights, tmp_path))
    assert call(monkeypatch, "doctor", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["weights"]["state"] == "ok" and "1 tensors" in rows["weights"]["detail"]
    assert {
        "python",
        "torch",
        "transformers",
        "accelerate",
        "device",
        "threads",
        "memory",
        "disk",
        "onnxruntime",
        "peft",
    } <= set(rows)
    shutil.rmtree(weights)
    assert call(monkeypatch, "doctor") == 1
    assert "Something needed is missing" in capsys.readouterr().out


def test_doctor_finds_damaged_weights(weights: Path) -> None:
    path = weights / "model/model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\x01\x02\x03\x04")
    assert "SHA-256 differs" in doctor.check_weights(weights).detail
    path.write_bytes(b"\xff" * 40)
    write_manifest(weights)  # the right hash of the wrong content
    assert doctor.check_weights(weights).state == "missing"


def test_doctor_lists_the_packages_of_the_metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    about = tmp_path / "strange_thing-1.dist-info"
    about.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        "Name: strange-thing",
        "Version: 1",
        "Provides-Extra: face",
        "Provides-Extra: dev",
    ]
    wanted = [
        "torch>=2.0",
        "numpy>=999",
        "no-such-package>=3",
        "old-python-only; python_version < '3'",
        "missing-face; extra == 'face'",
        "pillow; extra == 'face'",
        "pytest; extra == 'dev'",
    ]
    (about / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in wanted)]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {check.name: check for check in doctor.check_packages("strange-thing")}
    assert {name: check.state for name, check in found.items()} == {
        "torch": "ok",
        "numpy": "missing",
        "no-such-package": "missing",
        "missing-face": "note",
        "pillow": "ok",
    }
    assert found["numpy"].detail.endswith("is installed, >=999 is needed")
    assert "pip install 'no-such-package>=3'" in found["no-such-package"].hint
    assert "the reward 'face'" in found["missing-face"].detail and "sync-r1[face]" in found["missing-face"].hint
    assert doctor.healthy([found["missing-face"]]) and not doctor.healthy([found["numpy"]])
    assert doctor.check_packages("never-installed")[0].state == "note"


def test_help_shows_every_command_in_the_panel_it_belongs_to() -> None:
    import typer.main

    from sync_r1.commands.panels import PANEL_OF, PANELS

    commands = getattr(typer.main.get_command(cli.app), "commands")  # noqa: B009
    assert set(commands) == set(PANEL_OF), "a command is in no panel, or a panel names one that is gone"
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    places = [shown.index(f" {panel} ") for panel in PANELS]
    assert places == sorted(places) and " Commands " not in shown
    assert places[0] < shown.index(" studio ") < places[1] < shown.index(" concept ") < places[2]
