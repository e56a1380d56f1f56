"""Practice of rewriting: the model's own rewrites of the thing's prompts, pushed to what their reward says.

What a prompt can mean is one of a few facts, so no update needs a group of samples of its own: the distinct rewrites
among some samples are the answers there are (`rl.closed_answers`). With its loss "tokens" the model comes to write
every meaning as often as it is believed, and nothing else. Probabilities that are normalised over the rewrites would
leave open how likely all of them are together: such practice ended in texts that none of them was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sync_r1.apps.feedback.anchor import DrawingAnchor
from sync_r1.apps.feedback.beliefs import phrases
from sync_r1.apps.feedback.rewards import WordReward
from sync_r1.config import RLConfig
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.rl.closed_answers import closed_loss
from sync_r1.rl.loss import kl_k3
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.training.parameters import Trainables
from sync_r1.training.prompts import Prompt, context, derive_seed, prompt_stream
from sync_r1.types import Sampling, TextContext

DRAWING_WEIGHT = 1.0  # of the KL to the snapshot on own drawings, beside `rl.text_loss_weight`
LEAST_RATE = 0.1  # of the learning rates, at the end
USES = 4  # of a prompt's samples before new ones are drawn
NO_REWRITE = -1e4  # log-probability where a prompt has fewer rewrites than another


@dataclass(frozen=True)
class Candidates:
    """The distinct rewrites of one prompt among some samples, with their rewards."""

    texts: list[str]
    rewards: list[float]


class RewritePractice:
    """Updates on the thing's own prompts, with questions about its photos in between and own drawings as an anchor.

    Args:
        rl: learning rates, samples per prompt (`num_generations`), prompts per update and the share of questions among
            them (`look_fraction`); `beta` weighs KL(model ‖ snapshot) on the answers to the questions.
        prompts: to rewrite; what would be right is not known.
        questions: replayed with their true answers.
    """

    def __init__(
        self,
        session: Session,
        rl: RLConfig,
        word_reward: WordReward,
        prompts: Sequence[Prompt],
        questions: Sequence[Prompt],
        seed: int = 0,
    ) -> None:
        self.session, self.rl, self.word_reward, self.seed = session, rl, word_reward, seed
        self.questions = list(questions)
        self.by_word: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            self.by_word.setdefault(phrases(prompt.prompt)[0], []).append(prompt)
        self.codes: dict[Path, Tensor] = {}
        self.snapshot = self._snapshot(questions)
        self.anchor = DrawingAnchor(session, prompts, rl.sampling(), seed)
        self.trainables = Trainables(session.model, rl, learned_row_ids(session.model), seed)
        self.optimizer = self.trainables.optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.known: dict[str, tuple[int, Candidates]] = {}  # prompt → uses left, candidates

    def update(self, step: int, left: float = 1.0) -> None:
        """Update number `step`. The learning rates fall with `left`, the share of the time that is left."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * max(left, LEAST_RATE)
        rewrites, questions = self._chosen(step)
        losses = []
        if rewrites:
            losses.append(self.rl.text_loss_weight * self._rewrite_loss(rewrites, step))
        if questions:
            losses.append(self._question_loss(questions))
        losses.append(DRAWING_WEIGHT * self.anchor.loss(step))
        torch.stack(losses).sum().backward()
        clip_grad_norm_(self.trainables.parameters(), self.rl.max_grad_norm or torch.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _chosen(self, step: int) -> tuple[list[Prompt], list[Prompt]]:
        """The prompts of an update: as many of each word as of any other, so that none is unlearned for another's
        sake; and questions."""
        count = max(round(self.rl.prompts_per_step * (1 - self.rl.look_fraction) / len(self.by_word)), 1)
        rewrites: list[Prompt] = []
        for prompts in self.by_word.values():
            rewrites += self._stream(prompts, count, step)
        questions = self._stream(self.questions, round(self.rl.prompts_per_step * self.rl.look_fraction), step)
        return rewrites, questions

    def _stream(self, prompts: Sequence[Prompt], count: int, step: int) -> list[Prompt]:
        if not prompts or not count:
            return []
        shares: dict[str, float] = {prompts[0].kind: 1.0}
        return prompt_stream(prompts, count=count, shares=shares, seed=self.seed, first=step * count)

    def close(self) -> None:
        """Let go of the vocabulary's matrices."""
        self.trainables.rows.release()

    def _rewrite_loss(self, prompts: Sequence[Prompt], step: int) -> Tensor:
        """Cross-entropy between the rewards of every prompt's rewrites, as shares, and how likely the model is to
        write each."""
        found = self._candidates(prompts, step)
        contexts, texts = [], []
        for prompt, row in zip(prompts, found, strict=True):
            contexts += [self._context(prompt)] * len(row.texts)
            texts += row.texts
        logps = self._logps(contexts, texts).sum(1)
        widest = max(len(row.texts) for row in found)
        table = logps.new_full((len(found), widest), NO_REWRITE)
        rewards = torch.zeros(table.shape)
        parts = logps.split([len(row.texts) for row in found])
        rows = []
        for place, (row, part) in enumerate(zip(found, parts, strict=True)):
            rows.append(torch.cat([part, table[place, len(part) :]]))
            rewards[place, : len(part)] = torch.tensor(row.rewards)
        return closed_loss(torch.stack(rows), rewards, "tokens")[0]

    def _question_loss(self, questions: Sequence[Prompt]) -> Tensor:
        """Negative log-likelihood of the true answers, and KL to the snapshot on them."""
        losses = []
        for question, logps in zip(questions, self._answered(questions), strict=True):
            drift = kl_k3(logps, self.snapshot[id(question)])
            losses.append((self.rl.beta * drift - logps).mean())
        return torch.stack(losses).mean()

    def _answered(self, questions: Sequence[Prompt]) -> list[Tensor]:
        """Log-probability of every token of each true answer: one fp32 row per question, without padding."""
        contexts = [self._context(question) for question in questions]
        logps = self._logps(contexts, [question.answer for question in questions])
        lengths = answer_ids(self.session.model, [question.answer for question in questions])[1].sum(1).tolist()
        return [row[:length] for row, length in zip(logps, lengths, strict=True)]

    def _candidates(self, prompts: Sequence[Prompt], step: int) -> list[Candidates]:
        """The rewrites of each prompt, sampled anew after some uses."""
        empty = [prompt for prompt in prompts if self.known.get(prompt.prompt, (0,))[0] == 0]
        for prompt, sampled in zip(empty, self._sample(empty, step), strict=True):
            self.known[prompt.prompt] = USES, sampled
        found = []
        for prompt in prompts:
            left, candidates = self.known[prompt.prompt]
            self.known[prompt.prompt] = left - 1, candidates
            found.append(candidates)
        return found

    @torch.no_grad()
    def _sample(self, prompts: Sequence[Prompt], step: int) -> list[Candidates]:
        if not prompts:
            return []
        count = self.rl.num_generations
        seeds = [derive_seed(self.seed, step, prompt.prompt, number) for prompt in prompts for number in range(count)]
        contexts = [self._context(prompt) for prompt in prompts for _ in range(count)]
        written = self.session.model.generate_text(contexts, self.rl.sampling(), seeds).texts
        found = []
        for place, prompt in enumerate(prompts):
            before = self.known.get(prompt.prompt, (0, Candidates([], [])))[1].texts  # a rare right one stays
            texts = list(dict.fromkeys([*before, *written[place * count : (place + 1) * count]]))
            asked, kinds = [prompt.prompt] * len(texts), ["reason"] * len(texts)
            scores = self.word_reward(prompts=asked, completions=texts, kind=kinds)
            found.append(Candidates(texts, [score or 0.0 for score in scores]))
        return found

    @torch.no_grad()
    def _snapshot(self, questions: Sequence[Prompt]) -> dict[int, Tensor]:
        """What the model gives the true answers before it learns, by the question's id."""
        size, rows = self.session.options.batch_size, []
        for start in range(0, len(questions), size):
            rows += self._answered(questions[start : start + size])
        return {id(question): row for question, row in zip(questions, rows, strict=True)}

    def _context(self, prompt: Prompt) -> TextContext:
        return context(self.session.model, prompt, self.codes)

    def _logps(self, contexts: Sequence[TextContext], texts: Sequence[str]) -> Tensor:
        """fp32 [B, L], differentiable, 0 behind the end of a text."""
        ids, mask = answer_ids(self.session.model, texts)
        return self.session.model.text_logps(contexts, ids, mask, Sampling())[0]
