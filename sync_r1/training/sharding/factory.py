"""The kind of sharding that `run.sharding` asks for."""

from __future__ import annotations

from sync_r1.models.base import UnifiedModel
from sync_r1.training.parameters import Trainables
from sync_r1.training.sharding.base import DataParallel
from sync_r1.training.sharding.fsdp2 import FSDP2
from sync_r1.training.sharding.zero1 import ZeRO1


def build_sharding(model: UnifiedModel, trainables: Trainables, sharding: str, count: int) -> DataParallel:
    """What `run.sharding` asks for; a single process shares with no other."""
    if sharding == "none" or count == 1:
        return DataParallel(count)
    if sharding == "fsdp2":
        return FSDP2(model, trainables, count)
    return ZeRO1(count)
