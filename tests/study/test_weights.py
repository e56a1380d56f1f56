"""Cells are of the weights they were made with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_r1.recipes import apply_recipes
from sync_r1.study import study_file
from sync_r1.study.study_file import fingerprint
from sync_r1.study.weights import world_weights


def test_other_weights_make_cells_stale_and_a_new_card_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"model/model.safetensors": "0", "card.json": "1"}

    def manifest(**hashes: str) -> str:
        files = {name: {"sha256": hashes.get(key, "")} for name, key in zip(names, ("weights", "card"), strict=True)}
        (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
        return world_weights(tmp_path)

    first = manifest(weights="a", card="x")
    assert first and manifest(weights="a", card="y") == first != manifest(weights="b", card="y")
    assert world_weights(tmp_path / "nowhere") == ""
    config = apply_recipes(["world"])
    monkeypatch.setattr(study_file, "world_weights", lambda: "")
    known = fingerprint(config)
    monkeypatch.setattr(study_file, "world_weights", lambda: first)
    assert fingerprint(config) != known
    config.data.root = "elsewhere"
    other = fingerprint(config)
    monkeypatch.setattr(study_file, "world_weights", lambda: "")
    assert fingerprint(config) == other, "the embedded world's weights have no part in this run"


def test_watching_a_run_does_not_make_it_another_one() -> None:
    config = apply_recipes(["world"])
    known = fingerprint(config)
    config.rl.test_prompts, config.rl.test_drawings = 24, 2
    assert fingerprint(config) == known
    config.rl.validation_steps += 1
    assert fingerprint(config) != known
