"""Which checkpoint, configuration and data a run has: the same for every command, also after a badly timed kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sync_r1.cli import app
from sync_r1.config import Config, save_config
from sync_r1.data import load_concept
from sync_r1.files import write_manifest
from sync_r1.run_folder import checkpoint_to_resume, checkpoints, data_of, name_of, newest, run_of, step_of
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A run that was killed while its checkpoint of step 10 was being replaced, between the two renames."""
    folder = tmp_path / "runs" / "small"
    config = Config()
    config.data.root, config.data.concepts = str(root), ["bo"]
    config.model.num_tokens, config.eval.generation_timesteps, config.eval.max_completion_length = 2, 2, 4
    for step in (5, 10):
        checkpoint = folder / "checkpoints" / f"step_{step:05d}"
        model = tiny_model(seed=step, max_text_tokens=120)
        Session(model=model, concept=load_concept(root, "bo"), settings=config.model)
        model.save_pretrained(checkpoint)
        save_config(config, checkpoint / "config.yaml")
        write_manifest(checkpoint)
    checkpoint.rename(checkpoint.with_name(".step_00010.old"))
    partial = checkpoint.with_name(".step_00010.partial")
    partial.mkdir()
    (partial / "config.yaml").write_text("half")
    return folder


@pytest.fixture
def kept(run: Path) -> Path:
    """The checkpoint that `train --resume latest` goes on from."""
    found = checkpoint_to_resume("latest", run)
    assert found == run / "checkpoints" / ".step_00010.old"
    return found


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_ask_uses_the_checkpoint_that_training_goes_on_from(run: Path, kept: Path) -> None:
    expected = Session.open(checkpoint=kept, device="cpu").ask("What colour is bo?")
    older = Session.open(checkpoint=run / "checkpoints" / "step_00005", device="cpu").ask("What colour is bo?")
    assert expected.strip() != older.strip(), "the two checkpoints must answer differently for this test to tell them"
    assert call("ask", "What colour is bo?", "--run", run, "--device", "cpu").strip() == expected.strip()


def test_draw_uses_it_and_names_it_as_before_the_kill(run: Path, kept: Path, tmp_path: Path) -> None:
    from PIL import Image

    expected = Session.open(checkpoint=kept, device="cpu").draw("a photo of bo")[0]
    older = Session.open(checkpoint=run / "checkpoints" / "step_00005", device="cpu").draw("a photo of bo")[0]
    path = call("draw", "a photo of bo", "--run", run, "--out", tmp_path / "drawn", "--device", "cpu").strip()
    drawn = Image.open(path)
    assert drawn.tobytes() == expected.tobytes() != older.tobytes()
    assert "small/step_00010" in drawn.info.values()


@pytest.mark.parametrize("by_name", [False, True])
def test_evaluate_uses_it_and_writes_into_the_run(run: Path, kept: Path, by_name: bool) -> None:
    given = ["--task", "vqa", "--max-items", 1, "--judge", "none", "--device", "cpu", "--json"]
    call("evaluate", "--run", kept if by_name else run, *given)
    written = json.loads((run / "eval" / "after.json").read_text())
    assert "small/step_00010" in json.dumps(written)


def test_bench_tests_it_by_default_and_by_its_step(run: Path, kept: Path, root: Path, tmp_path: Path) -> None:
    given = ["--data", root, "--concept", "bo", "--tasks", "qa", "--max-items", 1, "--no-score", "--device", "cpu"]
    for number, steps in enumerate([[], ["--steps", "10"]]):
        out = tmp_path / f"bench{number}"
        call("bench", "run", "--run", run, *steps, *given, "--out", out)
        assert [path.name for path in out.rglob("model_epoch_*")] == ["model_epoch_10"]
    with pytest.raises(ValueError, match="no complete checkpoint of step 7; it has 0, 5, 10"):
        call("bench", "run", "--run", run, "--steps", "7", *given, "--out", tmp_path / "other")


def test_its_successor_takes_its_place(run: Path) -> None:
    saves = run / "checkpoints"
    assert [path.name for path in checkpoints(run)] == ["step_00005", ".step_00010.old"]
    (saves / "step_00005").rename(saves / "step_00010")
    assert [path.name for path in checkpoints(run)] == ["step_00010"]
    (saves / "step_00010" / "manifest.json").unlink()
    assert newest(run) == saves / ".step_00010.old" and newest(run / "none") is None


def test_what_a_checkpoint_s_place_and_name_say(run: Path, kept: Path, root: Path, tmp_path: Path) -> None:
    assert (step_of(kept), step_of(run)) == (10, 0)
    assert (run_of(kept), run_of(run)) == (run, run)
    assert (name_of(kept), name_of(tmp_path / "copies" / "mine")) == ("small/step_00010", "copies/mine")
    assert data_of(kept) == str(root)
