"""Hostile inputs, the same ones on every run: each is refused with a clear error or read in full, and nothing around
it changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.checkpoint_target import CheckpointTarget
from tests.fuzz.config_target import ConfigTarget
from tests.fuzz.data_target import DataTarget
from tests.fuzz.judge_target import JudgeTarget
from tests.fuzz.model_target import ModelTarget

INPUTS: dict[type, int] = {DataTarget: 250, ConfigTarget: 250, JudgeTarget: 250, ModelTarget: 250, CheckpointTarget: 40}


def test_there_are_a_thousand() -> None:
    assert sum(INPUTS.values()) >= 1000


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.name)
def test_hostile_inputs_end_in_a_clear_error(kind: type, tmp_path: Path) -> None:
    target, refused = kind(tmp_path), []

    @settings(
        max_examples=INPUTS[kind],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32 - 1))
    def one(seed: int) -> None:
        refused.append(target.run(random.Random(seed)))

    one()
    print(f"{kind.name}: {len(refused)} inputs, {sum(refused)} refused")
    assert len(refused) >= INPUTS[kind] and sum(refused) >= len(refused) / 2, "most inputs must be hostile"
