"""The kind of sharding that `run.sharding` asks for."""

from __future__ import annotations

import importlib.util

from sync_r1.models.base import UnifiedModel
from sync_r1.training.parameters import Trainables
from sync_r1.training.sharding.base import DataParallel
from sync_r1.training.sharding.fsdp2 import FSDP2


def build_sharding(model: UnifiedModel, trainables: Trainables, sharding: str, count: int) -> DataParallel:
    """What `run.sharding` asks for; a single process has nobody to share with."""
    if sharding == "none" or count == 1:
        return DataParallel(count)
    if sharding == "fsdp2":
        return FSDP2(model, trainables, count)
    from sync_r1.training.sharding.zero1 import ZeRO1

    return ZeRO1(model, trainables, count)


def check_sharding(sharding: str, count: int) -> None:
    """Raises ValueError when DeepSpeed is asked for and not installed."""
    if sharding == "zero1" and count > 1 and importlib.util.find_spec("deepspeed") is None:
        raise ValueError(
            "run.sharding=zero1 needs DeepSpeed, which is not installed; pip install 'sync-r1[deepspeed]', or set run.sharding=fsdp2"
        )
