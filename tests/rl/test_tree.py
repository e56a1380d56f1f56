"""DGS, second version: few texts are drawn, as trunks that branch; the gradient stays unbiased."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sync_r1.config import load_config
from sync_r1.rl.advantages import advantages, estimated_pictures, step_advantages, trunk_advantages
from sync_r1.rl.rollout import Rollout, Tree
from sync_r1.rl.trainer import Experience
from sync_r1.rl.tree import TreeSampler, TreeScaling
from sync_r1.training.prompts import derive_seed, training_prompts
from sync_r1.types import Sampling
from tests.rl.toys import concept, log_of, model_with_concept, same, trainer, weights

NAN = float("nan")
SAMPLING = Sampling(max_completion_length=5, generation_timesteps=4)
OPTIONS = ["rl.dgs_enabled=true", "rl.dgs_keep=tree", "rl.images_per_text=2", "rl.dgs_trunks=2"]
FOUR = ["rl.max_steps=4", "run.save_steps=2"]


def rolled(folder: Path, scaling: TreeScaling, step: int = 0, size: int = 3) -> tuple[TreeSampler, Rollout]:
    model = model_with_concept()
    prompts = training_prompts(concept(folder), model.concepts[0])[:2]
    sampler = TreeSampler(model, SAMPLING, scaling, group_size=size, images_per_text=2)
    return sampler, sampler.roll_out(prompts, seed=3, step=step)


# the maths


def test_the_steps_of_a_trunk_are_told_by_the_mean_of_its_leaves() -> None:
    rewards = torch.tensor([[[0.2, 0.4], [NAN, NAN], [0.9, 0.7]]])
    previews = torch.tensor([[[0.1, 0.1], [0.0, 0.0], [0.5, 0.5]]])
    told = trunk_advantages(rewards, previews, torch.tensor([0.5]))
    # surprises 0.3 - 0.1 and 0.8 - 0.5; each against the other, over the scale, for two leaves at once
    assert_close(told, torch.tensor([[[-0.4, 0.0], [0.0, 0.0], [0.4, 0.0]]]))


def test_what_undrawn_texts_are_worth_is_estimated_without_bias() -> None:
    rewards, promised = torch.tensor([[0.1, 0.8, 0.4, 0.5]]), torch.tensor([[0.3, 0.2, NAN, 0.9]])
    found = []
    for chosen in itertools.combinations(range(4), 2):
        drawn = torch.zeros(1, 4, dtype=torch.bool)
        drawn[0, list(chosen)] = True
        images = torch.where(drawn, rewards, NAN).unsqueeze(2).expand(1, 4, 3)
        found.append(estimated_pictures(images, promised, drawn))
    assert_close(torch.stack(found).mean(0), rewards)
    none = torch.zeros(1, 4, dtype=torch.bool)
    skipped = estimated_pictures(torch.full((1, 4, 3), NAN), promised, none)
    assert_close(skipped, torch.tensor([[0.3, 0.2, 1.4 / 3, 0.9]]))


def test_the_gradient_of_trunks_and_leaves_is_exact_in_the_mean() -> None:
    """Two choices, the first shared by two leaves: all outcomes of two trunks enumerated, with a baseline each."""
    first = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[0.1, 0.5], [-0.4, 0.2]], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([[0.9, 0.1], [0.3, 0.6]], dtype=torch.float64)
    promise = torch.tensor([0.7, 0.2], dtype=torch.float64)  # of the state after the first choice
    p, q = first.log_softmax(0), second.log_softmax(1)
    exact = torch.autograd.grad((p.exp().unsqueeze(1) * q.exp() * reward).sum(), (first, second), retain_graph=True)
    loss = torch.zeros((), dtype=torch.float64)
    for trunks in itertools.product(range(2), repeat=2):
        for leaves in itertools.product(range(2), repeat=4):
            table = torch.tensor(leaves).view(2, 2)
            states = torch.tensor(trunks)[:, None].expand(2, 2)
            scores, one = reward[states, table].unsqueeze(0), torch.ones(1, dtype=torch.float64)
            early = trunk_advantages(scores, torch.full_like(scores, 0.4), one)
            late = step_advantages(scores, promise[states].unsqueeze(0), one)
            logp = p[states], q[states, table]
            chance = (p[list(trunks)].sum() + logp[1].sum()).exp().detach()
            loss = loss + chance * (early[0] * logp[0] + late[0] * logp[1]).mean()
    found = torch.autograd.grad(loss, (first, second))
    assert_close(found[0], exact[0])
    assert_close(found[1], exact[1])


def test_texts_are_credited_with_the_estimate_and_images_scaled_within_their_prompt() -> None:
    text, images = torch.zeros(1, 3), torch.tensor([[[0.0, 0.4], [NAN, NAN], [0.6, 1.0]]])
    pictures = torch.tensor([[0.2, 0.9, 0.7]])
    credit = advantages(text, images, torch.tensor([[0, 1, 2]]), pictures=pictures, scale_rewards="group")
    assert_close(credit.text, (pictures - 0.6) / (pictures.std() + 1e-4))
    assert_close(credit.scale, torch.tensor([0.0, 0.4, 0.6, 1.0]).std().view(1) + 1e-4)
    assert credit.metrics["reward"] == pytest.approx(0.6) and credit.metrics["frac_unscored"] == 0
    assert credit.metrics["image/reward"] == pytest.approx(0.5)


# which texts are drawn


def test_every_text_is_as_likely_to_be_drawn() -> None:
    groups = [["a", "b", "c", "d"], ["e", "e", "e", "e"]]
    counts = torch.zeros(2, 4)
    for step in range(400):
        for group, numbers in enumerate(TreeScaling(2, 2).choose(groups, 0, step, 0)):
            assert numbers == sorted(set(numbers)) and len(numbers) == 2
            counts[group, numbers] += 1
    assert counts.min() > 160 and counts.max() < 240
    assert TreeScaling(2, 2).choose(groups[1:], 0, 5, 1) == TreeScaling(2, 2).choose(groups, 0, 5, 0)[1:]


def test_prompts_whose_texts_agree_and_whose_pictures_do_not_differ_are_skipped_for_a_while() -> None:
    scaling, alike = TreeScaling(2, 2, skip_below=0.1), [["x", "x", "x"], ["x", "y", "x"]]
    assert all(scaling.choose(alike, 0, 0, 0)), "nothing is known yet"
    rewards = torch.tensor([[[0.5, 0.53], [NAN, NAN], [0.5, 0.5]]]).repeat(2, 1, 1)
    scaling.observe(alike, rewards)
    spread = rewards[0].flatten()[[0, 1, 4, 5]].std().item()
    assert scaling.spreads == {"x": pytest.approx(spread)}
    chosen = scaling.choose(alike, 0, 1, 0)
    assert chosen[0] == [] and len(chosen[1]) == 2, "texts that differ are always worth a look"
    again = TreeScaling(2, 2, skip_below=0.1)
    again.load_state_dict(scaling.state_dict())
    rounds = 0
    while again.choose(alike[:1], 0, 2, 0) == [[]]:
        again.observe(alike[:1], torch.full((1, 3, 2), NAN))
        rounds += 1
    assert rounds == 3, "0.015 doubles three times before it reaches 0.1"
    with pytest.raises(ValueError, match="spreads of Dynamic Group Scaling are not all numbers"):
        again.load_state_dict({"spreads": {"x": "wide"}})


# drawing


def test_leaves_share_their_trunk_and_the_first_is_the_picture_that_would_have_been_drawn(tmp_path: Path) -> None:
    sampler, rollout = rolled(tmp_path, TreeScaling(2, 2))
    tree, trace = rollout.tree, rollout.trace
    assert tree is not None and trace is not None and rollout.images is not None
    assert [len(numbers) for numbers in tree.drawn] == [2, 2] and len(rollout.completions.texts) == 6
    rows = rollout.drawn_rows()
    assert rows == [group * 3 + number for group, numbers in enumerate(tree.drawn) for number in numbers]
    assert rollout.image_prompts() == [rollout.drawing_prompts[row] for row in rows for _ in range(2)]
    trunk = trace.known_before(2)
    for first in range(0, len(trace.tokens), 2):
        assert torch.equal(trunk[first], trunk[first + 1]) and trunk[first].any()
        assert torch.equal(trace.tokens[first][trunk[first]], trace.tokens[first + 1][trunk[first]])
    assert (trace.tokens[::2] != trace.tokens[1::2]).any(), "leaves differ behind the branch"
    seeds = [derive_seed(3, 0, row // 3, row % 3, "image", 0) for row in rows]
    alone = sampler.model.generate_image([rollout.drawing_prompts[row] for row in rows], SAMPLING, seeds)
    assert torch.equal(alone.tokens, trace.tokens[::2])
    logps, _ = sampler.model.image_logps(rollout.image_prompts(), trace, SAMPLING, range(4))
    assert_close(logps, trace.logps, atol=1e-4, rtol=0)


def test_evaluations_are_counted_and_promises_shown(tmp_path: Path) -> None:
    sampler, rollout = rolled(tmp_path, TreeScaling(2, 3))
    tree = rollout.tree
    assert tree is not None
    distinct = sum(len(set(prompts)) for prompts in rollout.grouped_prompts())
    assert (tree.nfe_previews, tree.nfe_trunks, tree.nfe_leaves) == (distinct, 4 * 3, 8 * 1)
    assert tree.metrics()["dgs/nfe"] == distinct + 20 and tree.metrics()["dgs/prompts_skipped"] == 0
    prompt = rollout.drawing_prompts[4]
    begun = sampler.model.generate_image([prompt], SAMPLING, [99], stop_at=1)
    assert torch.equal(tree.promised[4], sampler.model.decode_image(begun.likely(0))[0])
    assert torch.equal(rollout.candidates[4].preview, tree.promised[4])  # type: ignore[arg-type]
    promises = rollout.promises()
    assert promises is not None and promises.columns("image")["completions"] == rollout.completions.texts


def test_values_find_their_texts(tmp_path: Path) -> None:
    rollout = rolled(tmp_path, TreeScaling(2, 2))[1]
    table = rollout.by_text(torch.arange(8.0))
    assert rollout.tree is not None and torch.equal(~table.isnan().any(2), rollout.tree.flags(3))
    assert table.flatten()[~table.flatten().isnan()].tolist() == list(range(8))
    undrawn = next(row for row in range(6) if row not in rollout.drawn_rows())
    assert rollout.first_image(undrawn) is None and rollout.images is not None
    assert torch.equal(rollout.first_image(rollout.drawn_rows()[1]), rollout.images[2])  # type: ignore[arg-type]


def test_trees_of_processes_are_joined() -> None:
    def part(first: int) -> Tree:
        return Tree([[first]], 2, torch.full((1, 3, 2, 2), first), first, 10, 100)

    both = Tree.join([part(0), part(1)])
    assert both.drawn == [[0], [1]] and both.promised[:, 0, 0, 0].tolist() == [0, 1]
    assert (both.nfe_previews, both.nfe_trunks, both.nfe_leaves, both.nfe) == (1, 20, 200, 221)


# training


def test_a_trunk_is_replayed_once_and_leaves_apart(tmp_path: Path) -> None:
    run = trainer(tmp_path, *OPTIONS, "rl.image_baseline=previews")
    rollout = run.roll_out()
    scores = run.score(rollout)
    credit = run.step_credit(rollout, scores, run.advantage(rollout, scores))
    assert credit.steps is not None and rollout.tree is not None and scores.promised is not None
    drawn = rollout.tree.flags(3)
    for step, told in credit.steps.items():
        moved = told != 0
        assert not moved[~drawn].any()
        assert not moved[..., 1].any() if step < 2 else moved[drawn].all()
    run.loss(Experience(rollout, credit))
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in run.trainables.parameters())


def test_a_run_resumes_bit_for_bit_and_counts_what_it_spent(tmp_path: Path) -> None:
    options = [*OPTIONS, "rl.image_baseline=previews", "rl.num_iterations=2", "rl.dgs_skip_below=0.9", *FOUR]
    whole = trainer(tmp_path / "whole", *options)
    whole.train()
    trainer(tmp_path / "parts", *options, "rl.max_steps=2").train()
    again = trainer(tmp_path / "parts", *options)
    again.train(resume_from_checkpoint=tmp_path / "parts" / "run" / "checkpoints" / "step_00002")
    assert same(weights(whole.policy), weights(again.policy))
    log = log_of(whole)
    assert log[0]["image/ratio_mean"] == pytest.approx(1.0, abs=1e-4) and log[0]["dgs/texts_drawn"] == 4
    assert log[-1]["nfe_total"] == sum(row["dgs/nfe"] for row in log[::2])
    assert log_of(again)[-1]["nfe_total"] == log[-1]["nfe_total"]


def test_a_step_without_any_picture_still_teaches_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TreeScaling, "choose", lambda self, groups, seed, step, first: [[] for _ in groups])
    run = trainer(tmp_path, *OPTIONS)
    run.train()
    last = log_of(run)[-1]
    assert last["dgs/prompts_skipped"] == 2 and last["dgs/nfe_leaves"] == 0 and "image/reward" not in last
    assert last["skipped_steps"] == 0 and last["text/abs_dlogp"] >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rl.images_per_text=1"], r"rl.images_per_text is 1; with rl.dgs_keep=tree it must be at least 2"),
        (["rl.dgs_trunks=4"], r"rl.dgs_trunks is 4; it must be at most rl.num_generations = 3"),
        (["rl.credit=shared"], r"rl.dgs_keep is 'tree'; a text that is not drawn has no whole trajectory"),
        (["rl.multi_objective_aggregation=normalize_then_sum"], r"set rl.multi_objective_aggregation=sum_then"),
    ],
)
def test_combinations_without_meaning_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(None, [*OPTIONS, "rl.num_generations=3", *options])


def test_a_family_that_draws_in_one_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path, *OPTIONS)
    generate = run.policy.generate_image

    def in_one_order(*args: object, **kwargs: object) -> object:
        trace = generate(*args, **kwargs)  # type: ignore[arg-type]
        trace.fills = None
        return trace

    monkeypatch.setattr(run.policy, "generate_image", in_one_order)
    with pytest.raises(ValueError, match=r"draws in one order, so that no picture can branch .* set rl.dgs_keep=best"):
        run.train()
