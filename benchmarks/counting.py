"""What a piece of work asks of a machine:

FLOPs of its matrix products and attention, and the bytes those read and write.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


class Figures(NamedTuple):
    seconds: float
    flops: int
    bytes: int

    def times(self, factor: float) -> Figures:
        return Figures(self.seconds * factor, round(self.flops * factor), round(self.bytes * factor))


class Counter(TorchDispatchMode):
    """Adds up, while entered, `flops` and `bytes`: nothing that is only added, normalised or copied counts."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is aten._scaled_dot_product_flash_attention_for_cpu:
            self.flops += sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
        elif packet is aten._scaled_dot_product_flash_attention_for_cpu_backward:
            self.flops += sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4]))
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        else:
            return out
        self.bytes += sum(tensor.nbytes for tensor in tree_leaves((args, out)) if isinstance(tensor, Tensor))
        return out


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def rates(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of one large square product, and bytes/s of a copy (read and written)."""
    size = 8192 if device.startswith("cuda") else 1536
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)

    def best(work: Any) -> float:
        seconds = []
        for _ in range(5):
            synchronize(device)
            started = time.perf_counter()
            work()
            synchronize(device)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return 2 * size**3 / best(lambda: left @ right), 2 * source.nbytes / best(lambda: target.copy_(source))
