"""The estimates of benchmarks/dgs.py on gradients whose variance and mean are known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

REPEATS, SIZE = 24, 50


@pytest.fixture(scope="module")
def dgs() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "dgs.py"
    spec = importlib.util.spec_from_file_location("benchmark_dgs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def gradients(mean: torch.Tensor, std: float, seed: int) -> torch.Tensor:
    return mean + std * torch.randn(REPEATS, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_variance_and_signal_are_without_bias(dgs: ModuleType) -> None:
    mean = torch.ones(SIZE, dtype=torch.float64)
    few = [gradients(mean, 2.0, seed)[:3] for seed in range(600)]
    variance, signal = (sum(side) / len(few) for side in zip(*(dgs.moments(g @ g.T) for g in few), strict=True))
    # three repeats are enough on average
    assert variance == pytest.approx(4 * SIZE, rel=0.05) and signal == pytest.approx(SIZE, rel=0.1)


def test_noise_is_compared_at_equal_evaluations(dgs: ModuleType) -> None:
    mean = torch.ones(SIZE, dtype=torch.float64)
    turned = torch.cat([mean[: SIZE // 2], -mean[SIZE // 2 :]])
    cost = torch.full((REPEATS,), 100.0)
    found = []
    for seed in range(60):  # a quarter of the noise-to-signal at twice the cost
        found.append(dgs.compared(gradients(3 * mean, 3.0, seed), 2 * cost, gradients(mean, 2.0, 1000 + seed), cost))
    assert sum(row["relative_to_plain"] for row in found) / 60 == pytest.approx(0.5, rel=0.05)
    assert sum(row["cosine"] for row in found) / 60 == pytest.approx(1, abs=0.02)
    assert sum(row["ci95"][0] < 0.5 < row["ci95"][1] for row in found) >= 60 * 0.88  # 95 % are meant
    plain = gradients(mean, 2.0, 0)
    assert abs(dgs.compared(gradients(turned, 2.0, 2), cost, plain, cost)["cosine"]) < 0.15
    same = dgs.compared(plain, cost, plain, cost)
    assert same["relative_to_plain"] == 1 and same["ci95"] == [1, 1] and same["cosine"] == pytest.approx(1)


def test_a_signal_lost_in_noise_gives_no_number(dgs: ModuleType) -> None:
    lost = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])  # inner products of different rows: -1, 0, 0
    found = dgs.compared(lost, torch.ones(3), lost, torch.ones(3))
    assert (
        found["signal"] < 0
        and found["noise_to_signal"] is found["relative_to_plain"] is found["ci95"] is found["cosine"] is None
    )


def test_correlation_is_within_groups(dgs: ModuleType) -> None:
    first = torch.tensor([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    second = torch.tensor([[2.0, 1.0, 0.0], [12.0, 11.0, 10.0]])  # groups agree, siblings do not
    assert dgs.correlation(first, second) == pytest.approx(-1)
    assert dgs.interval(first, second) == pytest.approx([-1, -1])
