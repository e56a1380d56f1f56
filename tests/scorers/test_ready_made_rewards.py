"""The rewards that ship: who is scored by what, and where a reward does not apply."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from sync_r1.scorers import rewards


def columns(**more: Any) -> dict[str, Any]:
    bo = SimpleNamespace(name="bo", class_noun="dog", info="<bo> is a red dog.", train_images=[])
    return {
        "prompts": ["p", "p"],
        "completions": ["a photo of <bo> in the snow", "red"],
        "answer": ["a photo of <bo> at the beach", "Red."],
        "kind": ["reason", "look"],
        "concept": [bo, bo],
        "images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        **more,
    }


def test_text_rewards_take_their_own_kind() -> None:
    shared_words = 5  # of 7 in each: a photo of <bo> … the
    assert rewards.rewrite(**columns()) == [pytest.approx(0.5 * shared_words / 7), None]
    assert rewards.answer(**columns()) == [None, 1.0]


def test_wanted_picture_says_it_without_the_name() -> None:
    bo = columns()["concept"][0]
    assert rewards.wanted_picture(bo, "reason", "a photo of <bo> at the beach") == "a photo of dog at the beach"
    assert rewards.wanted_picture(bo, "look", "Red.") == "a photo of dog"


def test_the_judge_is_asked_for_looks_and_for_the_request_apart() -> None:
    asked: list[list[str]] = []

    def judge(images: torch.Tensor, texts: Any) -> list[float]:
        asked.append(list(texts))
        return [0.25] * len(images)

    scored = rewards.JudgeRewards(judge)
    assert scored.likeness(**columns()) == [0.25, 0.25]
    assert scored.faithfulness(**columns()) == [0.25, None]
    assert asked == [["<bo> is a red dog."] * 2, ["a photo of  at the beach", ""]]


class FakeClip:
    """Features are the mean colour; counts how often photos are embedded."""

    calls = 0

    def image_features(self, images: Any) -> torch.Tensor:
        if not isinstance(images, torch.Tensor):
            self.calls += 1
            return torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        return torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[: len(images)]

    def clip_t(self, images: torch.Tensor, texts: list[str], truncate: bool) -> torch.Tensor:
        return torch.tensor([float(len(text)) for text in texts])


def test_clip_rewards_embed_photos_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        Image.new("RGB", (20, 20)).save(path)
    given, clip = columns(), FakeClip()
    for who in given["concept"]:
        who.train_images = paths
    scored = rewards.ClipRewards(clip)  # type: ignore[arg-type]
    assert scored.identity(**given) == [0.5, 0.0]  # cosine to the mean photo, never below 0
    assert scored.identity(**given) == [0.5, 0.0]
    assert clip.calls == 1
    assert scored.alignment(**given) == [len("a photo of dog at the beach"), len("a photo of dog")]
