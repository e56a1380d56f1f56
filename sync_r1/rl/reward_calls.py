"""Calling reward functions, plain or async, and reading what they return:

one number each, or a clear error with the reward's name.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sync_r1.scorers.base import RewardFunction

Call = tuple[RewardFunction, dict[str, Any]]  # function, keyword columns


def call_rewards(calls: Mapping[str, Call]) -> dict[str, Tensor]:
    """Scores fp32 [B] of every reward, NaN where it could not score. Async functions run at the same time.

    Raises:
        ValueError: a reward returned something else than B numbers or None, or raised ValueError or OSError.
        RuntimeError: a reward raised anything else.
    """
    results: dict[str, Any] = {}
    for name, (function, columns) in calls.items():
        try:
            results[name] = function(**columns)
        except Exception as error:
            raise _named(name, error) from error
    pending = {name: result for name, result in results.items() if inspect.isawaitable(result)}
    if pending:
        # In a thread of its own, because a notebook runs an event loop in this one.
        with ThreadPoolExecutor(max_workers=1) as pool:
            results |= pool.submit(asyncio.run, _gather(pending)).result()
    return {name: read_scores(name, results[name], len(columns["prompts"])) for name, (_, columns) in calls.items()}


async def _gather(pending: Mapping[str, Awaitable[Any]]) -> dict[str, Any]:
    async def finish(name: str, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except Exception as error:
            raise _named(name, error) from error

    return dict(zip(pending, await asyncio.gather(*(finish(*item) for item in pending.items()))))


def _named(name: str, error: Exception) -> Exception:
    """What users can mend stays a ValueError; a mistake in code keeps its traceback."""
    if isinstance(error, (ValueError, OSError)):
        return ValueError(f"reward {name!r}: {error}")
    return RuntimeError(f"reward {name!r} raised {type(error).__name__}: {error}")


def read_scores(name: str, returned: Any, count: int) -> Tensor:
    """What a reward returned → fp32 [count], NaN for None, NaN and infinities.

    ValueError unless it is `count` numbers or None.
    """
    fix = f"return {count} numbers, None where it cannot score"
    if isinstance(returned, (Tensor, np.ndarray)):
        if returned.ndim != 1:
            raise ValueError(f"reward {name!r} returned an array of shape {tuple(returned.shape)}; {fix}")
        returned = returned.tolist()
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Iterable):
        raise ValueError(f"reward {name!r} returned {_short(returned)}; {fix}")
    values = list(returned)
    if len(values) != count:
        raise ValueError(f"reward {name!r} returned {len(values)} scores for {count} trajectories; {fix}")
    scores = torch.tensor([_number(name, row, value) for row, value in enumerate(values)], dtype=torch.float32)
    return torch.where(scores.isfinite(), scores, torch.nan)


def _number(name: str, row: int, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Real):
        raise ValueError(
            f"reward {name!r} returned {_short(value)} for trajectory {row}; return a number, or None where it cannot score"
        )
    return float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
