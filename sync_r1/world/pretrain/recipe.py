"""The whole recipe behind the shipped weights: tokenizer, two readers, CLIP, unified model, measurements, model
card."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sync_r1.console import open_console
from sync_r1.files import write_manifest, write_text
from sync_r1.models.showo.magvit import MagvitConfig
from sync_r1.models.showo.model import Showo
from sync_r1.progress import WorkProgress
from sync_r1.world.assets import load_evaluator_reader, load_reward_reader, load_world_clip, load_world_model
from sync_r1.world.pretrain.clip import save_clip, train_clip
from sync_r1.world.pretrain.measure import measure, unseen_things
from sync_r1.world.pretrain.model_card import bars, card_text
from sync_r1.world.pretrain.readers import reader_accuracy, train_reader
from sync_r1.world.pretrain.stage import Schedule
from sync_r1.world.pretrain.tokenizer import train_tokenizer
from sync_r1.world.pretrain.unified import COURSES, train_unified

TOKENIZER = MagvitConfig(
    channels=96,
    channel_multipliers=(1,),
    num_res_blocks=(2,),
    decoder_multipliers=None,
    decoder_res_blocks=None,
    z_channels=12,
    norm_groups=8,
    resolution=32,
    unshuffle=4,
)
TOKENIZER_SCHEDULE = Schedule(steps=3000, learning_rate=2e-3, average=0.99)
REWARD_READER_SCHEDULE = Schedule(steps=1500, learning_rate=2e-3, average=0.99, seed=1)
EVALUATOR_READER_SCHEDULE = Schedule(steps=1800, learning_rate=1.5e-3, average=0.99, seed=2)
CLIP_SCHEDULE = Schedule(steps=900, learning_rate=2e-3, average=0.99, weight_decay=0.05)
UNIFIED_SCHEDULE = Schedule(steps=4800, learning_rate=1.5e-3, average=0.995, warmup_steps=100, save_every=100)
DECISIONS_SCHEDULE = Schedule(steps=800, learning_rate=1e-3, average=0.99, warmup_steps=50, save_every=100, seed=3)
FINISHING_SCHEDULE = Schedule(steps=1350, learning_rate=1.2e-3, average=0.995, warmup_steps=50, save_every=50, seed=4)
COMPARING_SCHEDULE = Schedule(steps=800, learning_rate=1.2e-3, average=0.99, warmup_steps=50, save_every=50, seed=5)
BINDING_SCHEDULE = Schedule(steps=1700, learning_rate=1.2e-3, average=0.99, warmup_steps=50, save_every=50, seed=6)
PAINTING_SCHEDULE = Schedule(steps=2600, learning_rate=1.2e-3, average=0.995, warmup_steps=50, save_every=50, seed=7)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Schedules of all stages; the defaults made the shipped weights."""

    tokenizer: Schedule = TOKENIZER_SCHEDULE
    reward_reader: Schedule = REWARD_READER_SCHEDULE
    evaluator_reader: Schedule = EVALUATOR_READER_SCHEDULE
    clip: Schedule = CLIP_SCHEDULE
    unified: Schedule = UNIFIED_SCHEDULE
    decisions: Schedule = DECISIONS_SCHEDULE
    finishing: Schedule = FINISHING_SCHEDULE
    comparing: Schedule = COMPARING_SCHEDULE
    binding: Schedule = BINDING_SCHEDULE
    painting: Schedule = PAINTING_SCHEDULE
    scale: float = 1.0  # of the unified model's batches
    measured: int = 512  # items per figure of the card

    def shortened(self, steps: int) -> Recipe:
        """Every stage cut to `steps`: for trying the recipe out, not for use."""
        cut = {
            name: Schedule(**{**asdict(value), "steps": steps})
            for name, value in vars(self).items()
            if isinstance(value, Schedule)
        }
        return Recipe(**cut, scale=0.25, measured=16)


