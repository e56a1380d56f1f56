"""The processes of an `accelerate launch` or `torchrun`: who one is, what the others have, and what happens when one
is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")


class PeerLost(OSError):
    """Another process is gone, so that this one cannot go on."""


@dataclass(frozen=True)
class Processes:
    """This process among `count`. Alone by default."""

    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes files and speaks."""
        return self.index == 0

    def gather(self, value: T) -> list[T]:
        """The values of all processes in their order, on every process.

        `value` is pickled: keep large things out of it.
        """
        if self.count > 1:
            return cast(list[T], gather_object([value]))
        return [value]

    def wait(self) -> None:
        """Return once every process has called this."""
        self.gather(None)

    def join(self, rows: Sequence[T]) -> list[T]:
        """The rows of all processes, one after the other."""
        return [row for part in self.gather(list(rows)) for row in part]

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of rows of which every process has equally many."""
        size = len(rows) // self.count
        return rows[self.index * size : (self.index + 1) * size]

    def together(self, work: Callable[[], T]) -> T:
        """Do something that one process may fail at; when one does, all raise, so that none waits for it forever.

        Raises:
            RuntimeError: another process failed.
        """
        error, result = None, None
        try:
            result = work()
        except Exception as caught:  # the others learn of it first
            error = caught
        found = self.gather(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for number, reason in enumerate(found):
            if reason is not None:
                raise RuntimeError(f"process {number} failed: {reason}")
        return cast(T, result)

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on the main process alone and return its result on every process.

        Raises:
            RuntimeError: the main process failed, which raises its own error.
        """
        return self.gather(self.together(lambda: work() if self.main else None))[0]  # type: ignore[return-value]


def launched_processes() -> Processes:
    """This process among those of its launch. The first call meets the others and gives every process its device."""
    state = PartialState()
    return Processes(state.process_index, state.num_processes)


def launched() -> int:
    """Number of processes that a launcher announced; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(cpu: bool, timeout_s: float) -> Processes:
    """Meet the other processes of this launch, once; alone without a launch.

    Args:
        cpu: compute on the CPU and exchange values through gloo, also where there is a GPU.
        timeout_s: seconds that a process waits for another before it gives up.
    Raises:
        ValueError: the launcher asks for sharded weights.
    """
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise ValueError(
                f"accelerate was set to use {name}, which training does not support; launch plain data parallelism "
                "(distributed_type: MULTI_GPU, as in examples/launch), and set run.sharding=fsdp2, run.sharding=zero1 "
                "or rl.lora_rank=16 if memory is short (docs/scale.md)"
            )
    if launched() == 1:
        return Processes()
    state = PartialState(cpu=cpu, timeout=timedelta(seconds=timeout_s))
    return Processes(state.process_index, state.num_processes)


@contextmanager
def watching(processes: Processes, advice: str) -> Iterator[None]:
    """Within the block, turn the errors with which NCCL and gloo report a lost process into `PeerLost`.

    Args:
        advice: what to do about it; the last part of the message.
    """
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not _is_loss(error):
            raise
        what = str(error).splitlines()[0].split(". ")[0]
        raise PeerLost(f"process {processes.index} of {processes.count} lost another one ({what}); {advice}") from error


def _is_loss(error: RuntimeError) -> bool:
    """Whether collective communication broke.

    NCCL has error types of its own; gloo raises a bare RuntimeError that names its source.
    """
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower() or "by peer" in str(error)
