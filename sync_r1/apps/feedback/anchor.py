"""Keeps the image part where it was while the text part learns: KL to the snapshot on pictures that the snapshot drew.

A few own drawings are made once, before anything is learned, and keep the log-probabilities they were drawn with. The
replay of some of their steps then estimates KL(snapshot ‖ model), without a second model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sync_r1.data.prompts import compose, drawing_prompt
from sync_r1.session import Session
from sync_r1.training.prompts import Prompt, derive_seed
from sync_r1.types import Sampling

PICTURES = 8  # drawn once
ROWS, STEPS = 3, 1  # replayed in every update


class DrawingAnchor:
    """KL to the snapshot on own drawings of the thing's prompts.

    Args:
        prompts: to spell out and draw; "a photo of" the thing is always one of the pictures.
        sampling: how pictures are drawn and replayed.
    """

    def __init__(self, session: Session, prompts: Sequence[Prompt], sampling: Sampling, seed: int = 0) -> None:
        self.session, self.sampling, self.seed = session, sampling, seed
        name, tokens = session.concept.name, session.tokens.drawing_tokens
        chosen = list(prompts)[:: max(len(prompts) // PICTURES, 1)][: PICTURES - 1]
        texts = [f"a photo of {session.concept.placeholder}"]
        for prompt, rewrite in zip(chosen, session.rewrites([one.prompt for one in chosen]), strict=True):
            texts.append(compose("reason", name, prompt.prompt, rewrite))
        self.texts = [drawing_prompt(name, text, tokens) for text in texts]
        seeds = [derive_seed(seed, "anchor", number) for number in range(len(texts))]
        self.trace = session.model.generate_image(self.texts, sampling, seeds)

    def loss(self, step: int) -> Tensor:
        """`mean_drift` of some rows and steps, which are others in every update `step`."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "anchor rows", step))
        rows = torch.randperm(len(self.texts), generator=generator)[:ROWS].tolist()
        steps = sorted(torch.randperm(self.trace.timesteps, generator=generator)[:STEPS].tolist())
        trace = self.trace.select(rows)
        texts = [self.texts[row] for row in rows]
        logps, committed = self.session.model.image_logps(texts, trace, self.sampling, steps)
        return mean_drift(logps, trace.logps.to(logps.device), committed)


def mean_drift(logps: Tensor, before: Tensor, drawn: Tensor) -> Tensor:
    """The mean over tokens of (log p_snapshot − log p)² / 2, which is KL to second order.

    Args:
        logps, before: log-probabilities now and when they were drawn, both of one shape.
        drawn: bool of that shape; tokens that were not drawn do not count.
    """
    drift = (logps - before).square() / 2
    return (drift * drawn).sum() / drawn.sum().clamp(min=1)