def pretrain(recipe: Recipe, work: Path, assets: Path) -> dict[str, Any]:
    """Run every stage (resuming what `work` holds), write `assets` and return the card.

    Stages whose state is complete cost nothing.
    """
    figures: dict[str, Any] = {}
    work.mkdir(parents=True, exist_ok=True)
    tokenizer, figures["tokenizer"] = train_tokenizer(TOKENIZER, recipe.tokenizer, work)
    reward, figures["reward_reader"] = train_reader("convolution", tokenizer, recipe.reward_reader, work)
    evaluator, figures["evaluator_reader"] = train_reader("patches", tokenizer, recipe.evaluator_reader, work)
    clip, clip_tokenizer, figures["clip"] = train_clip(recipe.clip, work)
    schedules = {name: getattr(recipe, name) for name in COURSES}
    model, courses = train_unified(tokenizer, schedules, work, recipe.scale)
    figures.update(courses)

    model.half().save_pretrained(assets / "model")
    reward.save_pretrained(assets / "reward_reader")
    evaluator.save_pretrained(assets / "evaluator_reader")
    save_clip(clip, clip_tokenizer, assets / "clip")
    with WorkProgress(open_console(), "measuring", None):
        return write_card(recipe, figures, assets)


def pretrain_larger(
    width: int, layers: int, steps: int, work: Path, out: Path, device: torch.device | str = "cpu", measured: int = 512
) -> dict[str, Any]:
    """Another unified model over the shipped tokenizer, readers and CLIP, in `out`/model; returns its figures, also in
    `out`/card.json.

    `steps` are those of the first course; the others are as much shorter as in the shipped model's training. The
    learning rate falls with the width, as 192 is to it. Resumable: training state lies in `work`.

    Raises:
        ValueError: `work` holds the training of another size or length, or the width is no multiple of an attention
            head's.
    """
    magvit = load_world_model().magvit
    assert magvit is not None, "the shipped model has its tokenizer"
    part = steps / UNIFIED_SCHEDULE.steps
    schedules = {}
    for name in COURSES:
        own: Schedule = getattr(Recipe, name)
        schedules[name] = replace(own, steps=ceil(own.steps * part), learning_rate=own.learning_rate * 192 / width)
    model, training = train_unified(magvit, schedules, work, width=width, layers=layers, device=device)
    model.half().save_pretrained(out / "model")
    with WorkProgress(open_console(), "measuring", None):
        drawer, reader = Showo.from_pretrained(out / "model", device), load_evaluator_reader().to(device)
        measured_on_it = measure(drawer, reader, measured)
    card = {
        "parameters": sum(p.numel() for p in model.showo.parameters()),
        "width": width,
        "layers": layers,
        "training": training,
        "measured": measured_on_it,
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
    }
    write_text(out / "card.json", json.dumps(card, indent=2) + "\n")
    return card


def write_card(recipe: Recipe, training: dict[str, Any], assets: Path) -> dict[str, Any]:
    """Measure the weights in `assets` as a user would load them and write card.json and MODEL_CARD.md."""
    model, reward, evaluator = load_world_model(assets), load_reward_reader(assets), load_evaluator_reader(assets)
    things = unseen_things(np.random.default_rng(321), recipe.measured)
    assert model.magvit is not None
    measured = measure(model, evaluator, recipe.measured)
    card: dict[str, Any] = {
        "parameters": {
            "unified": sum(p.numel() for p in model.showo.parameters()),
            "tokenizer": sum(p.numel() for p in model.magvit.parameters()),
            "reward_reader": sum(p.numel() for p in reward.parameters()),
            "evaluator_reader": sum(p.numel() for p in evaluator.parameters()),
            "clip": load_world_clip(assets).model.num_parameters(),
        },
        "recipe": asdict(recipe),
        "training": training,
        "readers": {
            name: {"true": reader_accuracy(reader, things), "decoded": reader_accuracy(reader, things, model.magvit)}
            for name, reader in (("reward", reward), ("evaluator", evaluator))
        },
        "measured": measured,
        "bars": bars(measured),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
    }
    write_text(assets / "card.json", json.dumps(card, indent=2) + "\n")
    write_text(assets / "MODEL_CARD.md", card_text(card))
    write_manifest(assets)
    return card
