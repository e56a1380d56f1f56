"""Plain data parallelism: every process keeps all weights, and gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sync_r1.training.parameters import Reference, Trainables


class DataParallel:
    """Every process keeps all weights; gradients are averaged."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def gather(self) -> None:
        """Make weights whole, before anything is computed with them."""

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over processes."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.count

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> float:
        """Clip averaged gradients together; returns their norm before."""
        return float(nn.utils.clip_grad_norm_(parameters, limit))

    def clear(self, parameters: Sequence[nn.Parameter]) -> None:
        """Drop all gradients."""
        for parameter in parameters:
            parameter.grad = None

    def reference(self, start: Reference) -> Reference:
        """The KL reference, kept as the policy's weights are."""
        return start

    def optimizer(self, trainables: Trainables) -> torch.optim.Optimizer:
        """What updates `trainables`; it saves and loads states as a single process would."""
        return trainables.optimizer()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """All processes enter; meanwhile `state_dict` of model and optimizer are complete on the main process."""
        yield


def norm_over_processes(shares: Sequence[Tensor]) -> Tensor:
    """2-norm, a scalar, of tensors of which every process holds a share."""
    square = nn.utils.get_total_norm(shares) ** 2
    dist.all_reduce(square)
    return square.sqrt()
