"""The reward: a weighted ensemble of scorers whose breakdown is kept and whose failures are explicit.

A reward function has TRL's shape: it is called with keyword arguments only, one value per trajectory in each, and
returns one score per trajectory. None or NaN means "could not score". Columns: see scorers/custom.py.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sync_r1.config import Weight
from sync_r1.constants import CATEGORIES
from sync_r1.rl.advantages import EPSILON, group_std
from sync_r1.rl.rollout import Rollout
from sync_r1.scorers.base import Part, RewardFunction, check_fallback, check_name


@dataclass(frozen=True)
class Reward:
    """One member of the ensemble.

    Weight 0 is logged but not learned from; where a category has no weight, it is not even asked.
    """

    name: str
    function: RewardFunction
    part: Part
    weight: Weight = 1.0

    def weight_for(self, category: str) -> float:
        if isinstance(self.weight, dict):
            return self.weight.get(category, 0.0)
        return self.weight

    def concerns(self, categories: Collection[str]) -> bool:
        return not isinstance(self.weight, dict) or any(self.weight_for(category) for category in categories)


@dataclass(frozen=True)
class Breakdown:
    """Scores of a rollout. P prompts, G texts each, M images per text; NaN where nothing could be scored."""

    scores: dict[str, Tensor]  # name → [P, G] for text rewards, [P, G, M] for image rewards, unweighted
    text: Tensor  # [P, G] weighted sum of the text part
    image: Tensor  # [P, G, M] weighted sum of the image part
    metrics: dict[str, float]
    promised: Tensor | None = None  # [P, G] what the image part makes of a tree's promises (see rl/tree.py)

    @staticmethod
    def cat(parts: Sequence[Breakdown]) -> Breakdown:
        """The breakdowns of several processes as one; a reward that a process did not ask is NaN there."""
        if len(parts) == 1:
            return parts[0]
        scores: dict[str, Tensor] = {}
        metrics: dict[str, float] = {}
        for name in dict.fromkeys(name for part in parts for name in part.scores):
            scores[name] = _cat_scores(name, parts)
            metrics |= _statistics(name, scores[name].flatten())
        counts = dict.fromkeys(key for part in parts for key in part.metrics if key.endswith(("/fallback", "/missing")))
        for key in counts:
            metrics[key] = sum(part.metrics.get(key, 0.0) for part in parts)
        promised = [part.promised for part in parts if part.promised is not None]
        return Breakdown(
            scores,
            torch.cat([part.text for part in parts]),
            torch.cat([part.image for part in parts]),
            metrics,
            torch.cat(promised) if promised else None,
        )


def _cat_scores(name: str, parts: Sequence[Breakdown]) -> Tensor:
    """[P, G] or [P, G, M] scores of one reward in all breakdowns, NaN for those that lack it; one of them has it."""
    of_images = any(part.scores[name].dim() == 3 for part in parts if name in part.scores)
    found = []
    for part in parts:
        if name in part.scores:
            found.append(part.scores[name])
        elif of_images:
            found.append(torch.full_like(part.image, torch.nan))
        else:
            found.append(torch.full_like(part.text, torch.nan))
    return torch.cat(found)


def combine(scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum per trajectory when some scores are missing.

    A missing score becomes the mean of its group's scores, so that it adds nothing to the centred advantage (a silent
    0 would be a punishment). Where no completion of the group was scored, the reward does not apply to this prompt and
    adds nothing at all.

    Args:
        scores: [R, P, S] fp32 of R rewards, NaN where missing. weights: [R, P].
    Returns: [P, S], NaN where every reward that applies to the group is missing; and [P] bool, whether any reward
        applies to the group.
    """
    known = ~scores.isnan() & (weights != 0).unsqueeze(2)
    applies = known.any(dim=2, keepdim=True)
    filled = torch.where(known, scores, torch.where(known, scores, torch.nan).nanmean(dim=2, keepdim=True))
    total = torch.where(applies, filled * weights.unsqueeze(2), 0.0).sum(dim=0)
    judged = applies.any(dim=0)  # [P, 1]
    return torch.where(judged & ~known.any(dim=0), torch.nan, total), judged.squeeze(1)


def fill_gaps(scores: Tensor, other: Tensor) -> Tensor:
    """`scores` [P, S] with their gaps filled by the fallback's scores `other` [P, S]; NaN is a gap.

    Two scorers have two scales: CLIP-I of a picture without a face is higher than ArcFace's cosine of a right one, so a
    plain swap would reward pictures without faces. The fallback is moved by the mean difference of the two among the
    completions that both could score. Where no completion was scored by the first, the fallback's own scores stand for
    the whole group.
    """
    gaps = scores.isnan()
    shift = (scores - other).nanmean(dim=1, keepdim=True)
    return torch.where(gaps, other + torch.where(gaps.all(dim=1, keepdim=True), 0.0, shift), scores)


