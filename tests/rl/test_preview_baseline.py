"""A picture's own previews: what they show, and training that compares its reward with what they promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sync_r1.rl.advantages import step_advantages
from sync_r1.types import Sampling
from tests.helpers import tiny_model
from tests.rl.toys import log_of, same, trainer, weights

SAMPLING = Sampling(generation_timesteps=4)


def test_a_fill_is_the_likeliest_code_of_the_state_before_the_step() -> None:
    model, prompts = tiny_model(), ["a hat", "a mug"]
    trace = model.generate_image(prompts, SAMPLING, seeds=[1, 2])
    for step in range(4):
        state = model.generate_image(prompts, SAMPLING, seeds=[1, 2], stop_at=step)
        known, fill = state.known_before(step), trace.likely(step)
        assert torch.equal(fill[known], state.tokens[known])
        # one more step that takes the likeliest code everywhere commits codes of the fill only
        greedy = Sampling(generation_timesteps=4, top_k=1, choice_temperature=0.0)
        following = model.generate_image(prompts, greedy, None, state=state, stop_at=step + 1)
        committed = following.known_before(step + 1)
        assert torch.equal(following.tokens[committed], fill[committed])
    assert trace.select([1]).likely(2).tolist() == trace.likely(2)[1:].tolist()


def test_a_resumed_drawing_keeps_its_fills() -> None:
    model, prompts = tiny_model(), ["a hat", "a mug"]
    whole = model.generate_image(prompts, SAMPLING, seeds=[1, 2])
    half = model.generate_image(prompts, SAMPLING, seeds=[1, 2], stop_at=2)
    again = model.generate_image(prompts, SAMPLING, None, state=half)
    assert whole.fills is not None and again.fills is not None and torch.equal(whole.fills, again.fills)
    assert whole.fills.shape == (2, 4, model.num_image_tokens)


def test_previews_show_what_is_likeliest_unless_asked_for_samples() -> None:
    model = tiny_model()
    half = model.generate_image(["a hat"], SAMPLING, seeds=[1], stop_at=2)
    known = half.known_before(2)
    expected = torch.where(known, half.tokens, half.likely(1))
    assert torch.equal(model.preview(half), model.decode_image(expected))
    assert torch.equal(model.preview(half, "sampled"), model.decode_image(half.tokens))
    done = model.generate_image(["a hat"], SAMPLING, None, state=half)
    assert torch.equal(model.preview(done), model.decode_image(done.tokens))


def test_every_replayed_step_is_told_what_its_own_state_did_not_promise(tmp_path: Path) -> None:
    run = trainer(tmp_path, "rl.image_baseline=previews", "rl.train_timesteps=2", "rl.timestep_sampling=late")
    rollout = run.roll_out()
    scores = run.score(rollout)
    credit = run.step_credit(rollout, scores, run.advantage(rollout, scores))
    assert credit.steps is not None and len(credit.steps) == 2 and 3 in credit.steps and rollout.trace is not None
    for step, told in credit.steps.items():
        images = run.policy.decode_image(rollout.trace.likely(step))
        promised = 5.0 * images.float().mean(dim=(1, 2, 3)) / 255
        expected = step_advantages(scores.image, promised.reshape(scores.image.shape), credit.scale)
        torch.testing.assert_close(told, expected)
        assert not torch.allclose(told, credit.image)


def test_training_with_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    options = ["rl.image_baseline=previews", "rl.num_iterations=2", "rl.dgs_enabled=true", "rl.dgs_preview_fill=likely"]
    whole = trainer(tmp_path / "whole", *options, "rl.max_steps=4", "run.save_steps=4")
    whole.train()
    trainer(tmp_path / "parts", *options, "rl.max_steps=4", "run.save_steps=2").train()
    again = trainer(tmp_path / "parts", *options, "rl.max_steps=4", "run.save_steps=2")
    again.train(resume_from_checkpoint=tmp_path / "parts" / "run" / "checkpoints" / "step_00002")
    assert same(weights(whole.policy), weights(again.policy))
    assert log_of(whole)[0]["image/ratio_mean"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rl.credit=shared"], "a preview says nothing about the text's reward"),
        (["rl.multi_objective_aggregation=normalize_then_sum"], "it compares rewards as they are"),
    ],
)
def test_combinations_without_meaning_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, "rl.image_baseline=previews", *options)


def test_a_family_that_foretells_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path, "rl.image_baseline=previews")
    roll_out = run.roll_out

    def in_one_order() -> Any:
        rollout = roll_out()
        assert rollout.trace is not None
        rollout.trace.fills = None
        return rollout

    monkeypatch.setattr(run, "roll_out", in_one_order)
    with pytest.raises(ValueError, match=r"draws in one order .* set rl.image_baseline=group"):
        run.train()
