"""What a run may go on from: options may change, content that no trainer of ours wrote is refused with the folder's
name.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sync_r1.files import write_manifest
from tests.rl.toys import log_of, trainer

STEPS = ("rl.beta=0", "run.save_steps=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = trainer(tmp_path_factory.mktemp("first"), *STEPS)
    run.train()
    return run.config.run.folder / "checkpoints" / "step_00002"


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "checkpoints" / trained.name))


def test_rates_schedule_and_length_may_change(checkpoint: Path, tmp_path: Path) -> None:
    changed = ("rl.max_steps=3", "rl.learning_rate=2e-3", "rl.lr_scheduler_type=cosine", "rl.weight_decay=0.1")
    run = trainer(tmp_path / "again", *STEPS, *changed)
    run.train(resume_from_checkpoint=checkpoint)
    assert [row["step"] for row in log_of(run)] == [3]


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        (
            "optimizer.pt",
            lambda state: state["param_groups"][0].update(amsgrad=True),
            "other settings than this run's: amsgrad",
        ),
        (
            "optimizer.pt",
            lambda state: state["param_groups"][0].update(lr=float("inf")),
            "other settings than this run's: lr",
        ),
        (
            "optimizer.pt",
            lambda state: state["state"][0].pop("exp_avg_sq"),
            "its optimizer does not fit a parameter of",
        ),
        ("generators.pt", lambda states: states[0].pop("numpy"), "KeyError"),
        ("scheduler.pt", lambda state: state.update(last_epoch="two"), "last_epoch"),
        ("scheduler.pt", None, "has no scheduler.pt"),
    ],
)
def test_what_no_trainer_wrote_is_refused(name: str, harm: Any, said: str, checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / name
    if harm is None:
        path.unlink()
    else:
        state = torch.load(path, weights_only=True)
        harm(state)
        torch.save(state, path)
    write_manifest(checkpoint, step=2)  # the hashes fit
    run = trainer(tmp_path / "again", *STEPS, "rl.max_steps=3")
    with pytest.raises(ValueError, match=said) as caught:
        run.train(resume_from_checkpoint=checkpoint)
    assert str(checkpoint) in str(caught.value)
