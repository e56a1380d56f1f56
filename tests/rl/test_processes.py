"""Two processes with one prompt each learn what one process learns from both prompts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.rl.toys import log_of, trainer, weights

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.rl.toys import trainer, weights
run = trainer(Path(sys.argv[1]), *sys.argv[2:])
run.train()
save_file(weights(run.policy), Path(sys.argv[1]) / f"rank{run.accelerator.process_index}.safetensors")
"""


def test_gradients_are_averaged_over_processes(tmp_path: Path) -> None:
    settings = ["rl.scale_rewards=batch", "rl.max_grad_norm=0.1"]  # both depend on what the other process saw
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script), str(tmp_path / "two")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launch, *settings, "rl.prompts_per_step=1"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} drifted apart"

    alone = trainer(tmp_path / "one", *settings, "rl.prompts_per_step=2")
    before = weights(alone.policy)
    alone.train()
    for name, value in weights(alone.policy).items():
        # an update moves a weight by up to 1e-3; Adam turns rounding of gradients that are truly 0 into small moves
        assert_close(first[name], value, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    assert any(not torch.equal(value, before[name]) for name, value in first.items())
    two = trainer(tmp_path / "two", *settings)
    assert [row["step"] for row in log_of(two)] == [1, 2]
    assert [row["reward"] for row in log_of(two)] == pytest.approx([row["reward"] for row in log_of(alone)], rel=1e-3)
