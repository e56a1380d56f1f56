"""Layers shared by two processes (FSDP2 over gloo): what each keeps, uneven work, checkpoints for any number of
processes, refusals."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from transformers import TrainerCallback

from sync_r1.config import load_config
from sync_r1.costs.estimate import estimate
from sync_r1.costs.model_sizes import showo_sizes_of
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.training.sharding.fsdp2 import ShardedLayers, ShardedReference
from tests.forked import ForkServer
from tests.rl.test_processes import learned, run_two
from tests.rl.toys import bright, log_of, read_log, small_config, trainer

FOUR = [
    "run.sharding=fsdp2",
    "model.num_tokens=2",
    "rl.max_steps=4",
    "rl.beta=0.05",
    "rl.lr_scheduler_type=cosine",
    "rl.dgs_enabled=true",
]
UNEVEN = ["run.sharding=fsdp2", "rl.optimise=image", "rl.sequences_per_backward=1"]
WORKER = """
import sys
from pathlib import Path
import torch
from tests.training.test_fsdp2 import UNEVEN, check_shares, copies_of, one_prompt_pays, run_of, silent_at_first, \
train_and_go_on
from tests.rl.test_processes import learned

folder = Path(sys.argv[1])
found = learned(folder / "uneven", UNEVEN, prompts=1, rewards=one_prompt_pays())
torch.save(found, folder / f"uneven{found['rank']}.pt")
found = learned(folder / "skipped", ["run.sharding=fsdp2"], prompts=1, rewards=silent_at_first())
torch.save(found, folder / f"skipped{found['rank']}.pt")
train_and_go_on(folder, lambda place: run_of(place, prompts=1), check_shares)
train_and_go_on(folder / "copies", copies_of, lambda run: None)
"""


def run_of(folder: Path, prompts: int) -> SyncGRPOTrainer:
    return trainer(folder, *FOUR, f"rl.prompts_per_step={prompts}")


def copies_of(folder: Path) -> SyncGRPOTrainer:
    """Nothing shared; a reward draws from every global generator, whose states differ between processes."""

    def luck(*, images: Tensor, **_: Any) -> list[float]:
        return [random.random() + float(np.random.rand()) + torch.rand(()).item() for _ in images]

    return trainer(
        folder,
        *FOUR,
        "run.sharding=none",
        "rl.prompts_per_step=1",
        rewards=RewardEnsemble([Reward("luck", luck, "image")]),
    )


def train_and_go_on(
    folder: Path, make: Callable[[Path], SyncGRPOTrainer], check: Callable[[SyncGRPOTrainer], None]
) -> None:
    """Trains in a; b and c are as if it had been stopped at its first checkpoint, and b goes on from there."""
    run = make(folder / "a")
    run.train()
    check(run)
    if run.processes.main:
        shutil.copytree(folder / "a", folder / "b")
        shutil.rmtree(folder / "b" / "run" / "checkpoints" / "step_00004")
        shutil.copytree(folder / "b", folder / "c")
    run.accelerator.wait_for_everyone()
    make(folder / "b").train(resume_from_checkpoint="latest")


def one_prompt_pays() -> RewardEnsemble:
    """The second process's questions are all worth the same, so that it has nothing to replay and no backward pass."""

    def pays(*, kind: list[str], **_: Any) -> list[float]:
        return [float(one == "reason" and row % 3 == 0) for row, one in enumerate(kind)]

    return RewardEnsemble([Reward("pays", pays, "image")])


def silent_at_first() -> RewardEnsemble:
    """The first step scores nothing and is skipped."""
    calls: list[int] = []

    def pays(*, images: Tensor, **columns: Any) -> list[float] | list[None]:
        calls.append(len(images))
        return [None] * len(images) if len(calls) == 1 else bright(images=images, **columns)

    return RewardEnsemble([Reward("pays", pays, "image", 50.0)])


def check_skipped(two: Path, folder: Path) -> None:
    """A skipped step leaves neither gradients nor moves behind."""
    first, alone = torch.load(two / "skipped0.pt"), learned(folder, [], prompts=2, rewards=silent_at_first())
    for row, expected in zip(first["log"], alone["log"], strict=True):
        known = {name: value for name, value in expected.items() if value is not None}
        assert {name: row[name] for name in known} == pytest.approx(known, rel=1e-3, abs=1e-4)
    assert [row["skipped_steps"] for row in first["log"]] == [1, 1] and first["log"][1]["grad_norm"] > 1e-2
    for name, value in alone["weights"].items():
        if "k_layernorm.bias" not in name and "k_proj.bias" not in name:  # whose gradient is rounding
            assert_close(first["weights"][name], value, atol=1e-4, rtol=0)


