"""How fast this device multiplies matrices of a model's width."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer as default_timer  # waits for a GPU


@dataclass(frozen=True)
class Throughput:
    """Measured matrix products of this model's width, FLOP/s."""

    wide: float  # as many rows as a forward pass over sequences has
    narrow: float  # as many as one decoding step of a text has
    device: str


def measure_throughput(
    hidden: int, width: int, *, wide: int, narrow: int, device: str, dtype: torch.dtype, budget: float = 2.0
) -> Throughput:
    """Time matrix products of [rows, hidden] with [hidden, width] for about `budget` seconds.

    Args: wide, narrow: rows; fewer where one product would use up the budget, as bf16 does on a processor without units
        for it.
        device: such as "cpu". dtype: what forward passes compute in.
    """
    weight = torch.randn(hidden, width, device=device, dtype=dtype)

    def product(rows: int) -> Callable[[], torch.Tensor]:
        inputs = torch.randn(rows, hidden, device=device, dtype=dtype)
        return lambda: inputs @ weight

    def rate(rows: int) -> float:
        used = 1
        while used < rows and _time_of(product(used), device, 0.0) * 4 < budget / 4:
            used = min(4 * used, rows)
        return 2 * used * weight.numel() / _time_of(product(used), device, budget / 2)

    return Throughput(wide=rate(wide), narrow=rate(narrow), device=device)


def _time_of(call: Callable[[], object], device: str, budget: float) -> float:
    """Seconds per call, the best of several rounds of about `budget` seconds in all.

    On a CPU these are processor seconds of one thread, so that other work does not count.
    """
    threads = torch.get_num_threads()

    def own_time() -> float:
        return time.process_time() / threads

    if device.startswith("cuda"):
        clock = default_timer
    else:
        clock = own_time
    timer = Timer("call()", globals={"call": call}, num_threads=threads, timer=clock)
    if not budget:
        return timer.timeit(1).mean  # after a first call that does not count
    return min(timer.blocked_autorange(min_run_time=budget / threads).times)
