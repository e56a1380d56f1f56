"""Two rewards of your own: sharp pictures and short texts.

Run from the repository root; functions are named by their dotted path:

    sync-r1 train --recipe demo --data world --concept bo run.name=custom \\
        rl.custom_rewards.sharp.function=examples.custom_reward.sharpness rl.reward_weights.sharp=0.2 \\
        rl.custom_rewards.brief.function=examples.custom_reward.brevity rl.custom_rewards.brief.part=text
        rl.reward_weights.brief=0.1

A reward is called with keywords: prompts, completions, drawing_prompts, images, concept, kind and answer. Take what you
need, let `**columns` take the rest, and return one number per row, or None where you cannot score. `async def` works as
well.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONG = 12  # words


def sharpness(*, images: Tensor, **columns: Any) -> list[float]:
    """Mean strength of edges, in [0, 1): 0 is one flat colour, 0.5 a quarter of the range from pixel to pixel.

    Args:
        images: uint8 [B, 3, H, W].
    """
    grey = images.float().mean(dim=1, keepdim=True) / 255
    laplace = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=grey.device)
    edges = F.conv2d(grey, laplace.view(1, 1, 3, 3)).abs().mean(dim=(1, 2, 3))
    return (edges / (edges + 0.25)).tolist()


def brevity(*, completions: list[str], **columns: Any) -> list[float | None]:
    """1 for one word, 0 from twelve on. An empty text is no short text: it is not scored."""
    counts = [len(text.split()) for text in completions]
    return [max(0.0, 1 - (count - 1) / (LONG - 1)) if count else None for count in counts]
