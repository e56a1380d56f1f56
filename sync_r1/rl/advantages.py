"""Group-centred advantages for both parts of a trajectory (design: P prompts, G texts per prompt, M images per
text)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["none", "group", "batch"]
Credit = Literal["shared", "routed"]

ZERO_STD = 1e-6  # below this, the completions of a group count as identical
EPSILON = 1e-4  # added to a std before dividing, as in TRL


@dataclass(frozen=True)
class Advantages:
    """What each part of a trajectory is credited with.

    A trajectory that could not be scored has advantage 0 and does not count in its group's mean.
    """

    text: Tensor  # [P, G] fp32
    image: Tensor  # [P, G, M] fp32
    metrics: dict[str, float]
    scale: Tensor  # [P], what the image part's advantages were divided by
    steps: dict[int, Tensor] | None = None  # decoding step → [P, G, M]: the credit of that step instead

    def of(self, prompts: slice) -> Advantages:
        """Those of some prompts; the metrics stay those of all."""
        return replace(self, text=self.text[prompts], image=self.image[prompts], scale=self.scale[prompts])


def centre(values: Tensor, scale: Scale = "none") -> Tensor:
    """Subtract each row's mean; NaN entries are left out and come back as 0, as do rows with fewer than two numbers.

    Args:
        values: [rows, completions] fp32, NaN where unknown.
        scale: "none" (Dr. GRPO), "group" (divide by the row's std) or "batch" (by the std within groups, pooled over
            the batch: groups of different kinds have different means, which must not count as spread).
    Returns:
        [rows, completions] fp32 without NaN.
    """
    return _around_mean(values) / divisor(values, scale).unsqueeze(1)


def _around_mean(values: Tensor) -> Tensor:
    """[rows, completions] without each row's mean; 0 where unknown, and in rows with fewer than two numbers."""
    known = ~values.isnan()
    enough = known & (known.sum(dim=1, keepdim=True) > 1)
    return torch.where(enough, values - values.nanmean(dim=1, keepdim=True), 0.0)


def divisor(values: Tensor, scale: Scale) -> Tensor:
    """What `centre` divides each row of `values` [rows, completions] by: [rows]."""
    if scale == "group":
        return group_std(values) + EPSILON
    if scale == "batch":
        known = ~values.isnan()
        spread = pooled_std(_around_mean(values), known & (known.sum(dim=1, keepdim=True) > 1))
        return (spread + EPSILON).expand(len(values))
    return values.new_ones(len(values))


def step_advantages(rewards: Tensor, previews: Tensor, scale: Tensor) -> Tensor:
    """Credit of one decoding step of every image: how much better it ended than its state before the step promised.

    A = (R − V) − mean over the others of its group of (R − V), divided by the group's `scale`. V follows from the state
    before the step alone and the others are drawn independently, so the gradient stays unbiased; its variance falls by
    as much as V foretells (docs/dgs.md). The scale is that of the raw rewards, so that the part keeps its weight.

    Args:
        rewards: [P, G, M] of the finished images, NaN where unscored.
        previews: [P, G, M], V, NaN where unscored: then the group's mean V stands for it, which foretells nothing.
        scale: [P].
    Returns:
        [P, G, M] fp32 without NaN. With several images per text, the others are those of the same text.
    """
    prompt_count, group_size, images_per_text = rewards.shape
    if images_per_text == 1:
        rows = (prompt_count, group_size)
    else:
        rows = (prompt_count * group_size, images_per_text)
    found, promised = rewards.reshape(rows), previews.reshape(rows)
    promised = torch.where(promised.isnan(), promised.nanmean(dim=1, keepdim=True), promised).nan_to_num(0.0)
    surprise = found - promised
    count = (~surprise.isnan()).sum(dim=1, keepdim=True)
    centred = _around_mean(surprise) * count / (count - 1).clamp(min=1)
    return centred.reshape(rewards.shape) / scale.reshape(-1, 1, 1)


def trunk_advantages(rewards: Tensor, previews: Tensor, scale: Tensor) -> Tensor:
    """What a decoding step before the branch is credited with, which all leaves of a tree share (`rl.dgs_keep` "tree").

    A = (mean of the leaves' R − V) − mean over the other drawn texts of the prompt, divided by the group's `scale`.

    Args:
        rewards: [P, G, M] of the leaves, NaN where not drawn or unscored.
        previews: [P, G, M], V of the state before the step, the same for all leaves of a trunk; zeros for none.
        scale: [P].
    Returns:
        [P, G, M] fp32 without NaN. A text's first leaf carries the sum of all M, the others 0: the tokens are the same,
        so one of them is replayed for all.
    """
    surprise = rewards.nanmean(dim=2, keepdim=True).expand_as(rewards[:, :, :1])
    shared = step_advantages(surprise, previews[:, :, :1], scale)
    credits = torch.zeros_like(rewards)
    credits[:, :, :1] = shared * rewards.shape[2]
    return credits


def estimated_pictures(images: Tensor, promised: Tensor, drawn: Tensor) -> Tensor:
    """Estimated image reward of each text where only some texts were drawn:
    Q = V + 1{drawn}/π · (mean reward of its leaves − V).

    V is what the text's drawing prompt promises, π the share of the group's texts that are drawn, each of them as
    likely: Q is unbiased whatever V is, and the better V foretells, the less it varies.

    Args:
        images: [P, G, M], NaN where not drawn or unscored.
        promised: [P, G], V, NaN where unscored: then the group's mean V stands for it.
        drawn: [P, G] bool.
    Returns:
        [P, G]. A drawn text without any score keeps V.
    """
    value = torch.where(promised.isnan(), promised.nanmean(dim=1, keepdim=True), promised).nan_to_num(0.0)
    share = drawn.float().mean(dim=1, keepdim=True).clamp(min=1 / drawn.shape[1])
    surprise = (images.nanmean(dim=2) - value).nan_to_num(0.0)
    return value + torch.where(drawn, surprise / share, 0.0)


