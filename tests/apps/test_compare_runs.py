"""Runs side by side: the same seeds, refusals that say what differs, and a page that keeps names to itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sync_r1.apps.compare import grid, open_all, read_prompts, scores, write_page
from sync_r1.cli import app
from sync_r1.config import Config, EvalConfig, save_config
from sync_r1.data import load_concept
from sync_r1.files import write_manifest
from sync_r1.run_folder import record_data
from sync_r1.session import Session
from sync_r1.unifybench.results import EvalResult, ScoredItem
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on one concept with evaluations, and one on another."""
    root = tmp_path_factory.mktemp("world")
    export_world(root, ["rex", "cleo"])
    made = []
    for seed, (name, about) in enumerate({"first": "rex", "second": "rex", "third": "cleo"}.items()):
        folder = tmp_path_factory.mktemp("runs") / name
        checkpoint = folder / "checkpoints" / "step_00001"
        config = Config()
        config.data.root, config.data.concepts = str(root), [about]
        config.eval = EvalConfig(batch_size=3, generation_timesteps=2, max_completion_length=5)
        concept = load_concept(root, about, allow_empty_facts=True)
        Session(model=tiny_model(seed, max_text_tokens=60), concept=concept).model.save_pretrained(checkpoint)
        save_config(config, checkpoint / "config.yaml")
        write_manifest(checkpoint)
        record_data(folder, root)
        items = []
        for number in range(4):
            items.append(
                ScoredItem(
                    task="vqa", id=str(number), prompt="?", input="?", prediction="", truth="", score=float(seed)
                )
            )
        EvalResult(items=items, metrics={"vqa": "exact"}).write(folder / "eval" / "after.json")
        made.append(folder)
    return made


def test_every_run_draws_the_same_prompts_and_seeds(runs: list[Path]) -> None:
    sessions = open_all(runs[:2], "cpu")
    rows = grid(sessions, ["a photo of rex", "rex in the snow"], [3, 4])
    assert [(row.prompt, row.seed) for row in rows] == [
        ("a photo of rex", 3), ("a photo of rex", 4), ("rex in the snow", 3), ("rex in the snow", 4)
    ]  # fmt: skip
    alone = Session.open(checkpoint=runs[1], device="cpu").draw("rex in the snow", seed=4)[0]
    assert rows[3].images[1].tobytes() == alone.tobytes() != rows[3].images[0].tobytes()


def test_scores_with_intervals(runs: list[Path]) -> None:
    assert scores(runs[:2]) == [{"task": "vqa", "scores": ["0.000", "1.000"], "difference": "+1.000 [+1.000, +1.000]"}]
    assert scores(runs)[0]["difference"] == "" and len(scores(runs)[0]["scores"]) == 3
    assert scores([runs[0], runs[1] / "checkpoints" / "step_00001"]) == []


def test_mistakes_are_explained(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name at least two different ones"):
        open_all([runs[0], runs[0]])
    with pytest.raises(ValueError, match="cannot be compared: the concept is 'rex' and 'cleo'"):
        open_all([runs[0], runs[2]], "cpu")
    (tmp_path / "p.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"p.txt: 0 prompts; write 1 to 100"):
        read_prompts(tmp_path / "p.txt")


def test_a_blind_page_keeps_names_to_itself(runs: list[Path], tmp_path: Path) -> None:
    rows = grid(open_all(runs[:2], "cpu"), ["rex & co"], [0, 1, 2])
    names = ["runs/first", "runs/second"]
    page = write_page(tmp_path / "open.html", names, rows, scores(runs[:2])).read_text(encoding="utf-8")
    assert 'alt="runs/first: rex &amp; co"' in page and "+1.000" in page and "rex & co" not in page
    hidden = write_page(tmp_path / "blind.html", names, rows, scores(runs[:2]), blind=True).read_text(encoding="utf-8")
    outside = re.sub(r"<details>.*?</details>", "", hidden, flags=re.DOTALL)
    assert "runs/" not in outside and "+1.000" not in outside and hidden.count("runs/first") == 3
    orders = re.findall(r"</summary>(.*?)</details>", hidden)
    assert len(orders) == 3 and len(set(orders)) == 2, "not always the same side"


def test_command(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a photo of rex\n", encoding="utf-8")
    given = ["compare", *map(str, runs[:2]), "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "c.html")]
    said = CliRunner().invoke(app, [*given, "-n", "2", "--device", "cpu"], catch_exceptions=False).output
    assert f"written  {tmp_path / 'c.html'}" in said
    assert (tmp_path / "c.html").read_text(encoding="utf-8").count("<img") == 4


def test_votes_are_asked_for_until_the_input_ends(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a photo of rex\nrex in the snow\nrex in a room\n", encoding="utf-8")
    given = ["compare", *map(str, runs[:2]), "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "c.html")]
    options = ["--vote", "--feedback", str(tmp_path / "feedback"), "--device", "cpu"]
    said = CliRunner().invoke(app, [*given, *options], input="7\n\n", catch_exceptions=False).output
    assert "'7' is no vote; write 1 to 2 for the better picture, all or none" in said
    assert "2. rex in the snow: " in said and "3. " not in said
    assert f"{runs[0]}: chosen 0 times" in said and not (tmp_path / "feedback").exists()
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        f"{row}_{place}.png" for row in (1, 2, 3) for place in (1, 2)
    ]
    assert ">runs/" not in (tmp_path / "c.html").read_text(encoding="utf-8")
