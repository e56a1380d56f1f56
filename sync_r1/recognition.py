"""Recognition by drawing: a picture shows the concept when the image part finds it likely under the concept's name.

P pictures, N image tokens. A_n is the log-probability of a picture's token n under "a photo of <name>", followed by the
look that the info line tells where people ask, B_n under "a photo of a dog", the class noun. A picture shows the
concept when its tokens are what the name leads to expect, and more than what the class alone does. Which tokens count
is learned from the concept's photos and a pool of others:

    E_n = A_n − 0.7 B_n,  w_n ∝ max(0, mean over photos E_n − mean over pool E_n) / (sd_n + ½),    score = Σ_n w_n E_n

sd_n is the spread of E_n over the photos: tokens that vary whatever the concept does (the place, a hat) count little.
With the whole of B, a picture of another class would be as unlikely under both prompts, and pass. A picture shows the
concept when its score is above the middle between the photo with the lowest and the other picture with the highest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from sync_r1.data import Concept
from sync_r1.data.phrases import with_article
from sync_r1.data.prompts import drawing_prompt, with_looks
from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.models.batches import batches
from sync_r1.scorers.text import DECISIONS, recognition, split_decision
from sync_r1.types import Sampling

CLASS_SHARE = 0.7  # how much of B is taken off; chosen on tuning concepts, docs/log.md
SPREAD_FLOOR = 0.5  # nats; keeps a token that happens to vary little over a few photos from counting alone
UNSURE = 0.1  # margins below it are small in any case: then the words decide

How = Literal["words", "drawing", "both"]
HOW: tuple[How, ...] = get_args(How)


@dataclass(frozen=True)
class Recognition:
    """Whether the concept is in a picture, and why."""

    present: bool
    answer: str  # the model's words, or how sure the drawing is, or both
    words: bool | None = None  # the vote in words, where it was asked for
    margin: float | None = None  # of the drawing, where it was asked for: above 0 is yes, 1 as sure as of a photo


@dataclass(frozen=True)
class Calibration:
    """What separates a concept's photos from other pictures."""

    weights: Tensor  # [N] fp32, sum 1; all 0 when no token does
    threshold: float  # a picture with a higher score shows the concept
    scale: float  # nats from the threshold to the mean of the photos; infinite when these score no higher than others
    unsure: float = UNSURE  # smaller margins decide nothing: pictures of other things reach them

    def margins(self, evidence: Tensor) -> Tensor:
        """E of pictures [P, N] → [P]: above 0 shows the concept, 1 as surely as its photos do on average.

        All are 0 when the photos score no higher than others: the model cannot draw the concept yet.
        """
        return (evidence @ self.weights - self.threshold) / self.scale


@torch.no_grad()
def token_logps(model: UnifiedModel, prompt: str, codes: Tensor, batch_size: int) -> Tensor:
    """Log-probability of every image token of pictures [P, N] under a drawing prompt: fp32 [P, N], one pass a picture.

    Which tokens are in view for which others says `UnifiedModel.scoring_trace`.
    """
    parts = []
    for part in codes.split(batch_size):
        trace = model.scoring_trace(part)
        views = len(trace.tokens) // len(part)
        prompts = [prompt] * len(trace.tokens)
        logps, _ = model.image_logps(prompts, trace, Sampling(generation_timesteps=trace.timesteps), [0])
        parts.append(logps.view(views, *part.shape).sum(0).cpu())
    return torch.cat(parts)


def picture_evidence(
    model: UnifiedModel,
    concept: Concept,
    tokens: ConceptTokens,
    images: Iterable[Image.Image],
    batch_size: int,
    described: bool = False,
) -> Tensor:
    """E of every image token of pictures, fp32 [P, N]: what the name leads to expect, and the class does not.

    Args:
        described: whether the look that the info line tells follows the name.
    """
    text = f"a photo of {concept.placeholder}"
    if described:
        text = with_looks(text, [concept], least=1)
    named = drawing_prompt(concept.name, text, tokens.drawing_tokens)
    plain = f"a photo of {with_article(concept.class_noun)}"
    evidence = [torch.zeros(0, model.num_image_tokens)]
    for part in batches(images, batch_size):
        codes = model.encode_image(part)
        logps = [token_logps(model, prompt, codes, batch_size) for prompt in (named, plain)]
        evidence.append(token_evidence(*logps))
    return torch.cat(evidence)


def token_evidence(named: Tensor, plain: Tensor) -> Tensor:
    """E = A − 0.7 B of every token: A and B [P, N] → [P, N]."""
    return named - CLASS_SHARE * plain


def token_weights(photos: Tensor, pool: Tensor) -> Tensor:
    """E of the concept's photos [P, N] and of other pictures [M, N] → weights [N], which sum to 1 or are all 0."""
    gain = (photos.mean(0) - pool.mean(0)).clamp(min=0) / (photos.std(0, correction=0) + SPREAD_FLOOR)
    return gain / gain.sum().clamp(min=1e-12)


def calibrate(photos: Tensor, pool: Tensor) -> Calibration:
    """E of the concept's photos [P, N] and of a pool of other pictures [M, N] → what separates them.

    Raises ValueError when there are fewer than two of either.
    """
    for evidence, what in ((photos, "photos of the concept"), (pool, "other pictures")):
        if len(evidence) < 2:
            raise ValueError(f"recognition by drawing has {len(evidence)} {what} to learn from; it needs at least 2")
    weights = token_weights(photos, pool)
    known, others = photos @ weights, pool @ weights
    threshold, distance = float(known.min() + others.max()) / 2, float(known.mean() - others.mean())
    if distance > 0:
        scale = max(float(known.mean()) - threshold, distance / 10)
    else:
        scale = math.inf
    return Calibration(weights, threshold, scale, max(UNSURE, (float(others.max()) - threshold) / scale))


def all_recognised(
    answers: Sequence[str] | None, margins: Sequence[float] | None, unsure: float, looking: bool
) -> list[Recognition]:
    """Every picture's votes, from the answers in words, the margins of the drawing, or both.

    Without `looking` answers show the decision only.
    """
    found = []
    for number in range(len(answers or margins or ())):
        answer = None
        if answers is not None:
            answer = answers[number]
            if not looking:
                answer = split_decision(answer, DECISIONS)[1] or answer
        margin = None
        if margins is not None:
            margin = margins[number]
        found.append(recognised(answer, margin, unsure))
    return found


def recognised(answer: str | None, margin: float | None, unsure: float = UNSURE) -> Recognition:
    """One picture's votes: the model's answer in words and the drawing's margin, or only one of them.

    An answer is a yes when it holds the word yes and not the word no.
    """
    if answer is None:
        words = None
    else:
        words = bool(recognition(answer, "Yes.")) and not recognition(answer, "No.")
    if margin is None:
        drawn = ""
    else:
        drawn = f"by drawing {'yes' if margin > 0 else 'no'}, margin {margin:+.2f}"
    answers = "; ".join(part for part in (answer, drawn) if part)
    if margin is None:
        return Recognition(bool(words), answers, words)
    return Recognition(margin > 0 if words is None else combine(words, margin, unsure), answers, words, margin)


def combine(words: bool, margin: float, unsure: float) -> bool:
    """Both votes: the drawing decides, unless its margin is smaller than `unsure`; then the words do."""
    if abs(margin) < unsure:
        return words
    return margin > 0
