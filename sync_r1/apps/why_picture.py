"""Why a picture looks as it does: what each word and each soft token did for each of its image tokens, and how it grew.

Credit is by removal, as for texts (apps/why.py): log p(image token | prompt) − log p(image token | prompt without the
word), in nats, with every other token as it was when this one was drawn. Two words that say the same hide one another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sync_r1.data.prompts import drawing_prompt
from sync_r1.drawings import Drawing, to_images
from sync_r1.session import Session
from sync_r1.types import ImageTrace

MOST_WORDS = 24  # of a prompt: each costs a replay of the picture
_LITTLE = frozenset("a an and as at by for from his her in into its of on or our the their this to under with".split())
_WORD = re.compile(r"[^\s,]+,?")


@dataclass(frozen=True)
class WordCredit:
    """What one word, with the little words before it, did for a picture."""

    words: str
    cells: np.ndarray = field(repr=False, compare=False)  # [N] fp32, nats for each image token, row by row

    @property
    def total(self) -> float:
        """In nats."""
        return float(self.cells.sum())

    def share(self, inside: np.ndarray) -> float:
        """The share of what speaks for the word (nats above 0) that lies in the cells `inside` [N] bool."""
        positive = self.cells.clip(min=0)
        return float(positive[inside].sum() / max(float(positive.sum()), 1e-9))


@dataclass(frozen=True)
class TokenCredit:
    """What one soft token did for a picture, in nats over all its image tokens."""

    token: str
    nats: float


def split_words(prompt: str) -> list[str]:
    """A prompt in pieces that end in a word with a meaning of its own: "a photo", "of <bo>", "wearing a crown".

    The pieces put together with spaces are the prompt.
    """
    pieces: list[str] = []
    open_words: list[str] = []
    for word in _WORD.findall(prompt):
        open_words.append(word)
        plain = word.rstrip(",").lower()
        if plain not in _LITTLE and not (plain.endswith("ing") and len(plain) > 4):
            pieces.append(" ".join(open_words))
            open_words = []
    if open_words:
        pieces.append(" ".join(open_words))
    return pieces


def word_credit(session: Session, drawing: Drawing) -> list[WordCredit]:
    """What each word of the prompt did, in the order of the prompt. One replay of the picture per word.

    Raises ValueError for a prompt of more than 24 such pieces, or of one.
    """
    pieces = split_words(drawing.prompt)
    if not 2 <= len(pieces) <= MOST_WORDS:
        raise ValueError(
            f"the prompt has {len(pieces)} words to take away; it must have 2 to {MOST_WORDS}: each costs a replay"
        )
    shorter = []
    for number in range(len(pieces)):
        shorter.append(" ".join(piece for place, piece in enumerate(pieces) if place != number))
    tokens = session.tokens.drawing_tokens
    prompts = [drawing_prompt(session.concept.name, text, tokens) for text in [" ".join(pieces), *shorter]]
    logps = token_likelihoods(session, drawing, prompts)
    credits = (logps[:1] - logps[1:]).numpy()
    return [WordCredit(piece.rstrip(","), row) for piece, row in zip(pieces, credits, strict=True)]


def token_credit(session: Session, drawing: Drawing) -> list[TokenCredit]:
    """What each soft token of drawing prompts did, in their order; none where the prompt lacks the concept."""
    name, tokens = session.concept.name, session.tokens.drawing_tokens
    if session.concept.placeholder not in drawing.prompt or not tokens:
        return []
    prompts = [drawing_prompt(name, drawing.prompt, tokens)]
    for number in range(len(tokens)):
        prompts.append(drawing_prompt(name, drawing.prompt, [*tokens[:number], *tokens[number + 1 :]]))
    logps = token_likelihoods(session, drawing, prompts).sum(1)
    return [TokenCredit(token, float(nats)) for token, nats in zip(tokens, logps[0] - logps[1:], strict=True)]


@torch.no_grad()
def token_likelihoods(session: Session, drawing: Drawing, prompts: Sequence[str]) -> Tensor:
    """log p of every image token at the step that drew it, under each of several drawing prompts: fp32 [P, N].

    Tokens that were given and kept have 0.
    """
    size, trace, parts = session.options.batch_size, drawing.trace, []
    steps = range(trace.timesteps)
    for start in range(0, len(prompts), size):
        some = prompts[start : start + size]
        logps, _ = session.model.image_logps(some, trace.select([0] * len(some)), drawing.sampling, list(steps))
        parts.append(logps.cpu())
    return torch.cat(parts)


@torch.no_grad()
def film_strip(session: Session, trace: ImageTrace) -> list[Image.Image]:
    """What the picture looked like before each step, and finished: T + 1 pictures of one row.

    Cells that were open show the code that was likeliest then. Only the finished picture in families that draw in one
    order and foretell nothing.
    """
    states = [trace.tokens]
    if trace.fills is not None:
        for step in reversed(range(trace.timesteps)):
            states.append(torch.where(trace.known_before(step), trace.tokens, trace.likely(step)))
    pictures = session.model.decode_image(torch.cat(states[::-1]))
    return to_images(pictures)


def sureness(drawing: Drawing) -> np.ndarray:
    """[N] fp32: log-probability of every image token at the step that drew it; 0 for kept ones."""
    return drawing.trace.logps[0].cpu().numpy()


def drawn_at(drawing: Drawing) -> np.ndarray:
    """[N] int: the step, from 0 on, that drew each image token; −1 for kept ones."""
    return drawing.trace.unmask_step[0].cpu().numpy()
