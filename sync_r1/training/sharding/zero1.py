"""DeepSpeed's ZeRO-1: every process keeps the optimizer's memory of its share of what trains; weights and gradients
stay whole.

DeepSpeed's engine wants to own forward, backward and step. Replay passes through none of them, so only its optimizer is
used: gradients collect whole over any number of backward passes, are reduced once, each process updates its share, and
the shares are gathered. ZeRO-2 and 3 exchange something in every backward or forward pass, whose number differs between
processes here.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sync_r1.models.base import UnifiedModel
from sync_r1.training.parameters import Trainables
from sync_r1.training.sharding.base import DataParallel, shared_norm

BUCKET = 50_000_000  # numbers exchanged at once


class ZeRO1(DataParallel):
    """Shares the optimizer's states of all that trains among `count` processes."""

    def __init__(self, model: UnifiedModel, trainables: Trainables, count: int) -> None:
        super().__init__(count)
        self.model, self.trainables = model, trainables

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """From here on `optimizer` holds one flat share per group.

        States are saved and loaded as those of whole parameters.
        """
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.optimizer = optimizer
        self.groups = [list(group["params"]) for group in optimizer.param_groups]
        everything = nn.Module()  # it asks for the name of whatever trains, concept rows included
        everything.model, everything.rows = self.model, nn.ParameterList(self.trainables.rows.rows)
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": self.trainables.config.max_grad_norm,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {
                "stage": 1,
                "overlap_comm": False,  # no hooks in backward passes
                "contiguous_gradients": False,
                "reduce_bucket_size": BUCKET,
                "allgather_bucket_size": BUCKET,
            },
        }
        engine, *_ = deepspeed.initialize(
            model=everything, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self.zero = engine.optimizer
        self.places = [self._places(number) for number in range(len(self.groups))]
        optimizer.register_load_state_dict_pre_hook(self._cut)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self.zero.set_gradient_accumulation_boundary(True)
        self.zero.reduce_gradients()

    @torch.no_grad()
    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> float:
        """The norm alone: `step` clips."""
        return float(shared_norm([grad for grads in self.zero.averaged_gradients.values() for grad in grads]))

    def step(self) -> None:
        self.zero.step()

    def forget(self, parameters: Sequence[nn.Parameter]) -> None:
        super().forget(parameters)
        for group in self.zero.averaged_gradients:
            self.zero.averaged_gradients[group] = None

    def _places(self, group: int) -> list[tuple[Tensor, int]]:
        """Every parameter of a group and where it begins in the group's flat weights, of which it is a view for now."""
        flat = self.zero.bit16_groups_flat[group]
        return [(p, (p.data_ptr() - flat.data_ptr()) // flat.element_size()) for p in self.groups[group]]

    def _cut(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """States of whole parameters → this process's flat shares, which accelerate loads too."""
        if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in self.groups]:
            return state
        result: dict[int, dict[str, Any]] = {}
        numbers = iter(range(sum(len(group) for group in self.groups)))
        for group in range(len(self.groups)):
            known = [(place, state["state"].get(next(numbers), {})) for place in self.places[group]]
            names = {name: None for _, values in known for name in values}
            result[group] = {name: self._share(group, name, known) for name in names}
        groups = [{**values, "params": [number]} for number, values in enumerate(state["param_groups"])]
        return {**state, "state": result, "param_groups": groups}

    def _share(self, group: int, name: str, known: list[tuple[tuple[Tensor, int], dict[str, Any]]]) -> Any:
        flat = torch.zeros(self.zero.bit16_groups_flat[group].numel())
        for (parameter, start), values in known:
            value = values.get(name)
            if value is not None and value.shape != parameter.shape:
                return value  # a count of steps
            if value is not None:
                flat[start : start + parameter.numel()] = value.flatten().cpu()
        return flat.chunk(self.count)[dist.get_rank()].clone()

    @contextmanager
    def saving(self) -> Iterator[None]:
        state = self.optimizer.state_dict()
        result: dict[int, dict[str, Any]] = {}
        for group, shares in state["state"].items():
            gathered = {name: self._gathered(value) for name, value in shares.items()}
            for parameter, start in self.places[group] if dist.get_rank() == 0 else ():
                pieces = {
                    name: value[start : start + parameter.numel()] if value.dim() else value
                    for name, value in gathered.items()
                }
                result[len(result)] = {
                    name: piece.view(parameter.shape) if piece.dim() else piece for name, piece in pieces.items()
                }
        numbers = itertools.count()
        groups = [{**g, "params": [next(numbers) for _ in mine]} for g, mine in zip(state["param_groups"], self.groups)]
        hook = self.optimizer.register_state_dict_post_hook(
            lambda *_: {**state, "state": result, "param_groups": groups}
        )
        try:
            yield
        finally:
            hook.remove()

    def _gathered(self, value: Tensor) -> Tensor:
        """A group's flat states of all processes, in the main process's main memory; a count of steps as it is."""
        if not value.dim():
            return value
        parts = [torch.empty_like(value) for _ in range(self.count)] if dist.get_rank() == 0 else None
        dist.gather(value, parts, dst=0)
        return torch.cat([part.cpu() for part in parts]) if parts is not None else value
