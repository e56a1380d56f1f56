"""ZeRO-1 on two processes over gloo: the same learning, shares of states, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sync_r1.costs.estimate import estimate
from sync_r1.costs.model_sizes import showo_sizes_of
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.training.sharding.zero1 import ZeRO1
from tests.forked import ForkServer
from tests.rl.test_processes import learned, run_two
from tests.rl.toys import trainer
from tests.training.test_fsdp2 import FOUR, check_going_on, check_skipped, files, log_lines

CLIPPED = ["rl.scale_rewards=batch", "rl.max_grad_norm=0.1", "rl.sequences_per_backward=2"]
WORKER = """
import sys
from pathlib import Path
import torch
from tests.rl.test_processes import learned
from tests.training.test_fsdp2 import silent_at_first, train_and_go_on
from tests.training.test_zero1 import CLIPPED, check_shares, run_of

folder = Path(sys.argv[1])
found = learned(folder / "clipped", ["run.sharding=zero1", *CLIPPED], prompts=1)
torch.save(found, folder / f"clipped{found['rank']}.pt")
found = learned(folder / "skipped", ["run.sharding=zero1"], prompts=1, rewards=silent_at_first())
torch.save(found, folder / f"skipped{found['rank']}.pt")
train_and_go_on(folder, run_of, check_shares)
"""


def run_of(folder: Path, *overrides: str) -> SyncGRPOTrainer:
    return trainer(folder, *FOUR, "run.sharding=zero1", "rl.prompts_per_step=1", *overrides)


def check_shares(run: SyncGRPOTrainer) -> None:
    """The optimizer remembers half of everything that trains, give or take a parameter."""
    assert isinstance(run.sharding, ZeRO1)
    states = run.sharding.states.optim.state.values()
    moments = [value for state in states for name, value in state.items() if name != "step"]
    sizes = showo_sizes_of(run.policy.config, run.policy.magvit.config)
    expected = estimate(run.config, sizes, processes=2).memory["Adam states"]
    assert sum(value.nbytes for value in moments) == pytest.approx(expected, rel=0.1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_two(fork_server, WORKER, folder)
    return folder


def test_shared_states_learn_what_one_process_does(two: Path, tmp_path: Path) -> None:
    first, second = (torch.load(two / f"clipped{rank}.pt") for rank in range(2))
    alone = learned(tmp_path, CLIPPED, prompts=2)
    for row, expected in zip(first["log"], alone["log"], strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    for name, value in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), f"{name} drifted apart"
        if "k_layernorm.bias" not in name and "k_proj.bias" not in name:  # whose gradient is rounding
            assert_close(first["weights"][name], value, atol=1e-4, rtol=0)


def test_a_skipped_step_leaves_nothing_behind(two: Path, tmp_path: Path) -> None:
    check_skipped(two, tmp_path)


def test_resume_equals_uninterrupted_bit_for_bit(two: Path) -> None:
    assert [row["step"] for row in log_lines(two / "b")] == [1, 2, 3, 4]
    assert log_lines(two / "b") == log_lines(two / "a")
    (weights, states), (expected, remembered) = files(two / "b"), files(two / "a")
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert states.keys() == remembered.keys()
    for number, state in remembered.items():
        assert all(torch.equal(states[number][name], value) for name, value in state.items())


def test_one_process_goes_on_from_shares(two: Path) -> None:
    check_going_on(run_of(two / "c", "rl.prompts_per_step=2"), two)
