"""The credit of the trajectories of a rollout, and of each decoding step of a picture where that is not the same."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from sync_r1.config import RLConfig
from sync_r1.models.base import UnifiedModel
from sync_r1.rl.advantages import (
    Advantages,
    advantages,
    estimated_pictures,
    finished_or_promised,
    step_advantages,
    trunk_advantages,
)
from sync_r1.rl.rewards import Breakdown, RewardEnsemble
from sync_r1.rl.rollout import Rollout


def credit_trajectories(rl: RLConfig, rollout: Rollout, scores: Breakdown) -> Advantages:
    """The advantages of both parts of every trajectory, as configured. Give it the rollout of all processes."""
    return advantages(
        scores.text,
        scores.image,
        rollout.same_prompts(),
        pictures=tree_pictures(rollout, scores),
        credit=rl.credit,
        scale_rewards=rl.scale_rewards,
    )


def credit_steps(
    policy: UnifiedModel,
    judge: RewardEnsemble,
    rl: RLConfig,
    rollout: Rollout,
    scores: Breakdown,
    credit: Advantages,
    steps: Collection[int],
) -> Advantages:
    """`credit` with the credit of each of `steps`, with `image_baseline` "previews" or a tree; else as it is.

    Args:
        judge: the image part of the ensemble, which scores what a state promises.
        rollout, scores, credit: of this process; `credit.scale` is that of all processes.
    Raises:
        ValueError: a family that draws in one order, whose states foretell nothing.
    """
    trace, tree = rollout.trace, rollout.tree
    if trace is None or (rl.image_baseline == "group" and tree is None):
        return credit
    if trace.fills is None:
        raise ValueError(
            f"rl.image_baseline is 'previews', but {type(policy).__name__} draws in one order and foretells "
            "nothing of what is open; set rl.image_baseline=group"
        )
    credits, promised = {}, torch.zeros_like(scores.image)
    for step in sorted(steps):
        if rl.image_baseline == "previews":
            images = policy.decode_image(trace.likely(step)).cpu()
            promised = judge.score(replace(rollout, images=images)).image
        if tree is not None and step < tree.branch_step:
            credits[step] = trunk_advantages(scores.image, promised, credit.scale)
        else:
            credits[step] = step_advantages(scores.image, promised, credit.scale)
    return replace(credit, steps=credits)


def tree_pictures(rollout: Rollout, scores: Breakdown) -> Tensor | None:
    """[P, G] estimated image reward of each text, where a tree draws only some of the texts."""
    if rollout.tree is None or scores.promised is None:
        return None
    if rollout.tree.ties:
        return finished_or_promised(scores.image, scores.promised, rollout.same_prompts())
    return estimated_pictures(scores.image, scores.promised, rollout.tree.flags(rollout.group_size))