def standardise(scores: Tensor) -> Tensor:
    """[P, S] in units of each group's own std, around its mean; NaN stays NaN.

    Rewards that differ in spread then count by weight alone.
    """
    deviation = scores - scores.nanmean(dim=1, keepdim=True)
    return deviation / (group_std(scores).unsqueeze(1) + EPSILON)


@dataclass(frozen=True)
class RewardEnsemble:
    """Scores a rollout with every member. `fallback`: member → member that scores where it could not.

    `normalize_then_sum`: standardise each reward in its group before adding them (GDPO, TRL's
    `multi_objective_aggregation`).
    """

    rewards: list[Reward]
    fallback: Mapping[str, str] = field(default_factory=dict)
    normalize_then_sum: bool = False

    def only(self, part: Part) -> RewardEnsemble:
        """The members that judge this part, and what fills their gaps."""
        return replace(self, rewards=[reward for reward in self.rewards if reward.part == part])

    def parts(self, categories: Collection[str] = CATEGORIES) -> set[Part]:
        """Parts with a weight above 0 for one of these categories."""
        found: set[Part] = set()
        for reward in self.rewards:
            if any(reward.weight_for(category) for category in categories):
                found.add(reward.part)
        return found

    def scale(self, part: Part, category: str) -> float:
        """Largest weighted sum a part can reach when every score is at most 1."""
        return sum(reward.weight_for(category) for reward in self.rewards if reward.part == part)

    def score(self, rollout: Rollout) -> Breakdown:
        """Call the reward functions on the trajectories of their part and add the scores up, weights by the concept's
        category.
        """
        prompt_count, size = len(rollout.prompts), rollout.group_size
        columns: dict[Part, dict[str, Any]] = {"text": rollout.columns("text")}
        if rollout.images is not None:
            columns["image"] = rollout.columns("image")
        asked = self._asked({prompt.concept.category for prompt in rollout.prompts})
        asked = [reward for reward in asked if reward.part in columns]
        values = call_rewards({reward.name: (reward.function, columns[reward.part]) for reward in asked})
        scores: dict[str, Tensor] = {}
        metrics: dict[str, float] = {}
        for reward in asked:
            found = values[reward.name]
            metrics |= _statistics(reward.name, found)
            if reward.part == "image":
                scores[reward.name] = rollout.by_text(found)
            else:
                scores[reward.name] = found.reshape(prompt_count, size)
        filled = {name: self._fill(name, scores) for name in scores}
        metrics |= self._replaced(scores, filled, rollout)
        if self.normalize_then_sum:
            filled = {name: standardise(values) for name, values in filled.items()}
        text, text_judged = self._total("text", filled, rollout)
        image, image_judged = self._total("image", filled, rollout)
        if rollout.tree is None:  # else what its texts promise may still tell them apart
            text[~(text_judged | image_judged)] = torch.nan  # no reward could score this group
        image = image.reshape(prompt_count, size, -1)
        if rollout.tree is not None:
            image = torch.where(rollout.tree.flags(size).unsqueeze(2), image, torch.nan)
        return Breakdown(scores, text.reshape(prompt_count, size), image, metrics)

    def _asked(self, categories: Collection[str]) -> list[Reward]:
        """Members that concern these categories, and their fallbacks."""
        names = [reward.name for reward in self.rewards if reward.concerns(categories)]
        for name in names:
            if name in self.fallback and self.fallback[name] not in names:
                names.append(self.fallback[name])
        return [reward for reward in self.rewards if reward.name in names]

    def _fill(self, name: str, scores: Mapping[str, Tensor]) -> Tensor:
        """[P, S] scores of a member, gaps filled by its fallback, whose own gaps may be filled by another."""
        own = scores[name].flatten(1)
        if name in self.fallback:
            return fill_gaps(own, self._fill(self.fallback[name], scores))
        return own

    def _replaced(
        self, scores: Mapping[str, Tensor], filled: Mapping[str, Tensor], rollout: Rollout
    ) -> dict[str, float]:
        """How often each member that has a weight was replaced by its fallback."""
        counts = {}
        for reward in self.rewards:
            if reward.name in scores and reward.name in self.fallback:
                replaced = scores[reward.name].flatten(1).isnan() & ~filled[reward.name].isnan()
                weighed = torch.tensor([reward.weight_for(prompt.concept.category) != 0 for prompt in rollout.prompts])
                counts[f"rewards/{reward.name}/fallback"] = float((replaced & weighed.unsqueeze(1)).sum())
        return counts

    def _total(self, part: Part, scores: Mapping[str, Tensor], rollout: Rollout) -> tuple[Tensor, Tensor]:
        """[P, S] weighted sum and [P] whether the part was judged.

        Zeros when the ensemble has no reward of this part.
        """
        members = [reward for reward in self.rewards if reward.part == part and reward.name in scores]
        prompt_count = len(rollout.prompts)
        if not members:
            columns = rollout.group_size * (rollout.images_per_text if part == "image" else 1)
            return torch.zeros(prompt_count, columns), torch.zeros(prompt_count, dtype=torch.bool)
        categories = [prompt.concept.category for prompt in rollout.prompts]
        rows = [list(map(reward.weight_for, categories)) for reward in members]
        weights = torch.tensor(rows)
        return combine(torch.stack([scores[reward.name] for reward in members]), weights)


