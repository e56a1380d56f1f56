"""Twelve kills change nothing, and the comparison would see a difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")


def test_twelve_kills_change_no_bit(tmp_path: Path) -> None:
    out = tmp_path / "killtest.json"
    command = [sys.executable, "tools/killtest.py", "--kills", "12", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    assert record["kills"] == 12 and record["runs_that_differ"] == 0
    assert len(done.stdout.splitlines()) == record["interrupted_runs"] + 1
    assert sum(record["killed_while"].values()) == 12 and {run["setting"] for run in record["runs"]} == set(
        record["compared"]
    )
    for files in record["compared"].values():
        assert {
            "metrics.jsonl",
            "model.safetensors",
            "optimizer.pt",
            "scheduler.pt",
            "generators.pt",
            "sync_state.json",
        } <= set(files)


def test_a_difference_of_one_bit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import killtest

    one = {
        "metrics.jsonl": [{"step": 1, "loss": float("nan")}],
        "optimizer.pt": {"state": {0: torch.tensor([1.0, 0.0])}},
    }
    assert killtest.differences(one, {**one, "optimizer.pt": {"state": {0: torch.tensor([1.0, 0.0])}}}) == []
    assert killtest.differences(one, {**one, "optimizer.pt": {"state": {0: torch.tensor([1.0, -0.0])}}}) == [
        "optimizer.pt"
    ]
    assert killtest.differences(one, {**one, "metrics.jsonl": [{"step": 1, "loss": 0.5}]}) == ["metrics.jsonl"]
    assert killtest.differences(one, {"metrics.jsonl": one["metrics.jsonl"]}) == ["optimizer.pt"]
    assert killtest.timeless({"step": 1, "perf/save_time_s": 2.0}) == {"step": 1}
