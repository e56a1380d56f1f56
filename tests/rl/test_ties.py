"""Texts are drawn only where one evaluation of their drawing prompts does not tell them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sync_r1.config import load_config
from sync_r1.recipes import apply_recipes
from sync_r1.rl.advantages import finished_or_promised
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer_setup import check_setup
from sync_r1.rl.tree import TieScaling
from tests.rl.toys import bright, log_of, same, trainer, weights

NAN = float("nan")
OPTIONS = ["rl.dgs_enabled=true", "rl.dgs_keep=ties", "rl.images_per_text=2", "rl.dgs_preview_step=3"]


def test_the_first_text_of_every_tied_drawing_prompt_is_drawn() -> None:
    scaling = TieScaling(2, 6, tie_below=0.1)
    groups = [["a", "b", "a", "c"], ["a", "a", "a", "a"], ["a", "b", "b", "c"], ["a", "b", "a", "b"]]
    promised = [0.50, 0.55, 0.50, 0.90, *[0.5] * 4, 0.1, 0.5, 0.5, 0.9, NAN, 0.3, NAN, 0.3]
    assert scaling.ties(groups, promised) == [[0, 1], [], [], [0, 1]]


def test_a_text_is_worth_its_finished_pictures_and_else_its_promise() -> None:
    """Texts 0 and 2 ask for the same picture, which was drawn once, with rewards 0.2 and 0.6."""
    images = torch.tensor([[[0.2, 0.6], [NAN, NAN], [NAN, NAN], [1.0, NAN]]])
    promised = torch.tensor([[0.9, 0.7, 0.9, 0.1]])
    found = finished_or_promised(images, promised, torch.tensor([[0, 1, 0, 3]]))
    assert_close(found, torch.tensor([[0.4, 0.7, 0.4, 1.0]]))


def run_of(folder: Path, tie_below: float) -> list[dict[str, float]]:
    rewards = RewardEnsemble([Reward("bright", bright, "image", 1.0)])
    options = [*OPTIONS, f"rl.dgs_tie_below={tie_below}", "rl.optimise=both"]
    run = trainer(folder, *options, rewards=rewards)
    run.train()
    return log_of(run)


def test_a_run_spends_evaluations_on_ties_only(tmp_path: Path) -> None:
    rows = run_of(tmp_path / "none", 0.0)  # no two are closer than that
    assert all(row["dgs/texts_drawn"] == 0 and row["dgs/nfe"] == row["dgs/nfe_previews"] > 0 for row in rows)
    assert all("image/reward" not in row and row["skipped_steps"] == 0 for row in rows)
    rows = run_of(tmp_path / "all", 2.0)
    for row in rows:
        trunks = row["dgs/texts_drawn"]
        assert trunks == row["dgs/nfe_previews"] > 1, "every distinct drawing prompt"
        assert (row["dgs/nfe_trunks"], row["dgs/nfe_leaves"]) == (3 * trunks, 2 * trunks)


def test_previews_need_a_score_and_pictures_to_compare(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rl\.images_per_text is 1; with rl\.dgs_keep=ties it must be at least 2"):
        load_config(None, [*OPTIONS, "rl.images_per_text=1"])
    run = trainer(tmp_path, *OPTIONS)
    with pytest.raises(ValueError, match="needs a preview score"):
        check_setup(run.config.rl, run.prompts, run.rewards, None)


def test_the_recipe_teaches_texts_from_previews() -> None:
    rl = apply_recipes(["demo", "label-free-previews"]).rl
    assert (rl.dgs_keep, rl.images_per_text, rl.dgs_preview_step, rl.draw_every) == ("ties", 2, 6, 1)
    assert set(rl.reward_weights) == {"faithfulness"} and rl.grows_trees


def test_a_judge_that_is_away_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    away = RewardEnsemble([Reward("away", lambda images, **_: [None] * len(images), "image", 1.0)])
    run = trainer(tmp_path, *OPTIONS, "rl.max_steps=1", "run.save_steps=1", rewards=away)
    before = weights(run.policy)
    run.train()
    assert log_of(run)[0]["skipped_steps"] == 1 and same(before, weights(run.policy))
