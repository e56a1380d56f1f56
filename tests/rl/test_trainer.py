"""The whole loop on a tiny model: what it writes, what it changes, what it refuses to learn from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch
from torch.testing import assert_close

from sync_r1.config import Config
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.rl.replay import Replay, timesteps
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer import SyncGRPOTrainer, TrainingStopped
from sync_r1.training.prompts import prompt_stream
from tests.rl.toys import bright, ensemble, model_with_concept, same, small_config, trainer, weights, wordy

EXPECTED = """
    step loss grad_norm learning_rate reward reward_std frac_reward_zero_std rewards/wordy/mean rewards/bright/std \
rewards/bright/missing
    kl entropy text/ratio_mean image/ratio_mean text/abs_dlogp text/clip_ratio/high_mean image/clip_ratio/low_mean \
text/reward image/reward
    completions/mean_length completions/identical_groups dgs/acceptance_rate dgs/threshold dgs/candidates dgs/nfe \
dgs/nfe_saved
    dgs/preview_corr dgs/reward_var_kept perf/rollout_time_s perf/reward_time_s perf/loss_time_s perf/update_time_s \
perf/peak_memory_mb
    nfe_total skipped_steps
"""
SAVED = "manifest.json config.yaml model.safetensors optimizer.pt scheduler.pt trainer_state.json sync_state.json"


def metrics(run: SyncGRPOTrainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.config.run.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_changes_what_should_train_and_writes_what_it_promises(tmp_path: Path) -> None:
    sampling = ["rl.temperature=0.9", "rl.top_k=20", "rl.train_timesteps=2"]
    run = trainer(tmp_path, "rl.dgs_enabled=true", "rl.beta=0.05", "rl.entropy_coef=0.01", *sampling)
    before, start = weights(run.policy), run.trainables.parameters()
    rows = [row.detach().clone() for row in run.trainables.rows.rows]
    body = [parameter.detach().clone() for parameter in run.trainables.body]
    run.train()
    # soft tokens are only ever read: their embedding learns, their head rows have no gradient
    assert all(not torch.equal(old, new) for old, new in zip([*body, rows[0]], start)), (
        "every trainable parameter changes"
    )
    ids = learned_row_ids(run.policy)
    for name, value in run.policy.state_dict().items():
        if name.startswith("magvit"):
            assert torch.equal(value, before[name]), name
        elif "embed_tokens" in name or "lm_head" in name:
            moved = (value != before[name]).reshape(len(value), -1).any(1).nonzero().flatten()
            assert moved.tolist() == (ids.tolist() if "embed_tokens" in name else []), name

    first, second = metrics(run)
    assert set(first) >= set(EXPECTED.split()) and (first["step"], first["learning_rate"]) == (1, 1e-3)
    assert first["text/ratio_mean"] == pytest.approx(1, abs=1e-5) and first["image/ratio_mean"] == pytest.approx(
        1, abs=1e-5
    )
    assert first["kl"] == pytest.approx(0, abs=1e-6) and second["kl"] > 0
    table = parquet.read_table(run.config.run.folder / "trajectories" / "step_00001.parquet").to_pylist()
    assert len(table) == first["dgs/candidates"] and sum(row["kept"] for row in table) == 6
    for row in table:
        assert (run.config.run.folder / "trajectories" / "images" / row["preview"]).is_file()
        assert row["kept"] == (row["reward"] is not None) == (row["image"] is not None)
    checkpoint = run.config.run.folder / "checkpoints" / "step_00002"
    files = {path.name for path in checkpoint.iterdir()}
    assert files >= set(SAVED.split())


@pytest.mark.parametrize("overrides", [["rl.learning_rate=0", "rl.beta=0.1"], ["rl.concept_learning_rate=0"]])
def test_either_group_can_be_frozen(tmp_path: Path, overrides: list[str]) -> None:
    run = trainer(tmp_path, "rl.max_steps=1", *overrides)
    before = weights(run.policy)
    run.train()
    changed = {name for name, value in run.policy.state_dict().items() if not torch.equal(value, before[name])}
    vocabulary = {name for name in before if "embed_tokens" in name or "lm_head" in name}
    assert changed and (changed <= vocabulary if "rl.learning_rate=0" in overrides else not changed & vocabulary)


@pytest.mark.parametrize(("optimise", "credit"), [("text", "routed"), ("image", "routed"), ("image", "shared")])
def test_baselines(tmp_path: Path, optimise: str, credit: str) -> None:
    run = trainer(tmp_path, "rl.max_steps=1", "rl.images_per_text=2", f"rl.optimise={optimise}", f"rl.credit={credit}")
    run.train()
    (row,) = metrics(run)
    assert ("text/ratio_mean" in row) == (optimise == "text") == ("image/ratio_mean" not in row)
    assert ("rewards/bright/mean" in row) == (optimise == "image")
    assert row["dgs/nfe"] == (0 if optimise == "text" else 2 * 3 * 2 * 4)


def test_rollouts_between_drawn_ones_teach_the_text_half_alone(tmp_path: Path) -> None:
    settings = [
        "rl.max_steps=5",
        "rl.draw_every=2",
        "rl.dgs_enabled=true",
        "run.completions_steps=2",
        "run.save_steps=5",
    ]
    run = trainer(tmp_path, *settings)
    run.train()
    rows = metrics(run)
    drawn = [row["step"] for row in rows if "image/ratio_mean" in row]
    assert (
        drawn
        == [row["step"] for row in rows if row["dgs/nfe"] > 0]
        == [row["step"] for row in rows if "reward" in row]
        == [1, 3, 5]
    )
    assert all("text/ratio_mean" in row and "text/reward" in row and row["grad_norm"] > 0 for row in rows)
    assert sorted(path.stem for path in (run.config.run.folder / "trajectories").glob("*.parquet")) == [
        f"step_{n:05d}" for n in drawn
    ]
    assert len(run.sampler.scaling.state_dict()["threshold"]["history"]) == len(drawn)  # τ follows previews only


def test_rollouts_without_pictures_may_ask_more_prompts_and_none_is_asked_twice_in_a_pass(tmp_path: Path) -> None:
    settings = ["rl.draw_every=3", "rl.prompts_per_step=1", "rl.text_prompts_per_step=2", "rl.look_fraction=0"]
    run = trainer(tmp_path, *settings)
    asked = []
    for run.state.global_step in range(5):
        asked.append([prompt.prompt for prompt in run.roll_out().prompts])
    assert [len(prompts) for prompts in asked] == [1, 2, 2, 1, 2]
    stream = [
        prompt.prompt
        for prompt in prompt_stream(
            run.prompts, count=8, shares=run.config.rl.shares(), seed=run.config.run.seed, first=0
        )
    ]
    assert [prompt for prompts in asked for prompt in prompts] == stream


def test_prompts_are_counted_over_rollouts_of_both_kinds() -> None:
    rl = Config().rl
    rl.prompts_per_step, rl.text_prompts_per_step, rl.draw_every = 3, 9, 4
    assert [rl.prompts_of(number) for number in range(6)] == [(3, 0), (9, 3), (9, 12), (9, 21), (3, 30), (9, 33)]
    rl.optimise = "text"  # the same prompts, so that both can be compared
    assert [rl.prompts_of(number) for number in range(6)] == [(3, 0), (9, 3), (9, 12), (9, 21), (3, 30), (9, 33)]
    rl.draw_every = 1
    assert [rl.prompts_of(number) for number in range(3)] == [(9, 0), (9, 9), (9, 18)]
    rl.text_prompts_per_step = None
    assert rl.prompts_of(7) == (3, 21)


def test_identical_rewards_give_exactly_no_gradient(tmp_path: Path) -> None:
    constant = RewardEnsemble(
        [Reward("same", lambda **columns: [0.3] * len(columns["prompts"]), part) for part in ("text", "image")]
    )  # type: ignore[arg-type]
    run = trainer(tmp_path, rewards=constant)
    before = weights(run.policy)
    run.train()
    assert same(before, weights(run.policy))
    assert [(row["frac_reward_zero_std"], row["grad_norm"], row["skipped_steps"]) for row in metrics(run)] == [
        (1, 0, 0)
    ] * 2


def gradients(run: SyncGRPOTrainer) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in run.trainables.parameters()]


def test_pieces_of_any_size_give_the_same_gradient(tmp_path: Path) -> None:
    found = []
    for size, recompute in ((1, "false"), (5, "false"), (100, "true"), (100, "false")):
        memory = [f"rl.sequences_per_backward={size}", f"rl.gradient_checkpointing={recompute}"]
        run = trainer(tmp_path, *memory, "rl.images_per_text=2", "rl.importance_sampling_level=sequence")
        run.policy.train()
        rollout = run.roll_out()
        credit = run.advantage(rollout, run.score(rollout))
        replay = Replay(run.policy, run.config.rl, run.reference, run.accelerator, seed=0)
        replay.backward(rollout, credit, step=0)
        found.append(gradients(run))
    for other in found[1:]:
        for first, second in zip(found[0], other):
            assert_close(first, second, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_redrawn_region_teaches_as_a_picture_of_its_own(tmp_path: Path, level: str) -> None:
    """Kept tokens neither count nor dilute: with advantage 1 and before an update the loss is −1, whatever the
    region."""
    run = trainer(tmp_path, f"rl.importance_sampling_level={level}", "rl.optimise=image", "rl.train_timesteps=4")
    run.policy.train()
    rollout = run.roll_out()
    assert rollout.trace is not None
    region = torch.arange(rollout.trace.tokens.shape[1]) % 3 == 0
    seeds, prompts = rollout.trace.seeds.tolist(), rollout.image_prompts()
    trace = run.policy.redraw_image(prompts, rollout.trace.tokens, region, run.config.rl.sampling(), seeds)
    redrawn = replace(rollout, trace=trace, images=run.policy.decode_image(trace.tokens))
    credit = run.advantage(redrawn, run.score(redrawn))
    replay = Replay(run.policy, run.config.rl, run.reference, run.accelerator, seed=0)
    loss, _ = replay.backward(redrawn, replace(credit, image=torch.ones_like(credit.image)), step=0)
    assert_close(loss, torch.tensor(-1.0), atol=1e-5, rtol=0)
    assert any(gradient.abs().sum() > 0 for gradient in gradients(run))


def test_an_entropy_bonus_replays_all_texts_but_no_image_without_advantage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = RewardEnsemble(
        [Reward("same", lambda **columns: [0.3] * len(columns["prompts"]), part) for part in ("text", "image")]
    )  # type: ignore[arg-type]
    run = trainer(tmp_path, "rl.max_steps=1", "rl.entropy_coef=0.01", rewards=constant)
    replayed: list[str] = []
    for name in ("text_logps", "image_logps"):
        real = getattr(run.policy, name)
        monkeypatch.setattr(
            run.policy, name, lambda *given, name=name, real=real: (replayed.append(name), real(*given))[1]
        )
    run.train()
    assert replayed == ["text_logps"] and metrics(run)[0]["grad_norm"] > 0


@pytest.mark.parametrize("how", ["uniform", "late"])
def test_replayed_timesteps_are_a_fresh_subset_whose_weights_are_unbiased(tmp_path: Path, how: str) -> None:
    options = ["rl.train_timesteps=4", "rl.generation_timesteps=8", f"rl.timestep_sampling={how}"]
    rl = small_config(tmp_path, *options).rl
    subsets = [timesteps(rl, 0, step) for step in range(600)]
    assert all(len(subset) == 4 and list(subset) == sorted(subset) for subset in subsets)
    for step in range(8):  # the mean weight of every step is 1
        mean = sum(subset.get(step, 0.0) for subset in subsets) / len(subsets)
        assert mean == pytest.approx(1.0, abs=0.2)
    always = [step for step in range(8) if all(step in subset for subset in subsets)]
    assert always == ([6, 7] if how == "late" else [])
    rl.train_timesteps = None
    assert timesteps(rl, 0, 0) == dict.fromkeys(range(8), 1.0)


def test_several_updates_per_rollout_move_the_ratio(tmp_path: Path) -> None:
    run = trainer(tmp_path, "rl.num_iterations=2")
    run.train()
    first, second = metrics(run)
    assert first["image/abs_dlogp"] < 1e-5 < second["image/abs_dlogp"]
    assert "completions/mean_length" in first and "completions/mean_length" not in second


def test_nothing_scored_is_skipped_counted_and_finally_stops(tmp_path: Path) -> None:
    mute = RewardEnsemble([Reward("mute", lambda **columns: [None] * len(columns["prompts"]), "text")])
    run = trainer(
        tmp_path, "rl.max_steps=5", "rl.max_skipped_steps=2", "run.save_steps=5", "rl.credit=shared", rewards=mute
    )
    before = weights(run.policy)
    with pytest.raises(TrainingStopped, match=r"no trajectory could be scored, 3 times in a row .*max_skipped_steps=2"):
        run.train()
    assert same(before, weights(run.policy))
    rows = metrics(run)
    assert [row["skipped_steps"] for row in rows] == [1, 2] and rows[0]["reward"] is None
    assert rows[0]["rewards/mute/missing"] == 6


def test_a_loss_that_is_not_finite_changes_nothing_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path)
    before, real, calls = weights(run.policy), run.policy.text_logps, []

    def broken(*arguments: Any) -> Any:
        logps, entropy = real(*arguments)
        calls.append(same(before, weights(run.policy)))
        return (logps * math.nan if len(calls) == 1 else logps), entropy

    monkeypatch.setattr(run.policy, "text_logps", broken)
    run.train()
    assert calls[:2] == [True, True], "the first update was skipped"
    assert not same(before, weights(run.policy))
    assert [row["skipped_steps"] for row in metrics(run)] == [1, 1]


def test_setups_that_cannot_learn_are_refused(tmp_path: Path) -> None:
    text_only = RewardEnsemble([Reward("wordy", wordy, "text")])
    with pytest.raises(ValueError, match="no reward judges image"):
        trainer(tmp_path, "rl.optimise=image", rewards=text_only)
    with pytest.raises(ValueError, match="so the image part cannot learn"):
        trainer(tmp_path, "rl.optimise=both", rewards=text_only)
    people_only = RewardEnsemble([Reward("wordy", wordy, "text"), Reward("bright", bright, "image", {"person": 1.0})])
    with pytest.raises(ValueError, match="so the image part cannot learn"):
        trainer(tmp_path, rewards=people_only)
    image_only = RewardEnsemble([Reward("bright", bright, "image")])
    with pytest.raises(ValueError, match="no reward judges text, so the text part"):
        trainer(tmp_path, "rl.optimise=text", rewards=image_only)
    trainer(tmp_path, "rl.optimise=both", rewards=image_only)  # a text is credited with its pictures
    trainer(tmp_path, "rl.optimise=image", "rl.credit=shared", rewards=text_only)
    for needless in ([image_only, "rl.optimise=both"], [ensemble(), "rl.optimise=image"]):
        with pytest.raises(
            ValueError, match=r"rl\.draw_every is 2, but rollouts without pictures have nothing to teach"
        ):
            trainer(tmp_path, "rl.draw_every=2", *needless[1:], rewards=needless[0])
    with pytest.raises(ValueError, match="there are no training prompts"):
        SyncGRPOTrainer(model_with_concept(), small_config(tmp_path), [], ensemble(), bright)
    with pytest.raises(ValueError, match="needs a preview score"):
        config = small_config(tmp_path, "rl.dgs_enabled=true")
        SyncGRPOTrainer(model_with_concept(), config, trainer(tmp_path).prompts, ensemble(), None)
