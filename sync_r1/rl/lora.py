"""Low-rank adapters on the transformer body (LoRA, arXiv 2106.09685): few weights train, and switching them off gives the start back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """y = base(x) + alpha/r · B·A·x. B starts at 0, so nothing changes before the first update."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.scale, self.enabled = base, alpha / rank, True
        bound = 1 / math.sqrt(base.in_features)
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.base(inputs)
        if not self.enabled:
            return output
        return output + self.scale * F.linear(F.linear(inputs, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        return self.base.weight + self.scale * (self.lora_b @ self.lora_a)


class Adapters:
    """LoRA on every trainable linear layer of a model but its head.

    Args:
        model: changed in place; its own weights are frozen.
        rank: r. alpha: scale numerator; 2·r is common.
        seed: of the random half, so that two runs start alike.
    """

    def __init__(self, model: nn.Module, *, rank: int, alpha: float, seed: int, spare: set[int]) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.places: list[tuple[nn.Module, str, LoraLinear]] = []
        linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        for name, module in linear:
            if id(module.weight) in spare or not module.weight.requires_grad:
                continue
            parent_name, _, child = name.rpartition(".")
            parent = model.get_submodule(parent_name)
            adapter = LoraLinear(module, rank, alpha, generator)
            setattr(parent, child, adapter)
            self.places.append((parent, child, adapter))
        if not self.places:
            raise ValueError("rl.lora_rank is set but the model has no trainable linear layer; set rl.lora_rank=0")

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for _, _, adapter in self.places for parameter in (adapter.lora_a, adapter.lora_b)]

    @contextmanager
    def off(self) -> Iterator[None]:
        """The body as it was at the start."""
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)

    def _switch(self, enabled: bool) -> None:
        for _, _, adapter in self.places:
            adapter.enabled = enabled

    @contextmanager
    def merged(self) -> Iterator[None]:
        """The model as plain layers with the adapters added in, e.g. to save it; exactly as before afterwards."""
        kept = [adapter.base.weight.detach().clone() for _, _, adapter in self.places]
        for parent, child, adapter in self.places:
            adapter.base.weight.data.copy_(adapter.merged_weight())
            setattr(parent, child, adapter.base)
        try:
            yield
        finally:
            for (parent, child, adapter), weight in zip(self.places, kept):
                adapter.base.weight.data.copy_(weight)
                setattr(parent, child, adapter)
