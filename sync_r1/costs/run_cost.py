"""The estimate of a run as its configuration says, on the device that is here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import psutil
import torch

from sync_r1.config import Config
from sync_r1.costs.estimate import CostEstimate, estimate
from sync_r1.costs.model_sizes import read_sizes
from sync_r1.costs.throughput import measure_throughput
from sync_r1.costs.workload import Prompts, Workload
from sync_r1.distributed import launched
from sync_r1.models.loading import pick_device

PROCESSES = 8  # that share layers, when no launcher says how many


def run_cost(config: Config) -> dict[str, Any]:
    """The estimate's tables, the bytes at the peak and those available, the measured rates and what was assumed.

    Multiplies matrices for two seconds to know the device; loads no weights.
    """
    sizes, prompts = read_sizes(config.model), Prompts()
    workload, device = Workload(config, sizes, prompts), pick_device(config.run.device)
    if launched() > 1 or config.run.sharding == "none":
        processes = launched()
    else:
        processes = PROCESSES
    images, steps = workload.piece
    wide = min(max(images * steps * workload.guided * workload.span, 256), 8192)
    if workload.mode == "fp32":
        dtype = torch.float32
    else:
        dtype = torch.bfloat16
    narrow = workload.asked * workload.candidates
    throughput = measure_throughput(
        sizes.hidden, sizes.intermediate, wide=wide, narrow=narrow, device=device, dtype=dtype
    )
    result: CostEstimate = estimate(config, sizes, throughput, prompts, processes)
    return {
        **asdict(result),
        "peak": result.peak,
        "available": _available(device),
        "rates": asdict(throughput),
        "assumed": {**asdict(prompts), "trains": workload.kind, "numbers": workload.mode, "processes": processes},
    }


def _available(device: str) -> int:
    """Bytes free on the device."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
