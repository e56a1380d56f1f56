"""What is left of a study, and how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_r1.study.plan import JOINED_S, LOOKALIKES_S, plan
from sync_r1.study.study_file import Study, load_study

ARMS: dict[str, Any] = {
    "both": None,
    "longer": {"set": {"rl.max_steps": 200}},
    "texts": {"recipes": ["understanding-only"]},
    "seen": {"set": {"eval.lookalikes": True}},
    "sft": {"command": "sft", "recipes": ["sft-baseline"]},
    "sft-twice": {"command": "sft", "recipes": ["sft-baseline"], "set": {"sft.epochs": 20}},
    "joined": {"understanding": "texts", "generation": "both"},
}


def study(folder: Path) -> Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "recipes": ["world"], "cells": [["bo", 0]], "arms": ARMS}))
    return load_study(path)


def test_arms_without_cells_are_scaled_from_those_that_have_some(tmp_path: Path) -> None:
    known = [{"arm": "both", "wall_time_s": seconds} for seconds in (290.0, 310.0)]
    known.append({"arm": "sft", "wall_time_s": 120.0})
    found = {row.arm: row for row in plan(study(tmp_path), {**dict.fromkeys(ARMS, 1), "sft": 0}, known)}
    assert "sft" not in found, "nothing is left of it"
    assert found["both"].minutes == pytest.approx(5.0) and found["both"].known_from == "its cells"
    assert found["longer"].minutes == pytest.approx(10.0) and found["longer"].known_from == "both, scaled"
    assert found["texts"].minutes < 5.0
    assert found["seen"].minutes == pytest.approx(5.0 + LOOKALIKES_S / 60)
    assert found["sft-twice"].minutes == pytest.approx(4.0)
    assert found["joined"].minutes == JOINED_S / 60


def test_with_nothing_to_scale_from_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cell of study 's' with command 'train' is known; finish one first"):
        plan(study(tmp_path), {"both": 1}, [])
