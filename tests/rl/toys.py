"""A tiny model with one concept, rewards that need no network, and a trainer over them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sync_r1.config import Config, load_config
from sync_r1.data.concepts import QA, Concept, Conditions
from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.showo.model import Showo
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.training.prompts import training_prompts
from tests.helpers import tiny_model

SMALL = [
    "rl.num_generations=3",
    "rl.max_completion_length=5",
    "rl.generation_timesteps=4",
    "rl.dgs_preview_step=2",
    "rl.max_steps=2",
    "run.save_steps=2",
    "run.device=cpu",
    "run.completions_steps=100",
    "rl.learning_rate=1e-3",
]


def concept(folder: Path) -> Concept:
    """A robot with two photos, three private facts and two questions."""
    photos = [folder / f"{number}.png" for number in range(2)]
    for number, path in enumerate(photos):
        Image.new("RGB", (20, 16), (200, 40 * number, 10)).save(path)
    things = ["hat", "mug", "kite", "dog"]
    return Concept(
        name="bo",
        class_noun="robot",
        category="object",
        info="<bo> is a robot.",
        facts=[f"<bo> has a red {thing}." for thing in things],
        conversation_type="object",
        generation_type="object",
        num_testing_info=1,
        train_images=photos,
        test_images=[],
        conversations={
            "0.png": [QA("What colour?", "Red.")],
            "1.png": [QA("A hat?", "No.")],
            "text_only": [QA("Who?", "<bo>.")],
        },
        items=[],
        conditions=Conditions(
            implicit=[f"<bo> with its {thing}" for thing in things],
            explicit=[f"<bo> with its red {thing}" for thing in things],
        ),
    )


def strangers(folder: Path) -> list[Path]:
    """Two pictures of something else."""
    paths = [folder / f"other{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20, 16), (10, 200, 40 * number)).save(path)
    return paths


def model_with_concept() -> Showo:
    model = tiny_model(0, max_text_tokens=64)
    add_concept(model, "bo", "robot", num_tokens=2)
    return model


def wordy(*, completions: Sequence[str], **_: Any) -> list[float]:
    """Any fixed judgement of a text."""
    return [zlib.crc32(text.encode()) % 97 / 97 for text in completions]


def bright(*, images: Tensor, **_: Any) -> list[float]:
    return [float(value) for value in images.float().mean(dim=(1, 2, 3)) / 255]


def ensemble() -> RewardEnsemble:
    return RewardEnsemble([Reward("wordy", wordy, "text", 0.5), Reward("bright", bright, "image", 5.0)])


def small_config(folder: Path, *overrides: str) -> Config:
    return load_config(None, [*SMALL, f"run.output_dir={folder}", *overrides])


def trainer(
    folder: Path, *overrides: str, model: Any = None, rewards: RewardEnsemble | None = None, **extra: Any
) -> SyncGRPOTrainer:
    folder.mkdir(parents=True, exist_ok=True)
    model = model if model is not None else model_with_concept()
    prompts = training_prompts(concept(folder), model.concepts[0], strangers(folder))
    return SyncGRPOTrainer(model, small_config(folder, *overrides), prompts, rewards or ensemble(), bright, **extra)


def log_of(run: SyncGRPOTrainer) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without timings."""
    return read_log(run.config.run.folder)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The same, of a run's folder."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not key.startswith("perf/")} for line in lines]


def weights(model: Showo) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())
