"""The sampling distribution once more, with lists and loops.

The slow decoders that the fast ones must agree with use it.
"""

from __future__ import annotations

import math

from sync_r1.types import Sampling


def probabilities(logits: list[float], allowed: list[int], sampling: Sampling) -> dict[int, float]:
    """id → probability of one position's logits, in id order: temperature, then the k likeliest, then softmax."""
    scaled = {token: logits[token] / sampling.temperature for token in allowed}
    if sampling.top_k is not None and sampling.top_k < len(scaled):
        least = sorted(scaled.values(), reverse=True)[sampling.top_k - 1]
        scaled = {token: value for token, value in scaled.items() if value >= least}
    largest = max(scaled.values())
    weights = {token: math.exp(value - largest) for token, value in scaled.items()}
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def pick(distribution: dict[int, float], uniform: float) -> int:
    """First id whose cumulative probability reaches `uniform`."""
    cumulative = 0.0
    for token, probability in distribution.items():
        cumulative += probability
        if cumulative >= uniform:
            return token
    return token
