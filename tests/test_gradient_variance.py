"""The benchmark of the gradient's variance measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sync_r1.study.variance import variance_ratio
from tests.helpers import benchmark

variance = benchmark("gradient_variance")


def test_sketches_keep_inner_products() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5000, generator=generator)
    second += first
    sketches = [variance.CountSketch(5000, 512, seed) for seed in range(60)]
    found = torch.tensor([float(sketch(first) @ sketch(second)) for sketch in sketches])
    assert found.mean() == pytest.approx(float(first @ second), rel=0.02)


def test_the_trace_is_the_covariance_s_by_hand() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    weights = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    estimates = weights @ gradients
    expected = float(torch.cov(estimates.T).trace())
    assert variance.trace_of_covariance(weights, gradients @ gradients.T) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("late", [0, 2])
def test_replayed_steps_weigh_one_on_average(late: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = variance.replay_weights(8, late, 3000, generator)
    torch.testing.assert_close(weights.mean(0), torch.ones(8), atol=0.1, rtol=0)
    assert (weights > 0).sum(1).eq(4).all() and (weights[:, 8 - late :] == 1).all()


def pool(rewards: torch.Tensor, previews: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Trajectories of 8 steps whose other leaves are worth what the first is worth, and a little more or less."""
    count = len(rewards)
    spread = torch.tensor([0.0, 0.1, -0.1, 0.05])
    return {
        "rewards": rewards,
        "previews": previews,
        "leaves": rewards[:, None] + spread,
        "leaf_previews": previews[:, None, variance.BRANCH :].expand(count, 4, 2),
        "body": torch.randn(count, 8, 16, generator=generator),
        "body_leaves": torch.randn(count, 3, 2, 16, generator=generator),
    }


def test_previews_that_foretell_the_reward_remove_the_noise_and_blind_ones_change_nothing() -> None:
    """Eighteen trajectories of eight steps, of which the later half's previews know the reward."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(18, generator=generator)
    blind = torch.full((18, 8), 0.5)
    knowing = blind.clone()
    knowing[:, 4:] = rewards[:, None]
    ratio = [variance.ratios([pool(rewards, previews, generator)], "body", 300, 2) for previews in (blind, knowing)]
    plain, own = "group mean, all steps", "own previews, all steps"
    assert ratio[0][own]["ratio"] == pytest.approx(ratio[0][plain]["ratio"])
    assert ratio[1][own]["ratio"] < 0.65 * ratio[1][plain]["ratio"]
    assert ratio[0][variance.BASE]["ratio"] == 1.0


def test_half_a_group_is_as_noisy_per_evaluation() -> None:
    generator = torch.Generator().manual_seed(0)
    made = pool(torch.rand(60, generator=generator), torch.full((60, 8), 0.5), generator)
    found = variance.ratios([made], "body", 800, 1)[variance.PLAIN_SMALL]
    # half of the cost for (1/4)·(4/3) of the noise instead of (1/8)·(8/7): the mean of the others is noise as well
    assert found["ratio"] == pytest.approx(7 / 6, abs=0.12)
    assert [variance.evaluations(name, 8) for name in (variance.BASE, variance.PLAIN_SMALL)] == [64, 32]
    assert variance.evaluations(next(iter(variance.TREES)), 8) == 8 + 2 * (6 + 4 * 2)
    assert variance.evaluations(variance.FILTER, 8) == 16 * 2 + 8 * 6


def test_the_tree_has_no_bias_and_the_filter_has() -> None:
    """The mean over many estimates of what each trajectory is told: plain drawing's, but for the filter."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(20, generator=generator)
    previews = torch.full((20, 8), 0.5)
    previews[:, variance.PREVIEW] = rewards  # which foretells everything, for the filter; the tree uses it as well
    made = pool(rewards, previews, generator)
    expected = (rewards - rewards.mean()) / 20 * 20 / 19
    plain = weights_of_trunks(variance.draw_weights("group mean, all steps", made, 2000, generator))
    tree = weights_of_trunks(variance.draw_weights(list(variance.TREES)[2], made, 2000, generator))
    kept = weights_of_trunks(variance.draw_weights(variance.FILTER, made, 2000, generator))
    torch.testing.assert_close(plain, expected, atol=0.004, rtol=0.1)
    assert torch.corrcoef(torch.stack([tree, expected]))[0, 1] > 0.95
    assert float(tree @ expected / (expected @ expected)) == pytest.approx(1.0, abs=0.2)
    assert kept[rewards.argsort()[:6]].abs().max() < 0.001, "the worst previews are never finished"


def weights_of_trunks(weights: torch.Tensor) -> torch.Tensor:
    """[n] mean weight of the steps before the branch, of [D, N] weights of 20 trajectories of 8 steps."""
    return weights[:, : 20 * 8].view(-1, 20, 8)[:, :, : variance.BRANCH].mean((0, 2))


def test_a_stopped_measurement_goes_on_prompt_by_prompt_and_concept_by_concept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn: list[tuple[str, int]] = []

    class Session:
        def __init__(self, concept: str) -> None:
            self.concept, self.model = concept, None

    class Measurer:
        def __init__(self, session: Session, *rest: object) -> None:
            self.concept = session.concept

        def pool(self, prompt: object, number: int) -> dict[str, torch.Tensor]:
            drawn.append((self.concept, number))
            if self.concept == "b" and number == 1 and drawn.count(("b", 1)) == 1:
                raise KeyboardInterrupt
            made = pool(torch.rand(18, generator=generator), torch.rand(18, 8, generator=generator), generator)
            return {**made, "rows": made["body"], "rows_leaves": made["body_leaves"]}

    monkeypatch.setattr(variance, "Measurer", Measurer)
    monkeypatch.setattr(variance, "open_policy", lambda concept, *rest: (None, Session(concept)))
    monkeypatch.setattr(variance, "session_prompts", lambda session: [])
    monkeypatch.setattr(variance, "prompt_stream", lambda prompts, count, **rest: [None] * count)
    arguments = ["x", "--concepts", "a", "b", "--prompts", "2", "--trajectories", "18", "--draws", "60"]
    arguments += ["--bootstrap", "2", "--folder", str(tmp_path / "runs"), "--out", str(tmp_path / "found.json")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(KeyboardInterrupt):
        variance.main()
    variance.main()
    assert drawn == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 1)]
    assert "a, start: measured already" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["policies"]) == ["a, start", "b, start"]
    traces = found["policies"]["a, start"]["rows"][variance.BASE]["traces"]
    assert len(traces) == 2 and all(value > 0 for value in traces)
    ratio = variance_ratio(found, "tree", "plain", "variance/rows/start")
    assert ratio[1] <= ratio[0] <= ratio[2] and ratio[3] == ["a", "b"]
