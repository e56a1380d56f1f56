"""The ensemble: weights per category, missing scores, breakdown, custom functions."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from sync_r1.config import RewardConfig
from sync_r1.rl.rewards import Reward, RewardEnsemble, blend, build_rewards, combine, load_function
from tests.rl.toys import concept

NAN = math.nan


def rollout(folder: Path, *, images: int = 1, drawn: bool = True) -> Any:
    """Two prompts of an object, two siblings each."""
    task = SimpleNamespace(concept=concept(folder))

    def columns(part: str) -> dict[str, Any]:
        count = 4 * (images if part == "image" else 1)
        return {"prompts": ["p"] * count, "images": torch.zeros(count, 3, 2, 2) if part == "image" else None}

    return SimpleNamespace(
        tasks=[task, task], group_size=2, images_per_text=images, images=torch.zeros(1) if drawn else None, columns=columns
    )


def fixed(*values: float | None) -> Any:
    return lambda **_: list(values)


def test_combine_by_hand() -> None:
    scores = torch.tensor([[[1.0, NAN, 3.0]], [[0.0, 1.0, 0.5]]])
    total, judged = combine(scores, torch.tensor([[2.0], [1.0]]))
    assert_close(total, torch.tensor([[2.0, 5.0, 6.5]]))  # the missing score counts as its siblings' mean, 2
    assert judged.tolist() == [True]


def test_combine_where_a_reward_does_not_apply_or_everything_is_missing() -> None:
    scores = torch.tensor([[[NAN, NAN], [1.0, NAN]], [[0.5, 1.0], [NAN, NAN]]])
    total, judged = combine(scores, torch.ones(2, 2))
    assert_close(total, torch.tensor([[0.5, 1.0], [1.0, NAN]]), equal_nan=True)
    assert judged.tolist() == [True, True]
    total, judged = combine(scores, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert_close(total[0], torch.zeros(2))  # the only weighted reward does not apply to this prompt
    assert judged.tolist() == [False, True]


def test_breakdown_and_statistics(tmp_path: Path) -> None:
    rewards = RewardEnsemble(
        [Reward("answer", fixed(0.0, 1.0, None, 0.5), "text", 0.5), Reward("identity", fixed(*range(8)), "image", {"object": 2.0})]
    )
    found = rewards.score(rollout(tmp_path, images=2))
    assert_close(found.text, torch.tensor([[0.0, 0.5], [NAN, 0.25]]), equal_nan=True)
    assert_close(found.image, 2.0 * torch.arange(8.0).reshape(2, 2, 2))
    assert found.scores["identity"].shape == (2, 2, 2)
    assert found.metrics["rewards/answer/missing"] == 1 and found.metrics["rewards/answer/mean"] == 0.5
    assert found.metrics["rewards/identity/std"] == pytest.approx(torch.arange(8.0).std(correction=0).item())


def test_a_category_without_weight_is_only_logged(tmp_path: Path) -> None:
    rewards = RewardEnsemble([Reward("face", fixed(1, 2, 3, 4), "image", {"person": 1.0}), Reward("text", fixed(1, 2, 3, 4), "text")])
    found = rewards.score(rollout(tmp_path))
    assert not found.image.any() and "rewards/face/mean" in found.metrics
    assert rewards.parts() == {"text", "image"}


def test_a_group_that_nobody_can_judge_is_unscored(tmp_path: Path) -> None:
    rewards = RewardEnsemble(
        [Reward("answer", fixed(None, NAN, 1.0, math.inf), "text"), Reward("bright", fixed(None, None, 1, 2), "image")]
    )
    found = rewards.score(rollout(tmp_path))
    assert found.text[0].isnan().all() and found.metrics["rewards/answer/missing"] == 3
    assert_close(found.image[1, :, 0], torch.tensor([1.0, 2.0]))


def test_without_pictures_image_rewards_are_not_asked(tmp_path: Path) -> None:
    def never(**_: Any) -> list[float]:
        raise AssertionError

    rewards = RewardEnsemble([Reward("answer", fixed(1, 2, 3, 4), "text"), Reward("bright", never, "image")])
    found = rewards.score(rollout(tmp_path, drawn=False))
    assert found.image.shape == (2, 2, 1) and not found.image.any()


def test_the_number_of_scores_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'answer' returned 1 scores for 4 trajectories"):
        RewardEnsemble([Reward("answer", fixed(1), "text")]).score(rollout(tmp_path))


def test_building_from_a_configuration() -> None:
    library = {"identity": (fixed(), "image")}
    found = build_rewards({"identity": 0.3, "root": 1.0}, library, {"root": RewardConfig(function="math.sqrt", part="text")})  # type: ignore[arg-type]
    assert [(reward.name, reward.part, reward.weight) for reward in found.rewards] == [("identity", "image", 0.3), ("root", "text", 1.0)]
    assert found.rewards[1].function is math.sqrt
    with pytest.raises(ValueError, match="'identitty', which is no reward; did you mean identity"):
        build_rewards({"identitty": 1.0}, library)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "said"), [("no_such_module.f", "cannot be imported"), ("math.no", "cannot be imported"), ("math.pi", "float")]
)
def test_dotted_paths_that_lead_nowhere(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_function(path)


def test_blend() -> None:
    score = blend(fixed(1.0, None, 0.5, None), fixed(0.0, 0.4, math.nan, None), 0.65)
    assert list(score()) == [pytest.approx(0.65), 0.4, 0.5, None]
