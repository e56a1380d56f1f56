"""Stopping and going on: resume equals uninterrupted, a failed save costs nothing, Ctrl-C keeps the work."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors import SafetensorError

from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.rl.trainer_state import SyncState
from sync_r1.run_folder import checkpoint_name, checkpoint_to_resume, checkpoints, newest
from sync_r1.training.callbacks import RestoreRNG
from sync_r1.training.checkpoint import atomic_checkpoint, rotate
from tests.rl.toys import bright, log_of, same, trainer, weights, wordy

FOUR = [
    "rl.max_steps=4",
    "rl.dgs_enabled=true",
    "rl.beta=0.05",
    "rl.train_timesteps=2",
    "rl.lr_scheduler_type=cosine",
    "rl.warmup_steps=1",
]


@pytest.mark.parametrize("iterations", [1, 2])
def test_resume_equals_uninterrupted_bit_for_bit(tmp_path: Path, iterations: int) -> None:
    extra = [*FOUR, f"rl.num_iterations={iterations}"]
    whole = trainer(tmp_path / "a", *extra)
    whole.train()
    folder = whole.config.run.folder
    # as if it had died after step 2, with the log of step 3 and 4 written
    shutil.rmtree(folder / "checkpoints" / "step_00004")
    expected, end = log_of(whole), weights(whole.policy)

    resumed = trainer(tmp_path / "a", *extra)
    resumed.train(resume_from_checkpoint="latest")
    assert same(end, weights(resumed.policy))
    assert log_of(resumed) == expected
    assert resumed.sync_state == whole.sync_state
    assert resumed.sampler.scaling.state_dict() == whole.sampler.scaling.state_dict()


def test_a_full_disk_leaves_the_old_checkpoint_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path, "rl.max_steps=2", "run.save_steps=1")
    real = run.policy.save_pretrained

    def full(folder: Path) -> None:
        real(folder)
        if run.state.global_step == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.policy, "save_pretrained", full)
    with pytest.raises(
        OSError,
        match=r"step_00002 was not saved .*last complete checkpoint is .*step_00001; free some space and resume",
    ):
        run.train()
    folder = run.config.run.folder / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step_00001"]
    assert checkpoint_to_resume("latest", run.config.run.folder).name == "step_00001"
    again = trainer(tmp_path, "rl.max_steps=2", "run.save_steps=1")
    again.train(resume_from_checkpoint="latest")
    assert [row["step"] for row in log_of(again)] == [1, 2]


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    def interrupting(**columns: Any) -> list[float]:
        os.kill(os.getpid(), signal.SIGINT)
        return wordy(**columns)

    said = io.StringIO()
    rewards = RewardEnsemble([Reward("wordy", interrupting, "text"), Reward("bright", bright, "image")])
    handler = signal.getsignal(signal.SIGINT)
    run = trainer(tmp_path, "rl.max_steps=4", rewards=rewards, console=Console(file=said, width=200))
    run.train()
    assert signal.getsignal(signal.SIGINT) == handler
    assert run.state.global_step == 1
    assert checkpoint_to_resume("latest", run.config.run.folder).name == "step_00001"
    assert "stopping after this step" in said.getvalue() and "--resume latest" in said.getvalue()


def noisy(**columns: Any) -> list[float]:
    """A reward that draws from a global generator, which must go on where it was."""
    return [value + random.random() / 10 for value in wordy(**columns)]


def noisy_trainer(folder: Path, iterations: int, **extra: Any) -> SyncGRPOTrainer:
    rewards = RewardEnsemble([Reward("noisy", noisy, "text"), Reward("bright", bright, "image")])
    options = [*FOUR, "run.save_steps=100", f"rl.num_iterations={iterations}"]
    return trainer(folder, *options, rewards=rewards, **extra)


@pytest.fixture(scope="module", params=[1, 2])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SyncGRPOTrainer:
    """A training that nothing stopped, with 1 and with 2 updates per rollout."""
    run = noisy_trainer(tmp_path_factory.mktemp("whole"), request.param)
    run.train()
    return run


@pytest.mark.parametrize(("where", "step"), [("roll_out", 0), ("score", 2), ("loss", 0), ("loss", 2)])
def test_sigterm_abandons_the_step_and_resume_equals_uninterrupted(
    tmp_path: Path, where: str, step: int, whole: SyncGRPOTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is done again from what was before it: weights, counters, DGS and the global generators."""
    said, iterations = io.StringIO(), whole.config.rl.num_iterations
    run = noisy_trainer(tmp_path, iterations, console=Console(file=said, width=300))
    real = getattr(run, where)

    def signalled(*given: Any) -> Any:
        made = real(*given)
        if run.state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr(run, where, signalled)
    run.train()
    last = newest(run.config.run.folder)
    assert run.stop_signal.stopped == signal.SIGTERM and last is not None and last.name == checkpoint_name(step)
    assert "stopping within this step" in said.getvalue() and f"stopped at step {step}; go on with" in said.getvalue()
    resumed = noisy_trainer(tmp_path, iterations)
    resumed.train(resume_from_checkpoint="latest")
    assert same(weights(whole.policy), weights(resumed.policy)) and log_of(resumed) == log_of(whole)
    assert resumed.sync_state == whole.sync_state
    assert resumed.sampler.scaling.state_dict() == whole.sampler.scaling.state_dict()


