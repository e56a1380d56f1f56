"""The data card counts what was exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sync_r1.data import load_concept
from sync_r1.unifybench.tasks import TASKS, build_items
from sync_r1.world.card import data_card, write_card
from sync_r1.world.export import export_world


def test_counts_are_those_of_the_export(tmp_path: Path) -> None:
    export_world(tmp_path, ["bo", "ana"])
    path = write_card(tmp_path)
    assert path == tmp_path / "README.md"
    text = path.read_text()
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (
        fields["license"] == "apache-2.0"
        and "text-to-image" in fields["task_categories"]
        and fields["size_categories"] == ["n<1K"]
    )
    items = [item for name in ("bo", "ana") for item in build_items(load_concept(tmp_path, name), root=tmp_path)]
    for task in TASKS:
        count = sum(item.task == task for item in items)
        assert any(line.startswith(f"| {task} |") and line.endswith(f"| {count} |") for line in body.splitlines())
    assert f"| test prompts, nine tasks | {len(items)} |" in body and "| hard negatives | 40 | 20 |" in body
    assert "UnifyBench++" in body and "2605.10445" in body and "Apache License 2.0" in body
    (tmp_path / "concept/train/bo/negative_example/19.png").unlink()
    assert "| hard negatives | 39 | 19–20 |" in data_card(tmp_path)


def test_a_readme_of_your_own_stays(tmp_path: Path) -> None:
    export_world(tmp_path, ["bo"])
    (tmp_path / "README.md").write_text("mine\n")
    assert write_card(tmp_path) is None and (tmp_path / "README.md").read_text() == "mine\n"


def test_no_concept_of_the_world(tmp_path: Path) -> None:
    export_world(tmp_path, ["bo"])
    (tmp_path / "concept/train/bo/info.json").unlink()
    with pytest.raises(ValueError, match="holds no concept of the world; write some with"):
        data_card(tmp_path)
