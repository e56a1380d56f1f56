"""The ensemble: weights per category, missing scores, breakdown, custom functions."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from sync_r1.rl.rewards import Reward, RewardEnsemble, build_rewards, combine, fill_gaps, standardise
from tests.rl.toys import concept

NAN = math.nan


def rollout(folder: Path, *, images: int = 1, drawn: bool = True) -> Any:
    """Two prompts of an object, two siblings each."""
    prompt = SimpleNamespace(concept=concept(folder))

    def columns(part: str) -> dict[str, Any]:
        count = 4 * (images if part == "image" else 1)
        return {"prompts": ["p"] * count, "images": torch.zeros(count, 3, 2, 2) if part == "image" else None}

    return SimpleNamespace(
        prompts=[prompt, prompt],
        group_size=2,
        images_per_text=images,
        images=torch.zeros(1) if drawn else None,
        columns=columns,
        by_text=lambda values: values.reshape(2, 2, images),
        tree=None,
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
        [
            Reward("answer", fixed(0.0, 1.0, None, 0.5), "text", 0.5),
            Reward("identity", fixed(*range(8)), "image", {"object": 2.0}),
        ]
    )
    found = rewards.score(rollout(tmp_path, images=2))
    assert_close(found.text, torch.tensor([[0.0, 0.5], [NAN, 0.25]]), equal_nan=True)
    assert_close(found.image, 2.0 * torch.arange(8.0).reshape(2, 2, 2))
    assert found.scores["identity"].shape == (2, 2, 2)
    assert found.metrics["rewards/answer/missing"] == 1 and found.metrics["rewards/answer/mean"] == 0.5
    assert found.metrics["rewards/identity/std"] == pytest.approx(torch.arange(8.0).std(correction=0).item())


def never(**_: Any) -> list[float]:
    raise AssertionError


def test_weight_0_is_only_logged_and_a_category_without_weight_not_even_asked(tmp_path: Path) -> None:
    face, dim = Reward("face", never, "image", {"person": 1.0}), Reward("dim", fixed(1, 2, 3, 4), "image", 0.0)
    rewards = RewardEnsemble([face, dim, Reward("answer", fixed(1, 2, 3, 4), "text")])
    found = rewards.score(rollout(tmp_path))
    assert not found.image.any() and "rewards/dim/mean" in found.metrics and "rewards/face/missing" not in found.metrics
    assert rewards.parts() == {"text", "image"} and rewards.parts({"object"}) == {"text"}


def test_a_group_that_no_reward_can_judge_is_unscored(tmp_path: Path) -> None:
    rewards = RewardEnsemble(
        [Reward("answer", fixed(None, NAN, 1.0, math.inf), "text"), Reward("bright", fixed(None, None, 1, 2), "image")]
    )
    found = rewards.score(rollout(tmp_path))
    assert found.text[0].isnan().all() and found.metrics["rewards/answer/missing"] == 3
    assert_close(found.image[1, :, 0], torch.tensor([1.0, 2.0]))


def test_without_pictures_image_rewards_are_not_asked(tmp_path: Path) -> None:
    rewards = RewardEnsemble([Reward("answer", fixed(1, 2, 3, 4), "text"), Reward("bright", never, "image")])
    found = rewards.score(rollout(tmp_path, drawn=False))
    assert found.image.shape == (2, 2, 1) and not found.image.any()


def test_stand_in_by_hand() -> None:
    scores = torch.tensor([[0.3, NAN, 0.5, NAN], [NAN, NAN, NAN, NAN], [0.2, NAN, 0.4, 0.6]])
    other = torch.tensor([[0.8, 0.7, 0.9, NAN], [0.1, 0.2, NAN, 0.4], [NAN, 0.9, NAN, NAN]])
    wanted = torch.tensor(
        [
            [0.3, 0.25, 0.5, NAN],  # 0.45 lower than the fallback on average where both know, so 0.7 becomes 0.25
            [0.1, 0.2, NAN, 0.4],  # none is known: the fallback's own scores
            [0.2, NAN, 0.4, 0.6],  # no sibling tells how the scales differ: still missing
        ]
    )
    assert_close(fill_gaps(scores, other), wanted, equal_nan=True)


def test_a_stand_in_never_makes_a_picture_without_a_face_the_best(tmp_path: Path) -> None:
    """CLIP-I runs high, ArcFace low: swapped in as it is, 0.79 would beat every face."""
    library: Any = {"face": (fixed(0.4, None, None, None), "image"), "identity": (fixed(0.8, 0.79, 0.6, 0.7), "image")}
    rewards = build_rewards({"face": 2.0}, library, {"face": "identity"})
    found = rewards.score(rollout(tmp_path))
    assert_close(found.image[..., 0], 2 * torch.tensor([[0.4, 0.39], [0.6, 0.7]]))
    assert found.metrics["rewards/face/missing"] == 3 and found.metrics["rewards/face/fallback"] == 3
    # what face itself said
    assert_close(found.scores["face"][..., 0], torch.tensor([[0.4, NAN], [NAN, NAN]]), equal_nan=True)
    assert found.metrics["rewards/identity/mean"] == pytest.approx(0.7225)  # logged without a weight


def test_stand_ins_stand_in_for_each_other_and_only_where_there_is_a_weight(tmp_path: Path) -> None:
    given = {"face": [None] * 4, "dino": [0.1, 0.2, None, None], "clip": [0.5] * 4, "other": [0.0] * 4}
    library: Any = {name: (fixed(*scores), "image") for name, scores in given.items()}
    found = build_rewards({"face": 1.0}, library, {"face": "dino", "dino": "clip", "clip": "other"}).score(
        rollout(tmp_path)
    )
    assert_close(found.image[..., 0], torch.tensor([[0.1, 0.2], [0.5, 0.5]]))
    assert found.metrics["rewards/face/fallback"] == 4
    people_only = build_rewards(
        {"face": {"person": 1.0}, "clip": 1.0}, {**library, "dino": (never, "image")}, {"face": "dino"}
    )
    found = people_only.score(rollout(tmp_path))  # of an object
    assert_close(found.image[..., 0], torch.full((2, 2), 0.5))
    assert not any(key.startswith(("rewards/face", "rewards/dino")) for key in found.metrics)


def test_building_from_a_library() -> None:
    library: Any = {"identity": (fixed(), "image"), "face": (fixed(), "image"), "answer": (fixed(), "text")}
    found = build_rewards({"face": 0.3, "answer": {"person": 1.0}}, library, {"face": "identity"})
    assert [(reward.name, reward.part, reward.weight) for reward in found.rewards] == [
        ("face", "image", 0.3),
        ("answer", "text", {"person": 1.0}),
        ("identity", "image", {}),
    ]
    with pytest.raises(ValueError, match="'identitty', which is no reward; did you mean identity"):
        build_rewards({"identitty": 1.0}, library)
    with pytest.raises(ValueError, match="goes in a circle: face → identity → face"):
        build_rewards({"face": 1.0}, library, {"face": "identity", "identity": "face"})


def test_standardised_rewards_count_by_weight_alone() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [1.0, math.nan, 3.0]])
    found = standardise(scores)
    assert_close(found[0], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-3, rtol=0)
    assert_close(found[1], torch.zeros(3))
    assert found[2].isnan().tolist() == [False, True, False]
    assert_close(standardise(scores * 100)[0], found[0], atol=1e-3, rtol=0)


def test_each_reward_may_be_standardised_before_the_sum(tmp_path: Path) -> None:
    big, small = ((lambda **columns: [0.0, 1.0, 0.0, 1.0]), (lambda **columns: [0.01, 0.0, 0.01, 0.0]))
    members = [Reward("big", big, "text"), Reward("small", small, "text")]
    plain = RewardEnsemble(members).score(rollout(tmp_path, drawn=False))
    assert plain.text[0, 1] > plain.text[0, 0]  # the wider one decides
    equal = RewardEnsemble(members, normalize_then_sum=True).score(rollout(tmp_path, drawn=False))
    assert_close(equal.text, torch.zeros(2, 2), atol=2e-2, rtol=0)  # equal weights, opposite opinions
    assert equal.scores["big"].tolist() == plain.scores["big"].tolist()  # what is logged stays raw
    assert RewardEnsemble(members).scale("text", "object") == 2.0
