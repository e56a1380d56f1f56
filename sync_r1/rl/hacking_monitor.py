"""The reward-hacking monitor: what the rewards and an independent evaluator say of prompts that training never sees."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.metrics_file import read_metrics
from sync_r1.rl.rewards import RewardEnsemble, RewardFunction
from sync_r1.rl.rollout import Rollout, Sampler
from sync_r1.training.prompts import Prompt, derive_seed

WINDOW = 2  # validations on each side of the comparison
RISE, FALL = 0.02, 0.02  # shares of the full scale that count as a change


def split_validation(prompts: Sequence[Prompt], count: int) -> tuple[list[Prompt], list[Prompt]]:
    """Hold the last `count` reason prompts out of training. Returns (training, validation).

    Raises:
        ValueError: nothing would be left to train on.
    """
    reasons = list(dict.fromkeys(prompt.prompt for prompt in prompts if prompt.kind == "reason"))
    if count and count >= len(reasons):
        raise ValueError(
            f"rl.validation_prompts is {count}, but there are {len(reasons)} training prompts; hold out fewer"
        )
    held = reasons[len(reasons) - count :]
    kept = [prompt for prompt in prompts if not (prompt.kind == "reason" and prompt.prompt in held)]
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt.kind == "reason":
            first.setdefault(prompt.prompt, prompt)
    return kept, [first[prompt] for prompt in held]


def diverged(rewards: Sequence[float], evaluations: Sequence[float], *, window: int = WINDOW) -> bool:
    """Whether the reward went up while the evaluator went down: means of the last `window` validations against the
    `window` before.

    Both series are on the scale [0, 1]; smaller changes than RISE and FALL are noise.
    """
    if len(rewards) < 2 * window:
        return False

    def change(values: Sequence[float]) -> float:
        return statistics.fmean(values[-window:]) - statistics.fmean(values[-2 * window : -window])

    return change(rewards) >= RISE and change(evaluations) <= -FALL


class RewardHackingMonitor(TrainerCallback):
    """Every `every` steps: draw the validation prompts, log val/reward and val/evaluator, warn when they part.

    Every process draws all of them, since a sharded model needs all of them; the main one alone asks rewards and
    evaluators.

    Args:
        sampler: draws as training does, without DGS, on this process alone.
        prompts: held-out prompts (`split_validation`). rewards: what training pays for; its image part is watched.
        evaluators: reward functions of networks that no reward uses; their mean counts.
        metrics: metrics.jsonl of the run, from which a resumed run reads what was measured before.
        note: receives the metrics. warn: receives the message, once per divergence.
        autocast: how training computes, so that the same policy is measured.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompts: Sequence[Prompt],
        rewards: RewardEnsemble,
        evaluators: Sequence[RewardFunction],
        *,
        every: int,
        seed: int,
        metrics: Path,
        note: Callable[[dict[str, float]], None],
        warn: Callable[[str], None],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.sampler, self.prompts, self.rewards, self.evaluators = sampler, list(prompts), rewards, list(evaluators)
        self.every, self.seed, self.metrics, self.note, self.warn = every, seed, metrics, note, warn
        self.autocast = autocast
        self.history: list[tuple[float, float]] = []
        self.has_diverged = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        rows = []
        if state.is_world_process_zero:
            rows = read_metrics(self.metrics)
        pairs = [(row.get("val/reward"), row.get("val/evaluator")) for row in rows]
        self.history = [
            (reward, evaluation) for reward, evaluation in pairs if reward is not None and evaluation is not None
        ]
        if self.history:
            self.has_diverged = diverged(*zip(*self.history, strict=True))
        else:
            self.has_diverged = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        with self.autocast():
            rollout = self.draw()
        if not state.is_world_process_zero:
            return
        reward, evaluation = self.measure(rollout)
        self.note({"val/reward": reward, "val/evaluator": evaluation})
        if not (math.isfinite(reward) and math.isfinite(evaluation)):
            return  # nothing could be scored, such as during an outage of the judge
        self.history.append((reward, evaluation))
        apart = diverged(*zip(*self.history, strict=True))
        self.note({"val/diverged": float(apart)})
        if apart and not self.has_diverged:
            self.warn(
                f"step {state.global_step}: on {len(self.prompts)} held-out prompts the reward rises while the "
                f"independent evaluator falls (now {reward:.3f} and {evaluation:.3f}): the rewards are being "
                "exploited; raise rl.beta, lower the learning rate, or take an earlier checkpoint"
            )
        self.has_diverged = apart

    def draw(self) -> Rollout:
        """The validation prompts' trajectories. The noise is always the same, so that changes are the policy's."""
        return self.sampler.roll_out(self.prompts, seed=derive_seed(self.seed, "validation"), step=0)

    def measure(self, rollout: Rollout) -> tuple[float, float]:
        """(reward, evaluator) of a rollout, both means in [0, 1]; NaN for what could not be scored."""
        scores = self.rewards.score(rollout)
        scale = self.rewards.scale("image", self.prompts[0].concept.category)
        columns = rollout.columns("image")
        found = [value for judge in self.evaluators for value in judge(**columns) if value is not None]
        if scale:
            reward = float(scores.image.nanmean()) / scale
        else:
            reward = math.nan
        return reward, statistics.fmean(found) if found else math.nan
