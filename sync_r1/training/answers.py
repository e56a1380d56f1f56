"""Given answers as tokens, and how likely a model is to give each of a few."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sync_r1.models.base import UnifiedModel
from sync_r1.types import Sampling, TextContext


def answer_ids(model: UnifiedModel, answers: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Answers as the model would write them: (ids [B, L] long, mask [B, L] bool), end token included, padded behind.

    Raises ValueError if the tokenizer names no end token.
    """
    tokenizer = model.tokenizer
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("the model's tokenizer has no eos_token; set it, it ends every answer")
    rows = [
        [*tokenizer(f" {text.strip()}", add_special_tokens=False, split_special_tokens=True)["input_ids"], end]
        for text in answers
    ]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [end] * (width - len(row)) for row in rows], device=model.device)
    return ids, torch.arange(width, device=model.device) < torch.tensor(
        [[len(row)] for row in rows], device=model.device
    )


def option_logps(
    model: UnifiedModel,
    contexts: Sequence[TextContext],
    before: Sequence[str],
    options: Sequence[str],
    normalised: bool = True,
) -> Tensor:
    """Log-probability of every option as the end of an answer: fp32 [B, A], differentiable.

    Args:
        contexts: B questions.
        before: what each answer says before it decides, "" for nothing; it is read, and has no part in the result.
        options: A closed answers, such as yes and no.
        normalised: over the options; else among all that the model could write.
    """
    answers = [f"{start} {option}".strip() for start in before for option in options]
    ids, mask = answer_ids(model, answers)
    logps, _ = model.text_logps([context for context in contexts for _ in options], ids, mask, Sampling())
    grouped = ids.view(len(contexts), len(options), -1)
    written = mask.view(grouped.shape)
    shared = (grouped == grouped[:, :1]).all(1) & written.all(1)
    decided = written & ~shared.cumprod(1).bool().unsqueeze(1)
    found = (logps.view(grouped.shape) * decided).sum(2)
    if normalised:
        return found.log_softmax(1)
    return found
