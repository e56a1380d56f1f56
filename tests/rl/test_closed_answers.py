"""Questions that yes or no answers are learned by their exact gradient."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sync_r1.config import load_config
from sync_r1.rl.closed_answers import closed_loss
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.scorers.text import split_decision
from sync_r1.training.answers import answer_ids, option_logps
from sync_r1.types import Sampling, TextContext
from tests.helpers import tiny_model
from tests.rl.toys import log_of, same, trainer, weights


def test_losses_by_hand() -> None:
    logps = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log().requires_grad_()
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected, figures = closed_loss(logps, rewards, "expected")
    assert expected.item() == pytest.approx(-0.75) and figures["closed/reward"] == pytest.approx(0.75)
    assert figures["closed/accuracy"] == 1.0 and figures["closed/first"] == 0.5
    log, _ = closed_loss(logps, rewards, "log")
    assert log.item() == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2)
    graded, figures = closed_loss(logps, torch.tensor([[0.5, 1.5], [0.0, 0.0]]), "log")
    assert graded.item() == pytest.approx(-(0.25 * math.log(0.8) + 0.75 * math.log(0.2)) / 2)
    assert figures["closed/accuracy"] == 0.5


def test_token_loss_is_supervised_training_on_the_rewarded_answer() -> None:
    """It counts what else could be written; the two answers alone decide the figures."""
    logps = torch.tensor([[0.1, 0.3], [0.2, 0.2]]).log().requires_grad_()
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, figures = closed_loss(logps, rewards, "tokens")
    assert loss.item() == pytest.approx(-(math.log(0.1) + math.log(0.2)) / 2)
    assert figures["closed/reward"] == pytest.approx((0.25 + 0.5) / 2) and figures["closed/accuracy"] == 0.0
    loss.backward()
    assert logps.grad is not None and logps.grad.tolist() == [[-0.5, 0.0], [0.0, -0.5]]


def test_expected_loss_has_the_policy_gradient_of_infinitely_many_samples() -> None:
    """∂/∂z of −Σ p·r is −Σ p_a·(r_a − J)·∂log p_a/∂z, which group sampling estimates."""
    logits = torch.tensor([[0.4, -1.0]], requires_grad=True)
    rewards = torch.tensor([[1.0, 0.0]])
    closed_loss(logits.log_softmax(1), rewards, "expected")[0].backward()
    chances = logits.detach().softmax(1)
    advantage = rewards - (chances * rewards).sum()
    torch.testing.assert_close(logits.grad, -chances * advantage)


def test_log_loss_does_not_fade_where_the_right_answer_is_unlikely() -> None:
    sizes = {}
    for kind in ("log", "expected"):
        logits = torch.tensor([[-9.0, 9.0]], requires_grad=True)
        closed_loss(logits.log_softmax(1), torch.tensor([[1.0, 0.0]]), kind)[0].backward()  # type: ignore[arg-type]
        assert logits.grad is not None
        sizes[kind] = logits.grad.abs().max().item()
    assert sizes["log"] > 0.99 and sizes["expected"] < 1e-6


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red dog with a star. no", ("a red dog with a star.", "no")),
        ("Yes.", ("", "yes")),
        ("no", ("", "no")),
        ("a red dog", ("", None)),
        ("a dog with no mark", ("", None)),
        ("", ("", None)),
    ],
)
def test_the_decision_is_the_last_word(text: str, parts: tuple[str, str | None]) -> None:
    assert split_decision(text, ("yes", "no")) == parts


def test_option_log_probabilities_are_those_of_the_whole_answers() -> None:
    model = tiny_model()
    contexts = [TextContext("is it? ASSISTANT:"), TextContext("and this? ASSISTANT:")]
    options, before = ("red", "a mug"), ["", "a hat and"]
    found = option_logps(model, contexts, before, options)
    for row, (context, start) in enumerate(zip(contexts, before)):
        whole = []
        for option in options:
            ids, mask = answer_ids(model, [f"{start} {option}".strip()])
            logps, _ = model.text_logps([context], ids, mask, Sampling())
            whole.append(logps[mask].sum())
        # what both answers begin with has the same log-probability, so normalising takes it out
        torch.testing.assert_close(found[row], torch.stack(whole).log_softmax(0), rtol=1e-4, atol=1e-5)
        if not start:
            raw = option_logps(model, [context], [start], options, normalised=False)
            torch.testing.assert_close(raw[0], torch.stack(whole), rtol=1e-4, atol=1e-5)
    assert found.exp().sum(1).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("kind", ["log", "tokens"])
def test_training_learns_to_tell_its_photos_from_other_pictures(tmp_path: Path, kind: str) -> None:
    options = [f"rl.closed_loss={kind}", "rl.closed_prompts_per_step=4", "rl.max_steps=12", "run.save_steps=12"]
    run = trainer(tmp_path, *options, "rl.learning_rate=1e-2", "rl.closed_loss_weight=2")
    run.train()
    rows = log_of(run)
    assert rows[-1]["closed/accuracy"] == 1.0 and rows[-1]["closed/reward"] > 0.75 > rows[0]["closed/reward"]
    assert {"closed/entropy", "closed/first", "reward"} <= set(rows[-1])


def test_every_update_asks_as_many_of_each_answer_and_repeats_nothing_on_resume(tmp_path: Path) -> None:
    options = ["rl.closed_loss=expected", "rl.closed_prompts_per_step=2", "rl.max_steps=4"]
    whole = trainer(tmp_path / "whole", *options, "run.save_steps=4")
    assert whole.closed is not None
    for step in range(4):
        assert sorted(prompt.answer for prompt in whole.closed.chosen(step)) == ["no", "yes"]
    assert len({prompt.photo for step in range(2) for prompt in whole.closed.chosen(step)}) == 4
    whole.train()
    part = trainer(tmp_path / "parts", *options, "run.save_steps=2")
    part.train()
    again = trainer(tmp_path / "parts", *options, "run.save_steps=2")
    again.train(resume_from_checkpoint=tmp_path / "parts" / "run" / "checkpoints" / "step_00002")
    assert same(weights(whole.policy), weights(again.policy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rl.closed_prompts_per_step=3"], "rl.closed_prompts_per_step is 3; it must be even"),
        (["rl.closed_loss=log", "rl.optimise=image"], "rl.optimise=image trains no text"),
        (["rl.optimise=decisions"], "with rl.optimise=decisions nothing would train; set rl.closed_loss=log"),
        (["rl.optimise=decisions", "rl.closed_loss=log", "rl.dgs_enabled=true"], "rl.optimise=decisions draws none"),
    ],
)
def test_options_that_cannot_work_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(None, options)


def test_without_pictures_of_something_else_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.rl.toys.strangers", lambda folder: [])
    with pytest.raises(ValueError, match="no pictures of both kinds to ask about"):
        trainer(tmp_path, "rl.closed_loss=log")


def test_decisions_alone_are_learned_without_rollouts(tmp_path: Path) -> None:
    """Nothing is sampled, drawn or scored, the body learns, and a resumed run repeats the uninterrupted one."""
    options = ["rl.optimise=decisions", "rl.closed_loss=log", "rl.closed_prompts_per_step=4", "rl.max_steps=4"]
    silent = RewardEnsemble([Reward("never", _never, "text", 1.0)])
    whole = trainer(tmp_path / "whole", *options, "run.save_steps=4", rewards=silent)
    before = weights(whole.policy)
    whole.train()
    rows = log_of(whole)
    assert [row["reward"] for row in rows] == [row["closed/reward"] for row in rows] and rows[-1]["nfe_total"] == 0
    assert not any(name.startswith(("text/", "image/", "completions/", "rewards/")) for row in rows for name in row)
    assert not same(before, weights(whole.policy)) and not (tmp_path / "whole" / "run" / "trajectories").exists()
    trainer(tmp_path / "parts", *options, "run.save_steps=2", rewards=silent).train()
    again = trainer(tmp_path / "parts", *options, "run.save_steps=2", rewards=silent)
    again.train(resume_from_checkpoint=tmp_path / "parts" / "run" / "checkpoints" / "step_00002")
    assert same(weights(whole.policy), weights(again.policy))


def _never(**_: object) -> list[float]:
    raise AssertionError("nothing is to be scored")
