"""What reward functions may return, and what is said about everything else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
import torch

from sync_r1.rl.rewards import call_rewards, read_scores
from sync_r1.rl.rollout import _columns
from sync_r1.scorers.custom import COLUMNS as COLUMN_NAMES

COLUMNS: dict[str, Any] = {"prompts": ["p"] * 3}


@pytest.mark.parametrize(
    "returned",
    [
        [1, 0.5, None],
        (1, 0.5, float("nan")),
        torch.tensor([1.0, 0.5, torch.inf]),
        np.array([1, 0.5, np.nan]),
        [torch.tensor(1.0), np.float32(0.5), None],
        [True, 0.5, None],
        (value for value in (1, 0.5, None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_read(returned: Any) -> None:
    torch.testing.assert_close(read_scores("mine", returned, 3), torch.tensor([1.0, 0.5, torch.nan]), equal_nan=True)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([0.5] * 200, "'mine' returned 200 scores for 3 trajectories; return 3 numbers, None where it cannot score"),
        (["0.5", "0.5", "0.5"], r"'mine' returned '0.5' \(str\) for trajectory 0; return a number, or None"),
        ("abc", r"'mine' returned 'abc' \(str\)"),
        (0.5, r"'mine' returned 0.5 \(float\)"),
        (None, r"'mine' returned None \(NoneType\)"),
        ({"score": 1, "b": 2, "c": 3}, r"\(dict\)"),
        (torch.zeros(3, 1), r"'mine' returned an array of shape \(3, 1\)"),
        (torch.tensor(0.5), r"an array of shape \(\)"),
        ([[0.1], [0.2], [0.3]], r"'mine' returned \[0.1\] \(list\) for trajectory 0"),
        ([0.1, 0.2, torch.zeros(2)], r"tensor\(\[0., 0.\]\) \(Tensor\) for trajectory 2"),
    ],
)
def test_what_is_refused(returned: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_scores("mine", returned, 3)


def test_async_functions_run_at_the_same_time_and_beside_a_running_loop() -> None:
    async def slow(**_: Any) -> list[float]:
        await asyncio.sleep(0.3)
        return [0.1, 0.2, 0.3]

    async def notebook() -> dict[str, torch.Tensor]:
        return call_rewards({"a": (slow, COLUMNS), "b": (slow, COLUMNS), "c": (lambda **_: [1, 2, 3], COLUMNS)})

    started = time.monotonic()
    found = asyncio.run(notebook())
    assert time.monotonic() - started < 0.55
    assert list(found) == ["a", "b", "c"]
    torch.testing.assert_close(found["b"], torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_errors_carry_the_name_of_the_reward(kind: str) -> None:
    def failing(error: Exception) -> Any:
        def plain(**_: Any) -> list[float]:
            raise error

        async def later(**_: Any) -> list[float]:
            raise error

        return plain if kind == "plain" else later

    with pytest.raises(ValueError, match="reward 'mine': no such photo"):
        call_rewards({"mine": (failing(ValueError("no such photo")), COLUMNS)})
    with pytest.raises(RuntimeError, match="reward 'mine' raised KeyError: 'x'") as caught:
        call_rewards({"mine": (failing(KeyError("x")), COLUMNS)})
    assert isinstance(caught.value.__cause__, KeyError)  # its traceback is kept


def test_the_documented_columns_are_those_of_a_rollout() -> None:
    assert set(_columns([], [], [], None, [])) == set(COLUMN_NAMES)
