"""The two token-level losses, over the contract of any unified model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sync_r1.models.base import UnifiedModel
from sync_r1.training.answers import answer_ids
from sync_r1.types import Sampling, TextContext


def understanding_loss(model: UnifiedModel, contexts: Sequence[TextContext], answers: Sequence[str]) -> Tensor:
    """Next-token cross-entropy on the answers only: a mean over all answer tokens of the batch. Scalar, fp32."""
    ids, mask = answer_ids(model, answers)
    logps, _ = model.text_logps(contexts, ids, mask, Sampling())
    return -logps[mask].mean()


def drawing_loss(
    model: UnifiedModel,
    prompts: Sequence[str],
    codes: Tensor,
    seeds: Sequence[int],
    dropped: Sequence[bool] | None = None,
) -> Tensor:
    """Cross-entropy on hidden codes [B, N] of pictures, a mean over all that are hidden (MaskGIT, arXiv 2202.04200, eq.
    2). Scalar, fp32.

    Which are hidden in row b follows from seeds[b]. Rows that are `dropped` are asked for nothing, as guidance does.
    """
    trace, steps = model.training_trace(codes, seeds)
    logps, counted = model.image_logps(prompts, trace, Sampling(generation_timesteps=trace.timesteps), steps, dropped)
    return -logps[counted].mean()
