"""Which rows of the concept learn in which stage, from what, and how (UniCTokens, arXiv 2505.14671)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.models.concept_tokens import learned_row_ids


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. Of a concept's soft tokens the first `read` are shared, those up to `draw` join for drawing, the rest
    is for reading.
    """

    name: str
    epochs: int
    weight_decay: float
    eps: float
    understanding_batch: int = 0  # 0: no understanding stream
    drawing_batch: int = 0  # 0: no drawing stream
    crops: bool = False  # close-ups, and random squares of them; else whole photos
    flips: bool = False  # pictures are mirrored half of the time

    def learned(self, tokens: ConceptTokens) -> list[str]:
        """Tokens whose rows this stage moves: soft tokens and, where text is learned too, the name."""
        soft = {
            "1": tokens.tokens[: tokens.read],
            "2": tokens.drawing_tokens,
            "3": tokens.tokens[len(tokens.drawing_tokens) :],
            "photos": tokens.drawing_tokens,
        }
        name = []
        if self.understanding_batch:
            name = [tokens.placeholder]
        return name + soft.get(self.name, tokens.tokens)

    def introduction(self, tokens: ConceptTokens) -> list[str]:
        """Soft tokens of understanding prompts: the last ones join in stage 3."""
        if self.name in ("1", "2"):
            return tokens.tokens[: tokens.read]
        return tokens.reading_tokens


STAGES = {
    stage.name: stage
    for stage in (
        # Stage 2 was started from epoch 15 of stage 1's 20; the rate is constant, so the last five are left out here.
        Stage(name="1", epochs=15, weight_decay=1e-4, eps=1e-6, understanding_batch=4),
        Stage(
            name="2",
            epochs=20,
            weight_decay=1e-3,
            eps=1e-8,
            understanding_batch=1,
            drawing_batch=1,
            crops=True,
            flips=True,
        ),
        Stage(name="3", epochs=20, weight_decay=1e-3, eps=1e-8, understanding_batch=1, drawing_batch=1, flips=True),
        Stage(name="photos", epochs=60, weight_decay=0.0, eps=1e-8, drawing_batch=4),
        Stage(name="baseline", epochs=20, weight_decay=0.0, eps=1e-8, understanding_batch=4, drawing_batch=4),
    )
}


def stage_row_ids(model: UnifiedModel, stage: Stage, tokens: ConceptTokens) -> Tensor:
    """Vocabulary ids [K] long that the stage moves. A name taken from the pool stays, as in RL (`learned_row_ids`).

    Raises ValueError when the concept has no soft tokens of the kind the stage is for.
    """
    learned = stage.learned(tokens)
    drawing = "model.drawing_tokens"
    missing = {"1": "model.reading_tokens", "2": drawing, "3": f"model.num_tokens above {drawing}", "photos": drawing}
    if stage.name in missing and set(learned) <= {tokens.placeholder}:
        raise ValueError(
            f"stage {stage.name} has no soft tokens of <{tokens.name}> to train; give it some with "
            f"{missing[stage.name]} (UniCTokens: model.num_tokens=32 model.reading_tokens=16 model.drawing_tokens=24)"
        )
    vocabulary, free = model.tokenizer.get_vocab(), set(learned_row_ids(model).tolist())
    return torch.tensor([vocabulary[token] for token in learned if vocabulary[token] in free], dtype=torch.long)
