"""The optimizer of every training, and what a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

OPTIMIZER = torch.optim.AdamW


def make_optimizer(
    groups: Sequence[dict[str, Any]],
    after_step: Callable[..., None],
    make: Callable[..., torch.optim.Optimizer] = OPTIMIZER,
    **settings: Any,
) -> Any:
    """The optimizer of these groups of parameters, those without parameters left out.

    Args:
        groups: dictionaries with params, lr and other settings of a group.
        after_step: called after every step, as `register_step_post_hook` describes.
        make: the class, or one that wraps it.
        settings: what holds for all groups, and what `make` wants beside.
    """
    optimizer = make([group for group in groups if group["params"]], **settings)
    optimizer.register_step_post_hook(after_step)
    return optimizer


def state_shapes(parameter: nn.Parameter) -> dict[str, torch.Size]:
    """Name → shape of what the optimizer remembers of a parameter after its first step."""
    return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