def finished_or_promised(images: Tensor, promised: Tensor, same: Tensor) -> Tensor:
    """Image reward of each text where pictures of some drawing prompts were finished: their mean, else the promise.

    Args:
        images: [P, G, M], NaN where not drawn or unscored. promised: [P, G], NaN where unscored.
        same: [P, G] long, equal for texts with the same drawing prompt, which share their pictures.
    Returns:
        [P, G], NaN where neither is known.
    """
    finished = pool_same(images.nanmean(dim=2), same)
    return torch.where(finished.isnan(), promised, finished)


def pooled_std(centred: Tensor, known: Tensor) -> Tensor:
    """Scalar std of row-centred values [rows, completions] where `known`, each row costing one degree of freedom.

    0 without any.
    """
    freedom = (known.sum(dim=1) - 1).clamp(min=0).sum()
    return (centred.square().sum() / freedom.clamp(min=1)).sqrt()


def group_std(values: Tensor) -> Tensor:
    """[rows] unbiased std over the known entries of each row; 0 where fewer than two are known."""
    known = ~values.isnan()
    count = known.sum(dim=1)
    deviation = torch.where(known, values - values.nanmean(dim=1, keepdim=True), 0.0)
    return (deviation.square().sum(dim=1) / (count - 1).clamp(min=1)).sqrt() * (count > 1)


def pool_same(values: Tensor, same: Tensor) -> Tensor:
    """Mean of `values` [P, G] over the completions with the same id in `same` [P, G] long; NaN entries are left out.

    Completions whose texts led to the same drawing prompt differ in their pictures by the noise of drawing alone, which
    says nothing about the text. Their mean is the text's reward with less variance (Rao-Blackwell).
    """
    twins = same.unsqueeze(2) == same.unsqueeze(1)  # [P, G, G]
    return torch.where(twins, values.unsqueeze(1), torch.nan).nanmean(dim=2)


def advantages(
    text_rewards: Tensor,
    image_rewards: Tensor,
    same: Tensor | None = None,
    *,
    pictures: Tensor | None = None,
    credit: Credit = "routed",
    scale_rewards: Scale = "none",
) -> Advantages:
    """Turn the weighted rewards of both parts into advantages.

    A text is always credited with its own reward plus the mean reward of its images. An image is credited with the
    whole trajectory's reward ("shared") or with the image reward alone ("routed"), centred among images of the same
    text when M > 1.

    Args:
        text_rewards: [P, G], NaN where unscored.
        image_rewards: [P, G, M], NaN where unscored.
        same: [P, G] long, equal for completions with the same drawing prompt; with "routed" credit they share their
            pictures' mean reward.
        pictures: [P, G], image reward of each text, by default the mean of its images. Given for a tree: then an image
            is centred, and scaled, among all of its prompt (see `estimated_pictures`, `trunk_advantages`).
    Raises:
        ValueError: the shapes do not belong together.
    """
    if image_rewards.shape[:2] != text_rewards.shape or image_rewards.dim() != 3:
        raise ValueError(
            f"image_rewards is {list(image_rewards.shape)}; it must be [P, G, M] with P, G of "
            f"{list(text_rewards.shape)}"
        )
    prompt_count, group_size, images_per_text = image_rewards.shape
    if credit == "shared":
        image_signal = (text_rewards.unsqueeze(2) + image_rewards).reshape(prompt_count, -1)
    elif images_per_text > 1 and pictures is None:
        image_signal = image_rewards.reshape(prompt_count * group_size, images_per_text)
    else:
        image_signal = image_rewards.reshape(prompt_count, -1)
    drawn_pictures = image_rewards.nanmean(dim=2)
    if pictures is None:
        pictures = drawn_pictures
    if same is None or credit == "shared":
        text_signal = text_rewards + pictures
    else:
        text_signal = text_rewards + pool_same(pictures, same)
    return Advantages(
        text=centre(text_signal, scale_rewards),
        image=centre(image_signal, scale_rewards).reshape(image_rewards.shape),
        metrics=_metrics(text_rewards + pictures, text_rewards + drawn_pictures, text_rewards, image_rewards),
        scale=divisor(image_signal, scale_rewards).reshape(prompt_count, -1).mean(dim=1),
    )


def _metrics(estimated: Tensor, drawn: Tensor, text_rewards: Tensor, image_rewards: Tensor) -> dict[str, float]:
    """Metrics of the trajectories' rewards.

    Args:
        estimated: [P, G] reward of every trajectory, which a tree estimates where it draws no picture.
        drawn: [P, G] reward of the trajectories with pictures, NaN for the others; the spread is theirs.
    """
    std = group_std(drawn)
    return {
        "reward": estimated.nanmean().item(),
        "reward_std": std.mean().item(),
        "frac_reward_zero_std": (std < ZERO_STD).float().mean().item(),
        "frac_unscored": estimated.isnan().float().mean().item(),
        "text/reward": text_rewards.nanmean().item(),
        "image/reward": image_rewards.nanmean().item(),
    }