def _statistics(name: str, values: Tensor) -> dict[str, float]:
    known = values[~values.isnan()]
    missing = {f"rewards/{name}/missing": float(len(values) - len(known))}
    if not len(known):
        return missing
    return {
        **missing,
        f"rewards/{name}/mean": known.mean().item(),
        f"rewards/{name}/std": known.std(correction=0).item(),
    }


def build_rewards(
    weights: Mapping[str, Weight],
    library: Mapping[str, tuple[RewardFunction, Part]],
    fallback: Mapping[str, str] | None = None,
) -> RewardEnsemble:
    """The ensemble that `weights` name, from a library of functions (see `scorer_factory.build_scorers`), with the
    fallbacks it needs.

    Raises:
        ValueError: a name that the library lacks, or fallbacks that go in a circle or judge the other part.
    """
    for name in weights:
        check_name(name, library, "rl.reward_weights")
    check_fallback(fallback or {}, {name: part for name, (_, part) in library.items()})
    members = {name: Reward(name, *library[name], weight) for name, weight in weights.items()}
    used: dict[str, str] = {}
    pending = list(members)
    for name in pending:
        if fallback and name in fallback:
            used[name] = other = fallback[name]
            if other not in members:
                members[other] = Reward(other, *library[other], {})
                pending.append(other)
    return RewardEnsemble(list(members.values()), used)


Call = tuple[RewardFunction, dict[str, Any]]  # function, keyword columns


def call_rewards(calls: Mapping[str, Call]) -> dict[str, Tensor]:
    """Scores fp32 [B] of every reward, NaN where it could not score. Async functions run at the same time.

    Raises:
        ValueError: a reward returned something else than B numbers or None, or raised ValueError or OSError.
        RuntimeError: a reward raised anything else.
    """
    results: dict[str, Any] = {}
    for name, (function, columns) in calls.items():
        try:
            results[name] = function(**columns)
        except Exception as error:
            raise _named(name, error) from error
    pending = {name: result for name, result in results.items() if inspect.isawaitable(result)}
    if pending:
        # In a thread of its own, because a notebook runs an event loop in this one.
        with ThreadPoolExecutor(max_workers=1) as pool:
            results |= pool.submit(asyncio.run, _gather(pending)).result()
    return {name: read_scores(name, results[name], len(columns["prompts"])) for name, (_, columns) in calls.items()}


async def _gather(pending: Mapping[str, Awaitable[Any]]) -> dict[str, Any]:
    async def finish(name: str, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except Exception as error:
            raise _named(name, error) from error

    return dict(zip(pending, await asyncio.gather(*(finish(*item) for item in pending.items()))))


def _named(name: str, error: Exception) -> Exception:
    """What users can mend stays a ValueError; a mistake in code keeps its traceback."""
    if isinstance(error, (ValueError, OSError)):
        return ValueError(f"reward {name!r}: {error}")
    return RuntimeError(f"reward {name!r} raised {type(error).__name__}: {error}")


def read_scores(name: str, returned: Any, count: int) -> Tensor:
    """What a reward returned → fp32 [count], NaN for None, NaN and infinities.

    ValueError unless it is `count` numbers or None.
    """
    fix = f"return {count} numbers, None where it cannot score"
    if isinstance(returned, (Tensor, np.ndarray)):
        if returned.ndim != 1:
            raise ValueError(f"reward {name!r} returned an array of shape {tuple(returned.shape)}; {fix}")
        returned = returned.tolist()
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Iterable):
        raise ValueError(f"reward {name!r} returned {_short(returned)}; {fix}")
    values = list(returned)
    if len(values) != count:
        raise ValueError(f"reward {name!r} returned {len(values)} scores for {count} trajectories; {fix}")
    scores = torch.tensor([_number(name, row, value) for row, value in enumerate(values)], dtype=torch.float32)
    return torch.where(scores.isfinite(), scores, torch.nan)


def _number(name: str, row: int, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Real):
        raise ValueError(
            f"reward {name!r} returned {_short(value)} for trajectory {row}; return a number, or None where it cannot "
            "score"
        )
    return float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