def check_shares(run: SyncGRPOTrainer) -> None:
    """The optimizer updates and remembers this process's half of the layers alone."""
    shared = [parameter for parameter in run.trainables.body if isinstance(parameter, DTensor)]
    assert len(shared) == len(list(run.policy.showo.model.layers.parameters())) < len(run.trainables.body)
    mine = sum(parameter.to_local().numel() for parameter in shared)
    assert 0.4 < mine / sum(parameter.numel() for parameter in shared) < 0.6
    assert isinstance(run.reference, ShardedReference)
    assert all(isinstance(parameter, DTensor) for parameter in run.reference.model.showo.model.layers.parameters())
    assert run.optimizer is not None
    moments = [
        run.optimizer.state[parameter][name].to_local() for parameter in shared for name in ("exp_avg", "exp_avg_sq")
    ]
    assert sum(moment.numel() for moment in moments) == 2 * mine
    sizes = showo_sizes_of(run.policy.config, run.policy.magvit.config)
    assert sizes.in_layers == sum(parameter.numel() for parameter in shared)
    kept = [value for state in run.optimizer.state.values() for name, value in state.items() if name != "step"]
    nbytes = sum((value.to_local() if isinstance(value, DTensor) else value).nbytes for value in kept)
    assert nbytes == pytest.approx(estimate(run.config, sizes, processes=2).memory["Adam states"], rel=0.01)


def log_lines(folder: Path) -> list[dict[str, Any]]:
    return read_log(small_config(folder).run.folder)


def files(folder: Path, step: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights, the optimizer's state) of a checkpoint."""
    checkpoint = small_config(folder).run.folder / "checkpoints" / f"step_{step:05}"
    return load_file(checkpoint / "model.safetensors"), torch.load(checkpoint / "optimizer.pt", weights_only=True)[
        "state"
    ]


class Loaded(TrainerCallback):
    """What the optimizer remembers when training begins."""

    def on_train_begin(self, *_: Any, optimizer: torch.optim.Optimizer, **__: Any) -> None:
        self.states = copy.deepcopy(optimizer.state_dict()["state"])


def check_going_on(run: SyncGRPOTrainer, two: Path) -> None:
    """Weights and states are written whole, so the number of processes may change.

    Two prompts in one process are the same work.
    """
    loaded, (_, saved) = Loaded(), files(two / "c", step=2)
    run.add_callback(loaded)
    run.train(resume_from_checkpoint="latest")
    for number, state in saved.items():
        assert all(torch.equal(loaded.states[number][name], value) for name, value in state.items())
    # later draws may flip
    assert log_of(run)[2] == pytest.approx(log_lines(two / "a")[2], rel=1e-3, abs=1e-4, nan_ok=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_two(fork_server, WORKER, folder)
    return folder


def test_a_process_without_a_backward_pass_does_not_wait(two: Path, tmp_path: Path) -> None:
    first, second = (torch.load(two / f"uneven{rank}.pt") for rank in range(2))
    alone = learned(tmp_path, UNEVEN, prompts=2, rewards=one_prompt_pays())
    assert alone["log"][0]["frac_reward_zero_std"] == first["log"][0]["frac_reward_zero_std"] == 0.5
    assert max(float(gradient.abs().max()) for gradient in alone["gradients"][0]) > 1e-3
    for mine, other, expected in zip(first["gradients"][0], second["gradients"][0], alone["gradients"][0], strict=True):
        assert_close(mine, expected, atol=2e-6, rtol=1e-3)
        assert torch.equal(mine, other)


def test_a_skipped_step_leaves_nothing_behind(two: Path, tmp_path: Path) -> None:
    check_skipped(two, tmp_path)


@pytest.mark.parametrize("place", [".", "copies"])
def test_resume_equals_uninterrupted_bit_for_bit(place: str, two: Path) -> None:
    two = two / place
    assert [row["step"] for row in log_lines(two / "b")] == [1, 2, 3, 4]
    assert log_lines(two / "b") == log_lines(two / "a")
    (weights, states), (expected, remembered) = files(two / "b"), files(two / "a")
    assert weights.keys() == expected.keys() and states.keys() == remembered.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    for number, state in remembered.items():
        assert all(torch.equal(states[number][name], value) for name, value in state.items())


def test_one_process_goes_on_from_shares(two: Path) -> None:
    check_going_on(run_of(two / "c", prompts=2), two)


def test_little_that_trains_is_not_shared() -> None:
    for option, seen in (("rl.lora_rank=4", "rl.lora_rank = 4"), ("rl.learning_rate=0", "rl.learning_rate = 0")):
        with pytest.raises(ValueError, match=rf"run.sharding .*{seen} so little trains .*set run.sharding=none"):
            load_config(None, ["run.sharding=fsdp2", option])


def test_a_model_must_say_what_its_layers_are() -> None:
    with pytest.raises(ValueError, match=r"Linear._no_split_modules names none; set run.sharding=none"):
        ShardedLayers(nn.Linear(2, 2), mesh=None)  # type: ignore[arg-type]
