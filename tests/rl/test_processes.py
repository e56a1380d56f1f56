"""Two processes with one prompt each learn what one process learns from both prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sync_r1.training.sharding.fsdp2 import whole
from tests.forked import ForkServer
from tests.rl.toys import log_of, model_with_concept, small_config, trainer, weights

CASES = {
    # both of the first depend on what the other process saw; unequal token counts; one threshold
    "batch": ["rl.scale_rewards=batch", "rl.max_grad_norm=0.1"],
    "bnpo": [
        "rl.loss_type=bnpo",
        "rl.dgs_enabled=true",
        "rl.dgs_rate=0.5",
        "rl.images_per_text=2",
        "rl.entropy_coef=0.01",
    ],
    "sharded": ["run.sharding=fsdp2", "rl.scale_rewards=batch", "rl.max_grad_norm=0.1", "rl.sequences_per_backward=2"],
    "sharded, with a second model": [
        "run.sharding=fsdp2",
        "rl.beta=0.05",
        "rl.gradient_checkpointing=true",
        "rl.num_iterations=2",
    ],
    "closed": ["rl.closed_loss=log"],
    "previews": ["rl.image_baseline=previews", "rl.scale_rewards=batch", "rl.timestep_sampling=late"],
    "tree": [
        "rl.dgs_enabled=true",
        "rl.dgs_keep=tree",
        "rl.images_per_text=2",
        "rl.image_baseline=previews",
        "rl.scale_rewards=batch",
    ],
    "grpo": ["rl.loss_type=grpo", "rl.dgs_enabled=true", "rl.dgs_keep=spread", "rl.beta=0.05"],
}
WORKER = """
import sys
from pathlib import Path
import torch
from tests.rl.test_processes import CASES, learned
for name in CASES:
    found = learned(Path(sys.argv[1]) / name, CASES[name], prompts=1)
    torch.save(found, Path(sys.argv[1]) / f"{name}{found['rank']}.pt")
"""


def learned(folder: Path, options: list[str], prompts: int, **extra: Any) -> dict[str, Any]:
    """Train, and say what was seen on the way: gradients after every update, the threshold, the final weights."""
    model = model_with_concept()
    model.showo.lm_head.bias.data[model.config.eos_id] += 5.0  # texts of different lengths
    closed = f"rl.closed_prompts_per_step={2 * prompts}"
    run = trainer(folder, *options, f"rl.prompts_per_step={prompts}", closed, model=model, **extra)
    gradients: list[list[Tensor]] = []
    update = run.update

    def watched(loss: Tensor) -> Tensor:
        result = update(loss)
        gradients.append(
            [whole(torch.zeros_like(p) if p.grad is None else p.grad).clone() for p in run.trainables.parameters()]
        )
        return result

    run.update = watched  # type: ignore[method-assign]
    run.train()
    state = run.sampler.scaling.state_dict()
    learned = {name: whole(value) for name, value in weights(run.policy).items()}
    found = {"rank": run.processes.index, "gradients": gradients, "scaling": state, "weights": learned}
    assert run.experience is not None
    return {
        **found,
        "tokens": int(run.experience.rollout.completions.mask.sum()),
        "nfe": run.sync_state.nfe,
        "log": log_of(run),
    }


def flat(state: dict[str, Any]) -> list[float]:
    threshold = state.get("threshold", {"value": 0.0, "history": list(state.get("spreads", {}).values())})
    return [threshold["value"], *threshold["history"]]


def run_two(server: ForkServer, script: str, folder: Path) -> None:
    """Run a script, given as its text, in two processes; its argument is the folder."""
    file = folder / "worker.py"
    file.write_text(script)
    server.run_two(file, str(folder))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_two(fork_server, WORKER, folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does(case: str, two: Path, tmp_path: Path) -> None:
    first, second = (torch.load(two / f"{case}{rank}.pt") for rank in range(2))
    assert first["scaling"] == second["scaling"] and first["nfe"] == second["nfe"]
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), f"{name} drifted apart"

    alone = learned(tmp_path, CASES[case], prompts=2)
    assert [row["step"] for row in first["log"]] == [1, 2]
    for row, expected in zip(first["log"], alone["log"]):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    assert first["tokens"] != second["tokens"], (
        "normalising each process's tokens by themselves would make a difference"
    )
    assert first["nfe"] == alone["nfe"]
    assert flat(first["scaling"]) == pytest.approx(flat(alone["scaling"]), abs=1e-5)
    assert len(first["gradients"]) == 2
    for mine, expected in zip(first["gradients"][0], alone["gradients"][0]):
        assert_close(mine, expected, atol=2e-6, rtol=1e-3)
    assert max(float(gradient.abs().max()) for gradient in alone["gradients"][0]) > 1e-3
    for name, value in alone["weights"].items():
        if "k_layernorm.bias" in name or "k_proj.bias" in name:
            continue  # adds the same to all scores of a softmax: its gradient is rounding, which Adam turns into moves
        # an update moves a weight by up to 1e-3
        assert_close(first["weights"][name], value, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_the_groups_of_all_processes_are_written_once(two: Path, tmp_path: Path) -> None:
    run = small_config(two / "bnpo").run.folder
    learned(tmp_path, CASES["bnpo"], prompts=2)
    folders = (run, small_config(tmp_path).run.folder)
    written = [parquet.read_table(folder / "trajectories" / "step_00001.parquet").to_pylist() for folder in folders]
    assert {row["prompt_index"] for row in written[0]} == {0, 1}
    for mine, expected in zip(*written, strict=True):
        for name, value in expected.items():
            assert mine[name] == (pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value), name
        assert mine["image"] is None or (run / "trajectories" / "images" / mine["image"]).is_file()
