"""Train the world's MAGVIT-v2 tokenizer: 32×32 pixels ↔ 8×8 codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.showo.magvit import Magvit, MagvitConfig
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.readers import to_pixels
from sync_r1.world.render import random_picture


def random_pictures(rng: np.random.Generator, count: int) -> Tensor:
    """[count, 3, 32, 32] float in [−1, 1] of one, of two and of things alone."""
    return to_pixels(render_batch([random_picture(rng) for _ in range(count)]))


def edge_loss(reconstruction: Tensor, pixels: Tensor) -> Tensor:
    """L1 between horizontal and vertical pixel differences: what keeps pixel art crisp."""
    horizontal = F.l1_loss(reconstruction.diff(dim=3), pixels.diff(dim=3))
    return horizontal + F.l1_loss(reconstruction.diff(dim=2), pixels.diff(dim=2))


def train_tokenizer(
    config: MagvitConfig, schedule: Schedule, folder: Path, batch_size: int = 64
) -> tuple[Magvit, dict[str, float]]:
    """Train from scratch (or go on from `folder`) with L1 + L2 + edges + commitment + LFQ entropy."""
    torch.manual_seed(schedule.seed)
    model = Magvit(config)

    def loss(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = random_pictures(rng, batch_size)
        reconstruction, parts = model(pixels)
        fidelity = (
            parts["reconstruction"] + F.mse_loss(reconstruction, pixels) + 0.25 * edge_loss(reconstruction, pixels)
        )
        total = fidelity + 0.05 * parts["commitment"] + 0.01 * (parts["sample_entropy"] - parts["batch_entropy"])
        return total, {"l1": parts["reconstruction"].item(), "batch_entropy": parts["batch_entropy"].item()}

    return model, run_stage("tokenizer", model, loss, schedule, folder)
