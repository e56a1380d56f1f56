"""The exact gradient of questions with few possible answers.

Where the answers can be counted, their probabilities are known without sampling. A group of sampled answers to "is
it in this picture?" soon agrees with itself, and then has nothing to learn from: recognition collapsed to yes
(docs/log.md). The expected reward over all answers always has a gradient, and needs no group, no baseline and no
clipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from sync_r1.config import RLConfig
from sync_r1.distributed import Processes
from sync_r1.models.base import UnifiedModel
from sync_r1.rl.loss import merge_metrics
from sync_r1.scorers.text import split_decision
from sync_r1.training.answers import option_logps
from sync_r1.training.prompts import Prompt, context, prompt_stream

ClosedLoss = Literal["log", "expected", "tokens"]


def closed_loss(logps: Tensor, rewards: Tensor, kind: ClosedLoss) -> tuple[Tensor, dict[str, float]]:
    """Loss of B questions with A answers each, and its metrics.

    "expected": −mean Σ_a p(a)·r(a), the exact policy gradient. "log": −mean Σ_a r(a)·log p(a) / Σ_a r(a), which
    does not fade where the rewarded answer is still unlikely; questions whose answers are all without reward add
    nothing to it. "tokens": the same of p among all that could be written, which is supervised training on the rewarded
    answer.

    Args:
        logps: [B, A] fp32, normalised over the answers but for "tokens", differentiable.
        rewards: [B, A], not negative.
    Returns:
        The loss, a scalar, and closed/…: reward (expected), accuracy (of the likeliest answer, where it has the largest
        reward), first (share of questions whose likeliest answer is the first one), entropy in nats.
    """
    rewards = rewards.to(logps)
    chances = logps.log_softmax(1) if kind == "tokens" else logps
    expected = (chances.exp() * rewards).sum(1)
    if kind == "expected":
        loss = -expected.mean()
    else:
        share = rewards / rewards.sum(1, keepdim=True).clamp(min=torch.finfo(rewards.dtype).tiny)
        loss = -(share * logps).sum(1).mean()
    with torch.no_grad():
        best = chances.argmax(1)
        right = rewards.gather(1, best.unsqueeze(1)).squeeze(1) == rewards.max(1).values
        figures = {
            "reward": expected,
            "accuracy": right.float(),
            "first": (best == 0).float(),
            "entropy": -(chances.exp() * chances).sum(1),
        }
        return loss, {f"closed/{name}": value.mean().item() for name, value in figures.items()}


@dataclass
class ClosedAnswers:
    """Asks closed questions, as many with each true answer, and adds their exact gradient.

    The reward of an answer is 1 when it is the prompt's, else 0. What the model says before it decides is written
    by the model itself, most likely words first, and the decision is learned behind it.
    """

    prompts: Sequence[Prompt]
    rl: RLConfig
    accelerator: Accelerator
    seed: int
    processes: Processes = field(default_factory=Processes)
    photo_codes: dict[Path, Tensor] = field(default_factory=dict)

    def chosen(self, step: int) -> list[Prompt]:
        """This process's questions of an update: equally many per answer, from an endless shuffled stream of each."""
        answers = sorted({prompt.answer for prompt in self.prompts})
        count = self.rl.closed_prompts_per_step // len(answers)
        first = (step * self.processes.count + self.processes.index) * count
        shares: dict[str, float] = {prompt.kind: 1.0 for prompt in self.prompts}
        asked: list[Prompt] = []
        for answer in answers:
            own = [prompt for prompt in self.prompts if prompt.answer == answer]
            asked += prompt_stream(own, count=count, shares=shares, seed=self.seed, first=first)
        return asked

    def backward(self, policy: UnifiedModel, step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradient of one update's questions. Returns the weighted loss (scalar, detached) and metrics."""
        asked = self.chosen(step)
        options = asked[0].options
        contexts = [context(policy, prompt, self.photo_codes) for prompt in asked]
        greedy = replace(self.rl.sampling(), top_k=1)
        with torch.no_grad(), self.accelerator.autocast():
            written = policy.generate_text(contexts, greedy, [0] * len(contexts)).texts
        before = [split_decision(text, options)[0] for text in written]
        total, pieces = torch.zeros(()), []
        size = max(self.rl.sequences_per_backward // len(options), 1)
        for start in range(0, len(asked), size):
            rows = slice(start, start + size)
            with self.accelerator.autocast():
                normalised = self.rl.closed_loss != "tokens"
                logps = option_logps(policy, contexts[rows], before[rows], options, normalised)
            rewards = torch.zeros(len(asked[rows]), len(options))
            for row, prompt in enumerate(asked[rows]):
                for place, option in enumerate(options):
                    rewards[row, place] = float(option == prompt.answer)
            assert self.rl.closed_loss != "none", "closed answers are switched off"
            loss, metrics = closed_loss(logps, rewards.to(logps.device), self.rl.closed_loss)
            weight = self.rl.closed_loss_weight * len(rewards) / len(asked)
            self.accelerator.backward(weight * loss)
            total += weight * loss.detach().cpu()
            pieces.append({**metrics, "tokens": float(len(rewards))})
        return total, merge_metrics(self.processes.join(pieces))
