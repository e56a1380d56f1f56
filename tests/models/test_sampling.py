"""Noise is a function of (seed, stream, step): every bit counts, and nothing else does."""

from __future__ import annotations

import torch

from sync_r1.models.sampling import IMAGE_STREAM, TEXT_STREAM, mix, uniforms


def test_every_bit_of_a_seed_counts() -> None:
    """torch's CPU generator keeps 32 bits; seeds that differ above them must not coincide."""
    seeds = [0, 1, *(1 << bit for bit in range(1, 63)), *((1 << bit) + 1 for bit in range(1, 63))]
    assert len({mix(seed) for seed in seeds}) == len(set(seeds))
    assert not torch.equal(uniforms([5], TEXT_STREAM, 0, 4), uniforms([5 + (1 << 26)], TEXT_STREAM, 0, 4))
    assert not torch.equal(uniforms([5], TEXT_STREAM, 0, 4), uniforms([5 + (1 << 40)], TEXT_STREAM, 0, 4))


def test_parts_do_not_trade_places() -> None:
    found = {
        mix(seed, stream, step) for seed in range(40) for stream in (TEXT_STREAM, IMAGE_STREAM) for step in range(40)
    }
    assert len(found) == 40 * 2 * 40
    assert mix(1, 2) != mix(2, 1)


def test_noise_is_pinned_and_looks_uniform() -> None:
    assert mix(0) == 3793791033 and mix(7, TEXT_STREAM, 3) == 3508379613
    noise = torch.stack([uniforms([seed], IMAGE_STREAM, 0, 64)[0] for seed in range(256)])
    assert (noise > 0).all() and (noise <= 1).all()
    assert abs(float(noise.mean()) - 0.5) < 0.01 and float(torch.corrcoef(noise[:32]).triu(1).abs().max()) < 0.6
