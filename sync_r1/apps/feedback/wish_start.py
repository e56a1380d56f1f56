"""A wish is drawn by asking for it and learned for prompts that do not ask, before its reward is practised.

A reward teaches only what is drawn at times. A model that draws a thing at home whenever its prompt names no place
never draws it in the snow, so that a wish for snow finds nothing to reward. Asked for by its word it is drawn at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sync_r1.apps.feedback.beliefs import Wish
from sync_r1.apps.feedback.rating import reward_reader
from sync_r1.config import RLConfig
from sync_r1.data.prompts import drawing_prompt
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.session import Session
from sync_r1.training.parameters import Trainables
from sync_r1.training.prompts import Prompt, derive_seed
from sync_r1.types import ImageTrace
from sync_r1.world import grammar
from sync_r1.world.render import CONTEXT, CONTEXT_VALUES

SHARE = 0.4  # of the time of practice
PICTURES = 24  # of the wish, and as many of other values that are asked for
SEEN = 0.5  # how surely the wish must be seen in a picture that is learned
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
        prompts: of the thing, to spell out and draw; those that ask for the wished attribute are left out.
    """

    def __init__(self, session: Session, rl: RLConfig, wish: Wish, prompts: Sequence[Prompt], seed: int = 0) -> None:
        self.session, self.rl, self.seed = session, rl, seed
        self.sampling = rl.sampling()
        attribute, value = wish
        contexts = open_contexts(session, attribute, prompts)
        others = [one for one in CONTEXT_VALUES[attribute] if one != value]
        wished = [self._prompt(context) for context in contexts]
        asked = [self._prompt({**context, attribute: value}) for context in contexts]
        named = [self._prompt({**row, attribute: others[n % len(others)]}) for n, row in enumerate(contexts)]
        self.wished = self._seen(Own(wished, self._draw(asked, "wish")), wish)
        self.named = Own(named, self._draw(named, "named"))
        self.trainables = Trainables(session.model, rl, learned_row_ids(session.model), seed)
        self.optimizer = self.trainables.optimizer()

    def practise(self, seconds: float, progress: Callable[[int, float], None] | None = None) -> int:
        """Update until the time is over. Returns the number of updates; none where no drawing shows the wish."""
        began, steps, spent = time.monotonic(), 0, 0.0
        try:
            while self.wished.texts and spent < seconds:
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
        drift = (logps - before).square() / 2  # KL to second order
        loss = loss + ANCHOR_WEIGHT * (drift * drawn).sum() / drawn.sum().clamp(min=1)
        loss.backward()
        clip_grad_norm_(self.trainables.parameters(), self.rl.max_grad_norm or torch.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _prompt(self, context: dict[str, str]) -> str:
        concept = self.session.concept
        text = grammar.scene_prompt("a photo of", concept.placeholder, context)
        return drawing_prompt(concept.name, text, self.session.tokens.drawing_tokens)

    def _draw(self, texts: Sequence[str], purpose: str) -> ImageTrace:
        seeds = [derive_seed(self.seed, purpose, number) for number in range(len(texts))]
        return self.session.model.generate_image(list(texts), self.sampling, seeds)

    def _seen(self, own: Own, wish: Wish) -> Own:
        """Those in which the reward's reader sees the wish."""
        attribute, value = wish
        images = self.session.model.decode_image(own.trace.tokens)
        found = reward_reader().probabilities(images, [{attribute: value} for _ in own.texts])
        rows = [row for row, one in enumerate(found) if one[attribute] >= SEEN]
        return Own([own.texts[row] for row in rows], own.trace.select(rows))

    def _replayed(self, own: Own, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows and steps: log-probabilities now, those they were drawn with, and which tokens were drawn."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "wish rows", step))
        rows = torch.randperm(len(own.texts), generator=generator)[:ROWS].tolist()
        steps = sorted(torch.randperm(own.trace.timesteps, generator=generator)[:STEPS].tolist())
        trace, texts = own.trace.select(rows), [own.texts[row] for row in rows]
        logps, drawn = self.session.model.image_logps(texts, trace, self.sampling, steps)
        return logps, trace.logps.to(logps.device), drawn


def open_contexts(session: Session, attribute: str, prompts: Sequence[Prompt]) -> list[dict[str, str]]:
    """What the prompts, spelled out by the model, ask for beside the thing, where they leave the attribute open."""
    texts = session.rewrites([prompt.prompt for prompt in prompts])
    found = [{name: value for name, value in grammar.parse(text).items() if name in CONTEXT} for text in texts]
    contexts = [context for context in found if attribute not in context] or [{}]
    return [contexts[number % len(contexts)] for number in range(PICTURES)]