def test_sigterm_after_the_update_of_a_rollout_waits_for_its_last_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, "rl.max_steps=4", "rl.num_iterations=2")
    real = run.loss

    def signalled(*given: Any) -> Any:
        if run.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr(run, "loss", signalled)
    run.train()
    last = newest(run.config.run.folder)
    assert run.state.global_step == 2 and last is not None and last.name == "step_00002"


def test_resuming_needs_the_same_seed_and_a_checkpoint_of_ours(tmp_path: Path) -> None:
    trainer(tmp_path, "rl.max_steps=1").train()
    with pytest.raises(ValueError, match=r"was trained with 0; set run.seed=0"):
        trainer(tmp_path, "run.seed=1").train(resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="no checkpoint of this trainer"):
        SyncState.load(tmp_path)


def fill(folder: Path, step: int) -> Path:
    target = folder / checkpoint_name(step)
    with atomic_checkpoint(target, step=step) as partial:
        (partial / "weights").write_text(str(step))
    return target


def test_only_complete_checkpoints_count(saves: Path) -> None:
    assert newest(saves) is None
    for step in (2, 10, 4):
        fill(saves, step)
    (saves / "step_00099").mkdir()  # no manifest
    (saves / "notes").mkdir()
    assert [path.name for path in checkpoints(saves.parent)] == ["step_00002", "step_00004", "step_00010"]
    assert newest(saves.parent) == saves / "step_00010"
    rotate(saves / "step_00010", 2)
    assert [path.name for path in checkpoints(saves.parent)] == ["step_00004", "step_00010"]
    with pytest.raises(
        ValueError, match=r"not a complete checkpoint; complete ones beside it: .*step_00004, .*step_00010"
    ):
        checkpoint_to_resume(saves / "step_00099", saves.parent)
    (saves / "step_00010" / "weights").write_text("other")
    with pytest.raises(ValueError, match=r"step_00010 is damaged: weights .*other complete checkpoints: .*step_00004"):
        checkpoint_to_resume(saves / "step_00010", saves.parent)
    with pytest.raises(ValueError, match="no complete checkpoint to resume from"):
        checkpoint_to_resume("latest", saves / "none")


def test_what_a_killed_rotation_left_does_not_stop_the_next_one(saves: Path) -> None:
    for step in (2, 4):
        fill(saves, step)
    for name in (".step_00002.gone", ".step_00006.partial"):
        (saves / name).mkdir()
        (saves / name / "weights").write_text("half")
    rotate(fill(saves, 6), 2)
    assert sorted(path.name for path in saves.iterdir()) == ["step_00004", "step_00006"]


def test_a_checkpoint_from_before_generators_were_saved_still_resumes(saves: Path) -> None:
    generators = RestoreRNG()
    generators.load(fill(saves, 2), process=0)
    assert generators.waiting is None


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt(), RuntimeError("x"), SafetensorError("x")])
def test_a_failed_rewrite_keeps_the_old_one(saves: Path, error: BaseException) -> None:
    target = fill(saves, 1)
    # writers have their own words for a full disk
    shown = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with pytest.raises(shown), atomic_checkpoint(target) as partial:
        (partial / "weights").write_text("half")
        raise error
    assert [path.name for path in saves.iterdir()] == ["step_00001"]
    assert (checkpoint_to_resume(target, saves.parent) / "weights").read_text() == "1"
    fill(saves, 1)
    assert [path.name for path in saves.iterdir()] == ["step_00001"]


def test_a_trained_model_can_be_trained_again(tmp_path: Path) -> None:
    first = trainer(tmp_path / "a", "rl.max_steps=1")
    first.train()
    before = weights(first.policy)
    second = trainer(tmp_path / "b", "rl.max_steps=1", model=first.policy)
    second.train()
    changed = {name for name, value in weights(second.policy).items() if not before[name].equal(value)}
    assert {"showo.model.embed_tokens.weight", "showo.model.layers.0.mlp.fc1.weight"} <= changed
