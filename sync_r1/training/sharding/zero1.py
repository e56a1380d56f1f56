"""ZeRO-1 (arXiv 1910.02054, §5.1): every process remembers the optimizer's states of its share of the parameters;
weights and gradients stay whole.

Stages 2 and 3 exchange something in every backward or forward pass, whose number differs between processes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer

from sync_r1.training.optimizer import OPTIMIZER
from sync_r1.training.parameters import Trainables
from sync_r1.training.sharding.base import DataParallel


class SharedStates(ZeroRedundancyOptimizer):
    """A ZeroRedundancyOptimizer that accelerate can take over: it asks every process for the states once, before any
    were gathered, and gets this process's own."""

    def state_dict(self) -> dict[str, Any]:
        try:
            return super().state_dict()
        except RuntimeError:  # not consolidated on this process
            return torch.optim.Optimizer.state_dict(self)


class ZeRO1(DataParallel):
    """Shares the optimizer's states of all that trains, whole parameters to each of `count` processes.

    Every process updates its parameters and sends them to the others.
    """

    def optimizer(self, trainables: Trainables) -> torch.optim.Optimizer:
        self.states: SharedStates = trainables.optimizer(SharedStates, optimizer_class=OPTIMIZER)
        return self.states

    @contextmanager
    def saving(self) -> Iterator[None]:
        self.states.consolidate_state_dict(to=0)
        yield
