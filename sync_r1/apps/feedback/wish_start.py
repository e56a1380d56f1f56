"""A wish is drawn by asking for it and learned for prompts that do not ask, before its reward is practised.

A reward teaches only what is drawn at times. A model that draws a thing at home whenever its prompt names no place
never draws it in the snow, so that a wish for snow finds nothing to reward. Asked for by its word it is drawn at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sync_r1.apps.feedback.anchor import mean_drift
from sync_r1.apps.feedback.beliefs import Wish
from sync_r1.apps.feedback.rating import reward_reader
from sync_r1.config import RLConfig
from sync_r1.data.prompts import drawing_prompt
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.session import Session
from sync_r1.training.parameters import Trainables
from sync_r1.training.prompts import derive_seed
from sync_r1.types import ImageTrace
from sync_r1.world import grammar
from sync_r1.world.render import CONTEXT_VALUES

SHARE = 0.3  # of the time of practice
PICTURES = 48  # of the wish, and as many of other values that are asked for
SEEN = 0.5  # how surely everything that is asked for must be seen in a picture that is learned
ROWS, STEPS = 4, 1  # replayed in every update, of either kind
ANCHOR_WEIGHT = 1.0  # of the KL on what is asked for by its word


@dataclass(frozen=True)
class Own:
    """Own drawings, and the prompts that their log-probabilities are taken under."""

    texts: list[str]
    trace: ImageTrace


class WishStart:
    """Updates that raise the likelihood of own drawings of the wish under prompts that leave it open.

    Args:
        rl: learning rates, sampling and the bound of the gradient's norm.
        wish: attribute and value; drawings leave it open and ask for anything, or nothing, beside it.
    """

    def __init__(self, session: Session, rl: RLConfig, wish: Wish, seed: int = 0) -> None:
        self.session, self.rl, self.seed = session, rl, seed
        self.sampling = rl.sampling()
        attribute, value = wish
        contexts = open_contexts(attribute, seed)
        others = [one for one in CONTEXT_VALUES[attribute] if one != value]
        asked = [{**context, attribute: value} for context in contexts]
        named = [{**row, attribute: others[number % len(others)]} for number, row in enumerate(contexts)]
        self.wished = self._drawn(contexts, asked)
        self.named = self._drawn(named, named)
        self.trainables = Trainables(session.model, rl, learned_row_ids(session.model), seed)
        self.optimizer = self.trainables.optimizer()

    def practise(self, seconds: float, progress: Callable[[int, float], None] | None = None) -> int:
        """Update until the time is over. Returns the number of updates; none where no drawing shows the wish."""
        began, steps, spent = time.monotonic(), 0, 0.0
        try:
            while self.wished.texts and self.named.texts and spent < seconds:
                self.update(steps)
                steps, spent = steps + 1, time.monotonic() - began
                if progress is not None:
                    progress(steps, spent)
        finally:
            self.trainables.rows.release()
        return steps

    def update(self, step: int) -> None:
        """Update number `step`."""
        logps, _, drawn = self._replayed(self.wished, step)
        loss = -(logps * drawn).sum() / drawn.sum().clamp(min=1)
        logps, before, drawn = self._replayed(self.named, step)
        loss = loss + ANCHOR_WEIGHT * mean_drift(logps, before, drawn)
        loss.backward()
        clip_grad_norm_(self.trainables.parameters(), self.rl.max_grad_norm or torch.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _prompt(self, context: dict[str, str]) -> str:
        concept = self.session.concept
        text = grammar.scene_prompt("a photo of", concept.placeholder, context)
        return drawing_prompt(concept.name, text, self.session.tokens.drawing_tokens)

    def _drawn(self, said: Sequence[dict[str, str]], asked: Sequence[dict[str, str]]) -> Own:
        """Drawings of what is asked, with the prompts of what is said; those in which the reader sees all of it."""
        texts = [self._prompt(context) for context in asked]
        seeds = [derive_seed(self.seed, text, number) for number, text in enumerate(texts)]
        trace = self.session.model.generate_image(texts, self.sampling, seeds)
        found = reward_reader().probabilities(self.session.model.decode_image(trace.tokens), asked)
        rows = [row for row, one in enumerate(found) if min(one[name] for name in asked[row]) >= SEEN]
        return Own([self._prompt(said[row]) for row in rows], trace.select(rows))

    def _replayed(self, own: Own, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows and steps: log-probabilities now, those they were drawn with, and which tokens were drawn."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "wish rows", step))
        rows = torch.randperm(len(own.texts), generator=generator)[:ROWS].tolist()
        steps = sorted(torch.randperm(own.trace.timesteps, generator=generator)[:STEPS].tolist())
        trace, texts = own.trace.select(rows), [own.texts[row] for row in rows]
        logps, drawn = self.session.model.image_logps(texts, trace, self.sampling, steps)
        return logps, trace.logps.to(logps.device), drawn


def open_contexts(attribute: str, seed: int) -> list[dict[str, str]]:
    """What drawings ask for beside the thing: each of the other attributes in two of three, any of its values."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(PICTURES):
        row = {name: grammar.choose(rng, values) for name, values in CONTEXT_VALUES.items() if name != attribute}
        found.append({name: value for name, value in row.items() if rng.random() < 2 / 3})
    return found
