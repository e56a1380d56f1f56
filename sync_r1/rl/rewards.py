"""The reward: a weighted ensemble of scorers whose breakdown is kept and whose failures are explicit.

A reward function has TRL's shape: it is called with keyword arguments only, one value per trajectory in each, and returns one
score per trajectory. None or NaN means "could not score". Columns: prompts, completions, images (uint8 [B, 3, H, W], or None for
text rewards), drawing_prompts, concept, kind, answer (the true rewrite or answer).
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from sync_r1.config import RewardConfig, Weight
from sync_r1.rl.rollout import Rollout

RewardFunction = Callable[..., Sequence[float | None]]
Part = Literal["text", "image"]


@dataclass(frozen=True)
class Reward:
    """One member of the ensemble. Weight 0 is logged but not learned from."""

    name: str
    function: RewardFunction
    part: Part
    weight: Weight = 1.0

    def weight_for(self, category: str) -> float:
        return self.weight.get(category, 0.0) if isinstance(self.weight, dict) else self.weight


@dataclass(frozen=True)
class Breakdown:
    """Scores of a rollout. P prompts, G texts each, M images per text; NaN where nothing could be scored."""

    scores: dict[str, Tensor]  # name → [P, G] for text rewards, [P, G, M] for image rewards, unweighted
    text: Tensor  # [P, G] weighted sum of the text part
    image: Tensor  # [P, G, M] weighted sum of the image part
    metrics: dict[str, float]


def combine(scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum per trajectory when some scores are missing.

    A missing score becomes the mean of its siblings' scores, so that it adds nothing to the centred advantage (a silent 0 would be
    a punishment). Where no sibling was scored, the reward does not apply to this prompt and adds nothing at all.

    Args:
        scores: [R, P, S] fp32 of R rewards, NaN where missing. weights: [R, P].
    Returns:
        [P, S], NaN where every reward that applies to the group is missing; and [P] bool, whether any reward applies to the group.
    """
    known = ~scores.isnan() & (weights != 0).unsqueeze(2)
    applies = known.any(dim=2, keepdim=True)
    filled = torch.where(known, scores, torch.where(known, scores, torch.nan).nanmean(dim=2, keepdim=True))
    total = torch.where(applies, filled * weights.unsqueeze(2), 0.0).sum(dim=0)
    judged = applies.any(dim=0)  # [P, 1]
    return torch.where(judged & ~known.any(dim=0), torch.nan, total), judged.squeeze(1)


@dataclass(frozen=True)
class RewardEnsemble:
    """Scores a rollout with every member."""

    rewards: list[Reward]

    def parts(self) -> set[Part]:
        """Parts with a weight above 0 somewhere."""
        return {reward.part for reward in self.rewards if reward.weight != 0}

    def score(self, rollout: Rollout) -> Breakdown:
        """Call every reward function on the trajectories of its part and add the scores up, weights by the concept's category."""
        prompts, size, images = len(rollout.tasks), rollout.group_size, rollout.images_per_text
        scores: dict[str, Tensor] = {}
        metrics: dict[str, float] = {}
        for reward in self.rewards:
            if reward.part == "image" and rollout.images is None:
                continue
            values = _call(reward, rollout.columns(reward.part))
            shape = (prompts, size) if reward.part == "text" else (prompts, size, images)
            scores[reward.name] = values.reshape(shape)
            metrics |= _statistics(reward.name, values)
        text, text_judged = self._total("text", scores, rollout)
        image, image_judged = self._total("image", scores, rollout)
        text[~(text_judged | image_judged)] = torch.nan  # nobody could say anything about this group
        return Breakdown(scores, text.reshape(prompts, size), image.reshape(prompts, size, -1), metrics)

    def _total(self, part: Part, scores: dict[str, Tensor], rollout: Rollout) -> tuple[Tensor, Tensor]:
        """[P, S] weighted sum and [P] whether the part was judged; zeros when the ensemble has no reward of this part."""
        members = [reward for reward in self.rewards if reward.part == part and reward.name in scores]
        prompts = len(rollout.tasks)
        if not members:
            siblings = rollout.group_size * (rollout.images_per_text if part == "image" else 1)
            return torch.zeros(prompts, siblings), torch.zeros(prompts, dtype=torch.bool)
        categories = [task.concept.category for task in rollout.tasks]
        weights = torch.tensor([[reward.weight_for(category) for category in categories] for reward in members])
        return combine(torch.stack([scores[reward.name].reshape(prompts, -1) for reward in members]), weights)


def _call(reward: Reward, columns: dict[str, Any]) -> Tensor:
    values = list(reward.function(**columns))
    expected = len(columns["prompts"])
    if len(values) != expected:
        wrong = f"reward {reward.name!r} returned {len(values)} scores for {expected} trajectories"
        raise ValueError(f"{wrong}; return one each, None if unknown")
    scores = torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float32)
    return torch.where(scores.isfinite(), scores, torch.nan)


def _statistics(name: str, values: Tensor) -> dict[str, float]:
    known = values[~values.isnan()]
    missing = {f"rewards/{name}/missing": float(len(values) - len(known))}
    if not len(known):
        return missing
    return {**missing, f"rewards/{name}/mean": known.mean().item(), f"rewards/{name}/std": known.std(correction=0).item()}


def build_rewards(
    weights: Mapping[str, Weight], library: Mapping[str, tuple[RewardFunction, Part]], custom: Mapping[str, RewardConfig] | None = None
) -> RewardEnsemble:
    """The ensemble that `rl.reward_weights` names, from the ready-made `library` and your own functions.

    Raises:
        ValueError: a name that neither knows, or a dotted path that leads nowhere.
    """
    custom = custom or {}
    functions = {**library, **{name: (load_function(entry.function), entry.part) for name, entry in custom.items()}}
    for name in weights:
        if name not in functions:
            near = difflib.get_close_matches(name, functions, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(functions)) or 'none'}"
            raise ValueError(f"rl.reward_weights names {name!r}, which is no reward; {hint} Your own go in rl.custom_rewards")
    return RewardEnsemble([Reward(name, *functions[name], weight) for name, weight in weights.items()])


def load_function(path: str) -> RewardFunction:
    """The function at a dotted path like `my_rewards.sharpness`. ValueError when there is none."""
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        fix = "it must be module.function on the Python path"
        raise ValueError(f"reward function {path!r} cannot be imported ({error}); {fix}") from error
    if not callable(function):
        raise ValueError(f"{path!r} is a {type(function).__name__}; a reward must be callable")
    return cast(RewardFunction, function)


def blend(identity: RewardFunction, alignment: RewardFunction, weight: float) -> RewardFunction:
    """The preview score of DGS: weight·identity + (1 − weight)·alignment; one alone where the other could not score."""

    def score(**columns: Any) -> list[float | None]:
        pairs = zip(identity(**columns), alignment(**columns))
        return [_mix(first, second, weight) for first, second in pairs]

    return score


def _mix(first: float | None, second: float | None, weight: float) -> float | None:
    if first is None or math.isnan(first):
        return second
    if second is None or math.isnan(second):
        return first
    return weight * first + (1 - weight) * second
