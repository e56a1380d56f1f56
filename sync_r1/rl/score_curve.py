"""Measure during training how well test prompts are drawn, so that runs can be compared by what a score costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.rl.rewards import RewardFunction
from sync_r1.rl.rollout import Sampler
from sync_r1.training.prompts import Prompt, derive_seed

MEASURE = "test/evaluator"


class ScoreCurve(TrainerCallback):
    """Every `every` steps, and at the end: draw the test prompts, and log the evaluators' mean as test/evaluator.

    Nothing is learned from them, and the noise is always the same, so that changes are the policy's. Every process
    draws, since a sharded model needs all of them; the main one alone asks the evaluators.

    Args:
        sampler: draws as training does, without DGS, on this process alone; its group size is drawings per prompt.
        evaluators: reward functions of networks that no reward uses; their mean counts.
        note: receives the metric.
        autocast: how training computes, so that the same policy is measured.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompts: Sequence[Prompt],
        evaluators: Sequence[RewardFunction],
        *,
        every: int,
        seed: int,
        note: Callable[[dict[str, float]], None],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.sampler, self.prompts, self.evaluators = sampler, list(prompts), list(evaluators)
        self.every, self.seed, self.note, self.autocast = every, seed, note, autocast

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        with self.autocast():
            rollout = self.sampler.roll_out(self.prompts, seed=derive_seed(self.seed, "test"), step=0)
        if not state.is_world_process_zero:
            return
        columns = rollout.columns("image")
        found = [value for judge in self.evaluators for value in judge(**columns) if value is not None]
        score = math.nan
        if found:
            score = statistics.fmean(found)
        self.note({MEASURE: score})
