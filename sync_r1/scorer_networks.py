"""The networks that score: the option that names each, the rewards that need it, and how it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from sync_r1.config import Config, JudgeConfig, ScorersConfig
from sync_r1.constants import WORLD
from sync_r1.models.loading import pick_device
from sync_r1.scorers.base import CountsUnasked, Judge, RewardFunction
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.dino import DinoScorer
from sync_r1.scorers.face import FaceScorer
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.scorers.reward_functions import (
    ClipRewards,
    DinoRewards,
    FaceRewards,
    JudgeRewards,
    References,
    RestraintRewards,
)


@dataclass(frozen=True)
class Loaded:
    """A network that was loaded."""

    rewards: dict[str, RewardFunction]
    name: str  # for the record
    references: dict[str, References] = field(default_factory=dict)  # reward → features of the concept's photos


@dataclass(frozen=True)
class Network:
    """A network that rewards may need."""

    rewards: tuple[str, ...]  # ready-made rewards that it scores
    example: str  # its option with a value, for error messages
    given: Callable[[ScorersConfig], str]  # what the option says; "" without a network
    load: Callable[[Config], Loaded]

    @property
    def option(self) -> str:
        return self.example.partition("=")[0]


def _load_clip_rewards(config: Config) -> Loaded:
    rewards = ClipRewards(load_clip(config.scorers.clip, config))
    functions: dict[str, RewardFunction] = {"identity": rewards.identity, "alignment": rewards.alignment}
    return Loaded(functions, clip_name(config.scorers.clip), {"identity": rewards.references})


def _load_dino_rewards(config: Config) -> Loaded:
    rewards = DinoRewards(DinoScorer.from_pretrained(config.scorers.dino, _device(config)))
    return Loaded({"dino": rewards.dino}, f"DINOv2 {config.scorers.dino}", {"dino": rewards.references})


def _load_face_rewards(config: Config) -> Loaded:
    scorer = FaceScorer.from_pretrained(config.scorers.face, _device(config))
    rewards = FaceRewards(scorer)
    return Loaded(
        {"face": rewards.face}, f"ArcFace {scorer.name} of {config.scorers.face}", {"face": rewards.references}
    )


def _load_judge_rewards(config: Config) -> Loaded:
    judge, name = _reward_judge(config.scorers.judge)
    rewards = judge_rewards(judge, config.scorers.judge)
    functions: dict[str, RewardFunction] = {"likeness": rewards.likeness, "faithfulness": rewards.faithfulness}
    if isinstance(judge, CountsUnasked):
        functions["unasked"] = RestraintRewards(judge.unasked).unasked
    return Loaded(functions, name)


def judge_rewards(judge: Judge, config: JudgeConfig) -> JudgeRewards:
    """Likeness and faithfulness by a judge of this configuration.

    The world's judge reads the info line alone; every other one is shown the concept's photos too.
    """
    return JudgeRewards(judge, photos=config.url != WORLD)


def load_clip(path: str, config: Config) -> ClipScorer:
    """The world's CLIP, or the one of a folder or hub id, on the device of the run."""
    if path == WORLD:
        from sync_r1.world.assets import load_world_clip

        return load_world_clip()
    return ClipScorer.from_pretrained(path, _device(config))


def clip_name(path: str) -> str:
    """What records call it."""
    if path == WORLD:
        return "world CLIP"
    return f"CLIP {path}"


def _reward_judge(config: JudgeConfig) -> tuple[Judge, str]:
    if config.url != WORLD:
        judge = RemoteJudge(config)
        return judge, judge.name
    from sync_r1.world.assets import load_reward_reader
    from sync_r1.world.judge import WorldJudge

    return WorldJudge(load_reward_reader(), soft=True), "world reward reader (convolutions)"


def _device(config: Config) -> str:
    """The process's own device: `cuda` alone would put the scorers of all processes on the first GPU."""
    device = pick_device(config.run.device)
    if device == "cuda":
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return device


# In the order in which they are loaded. A new network is an entry here, and an option of `config.scorers`.
NETWORKS: dict[str, Network] = {
    "clip": Network(
        rewards=("identity", "alignment"),
        example="scorers.clip=openai/clip-vit-large-patch14",
        given=lambda scorers: scorers.clip,
        load=_load_clip_rewards,
    ),
    "dino": Network(
        rewards=("dino",),
        example="scorers.dino=facebook/dinov2-base",
        given=lambda scorers: scorers.dino,
        load=_load_dino_rewards,
    ),
    "face": Network(
        rewards=("face",),
        example="scorers.face=<folder of buffalo_l>",
        given=lambda scorers: scorers.face,
        load=_load_face_rewards,
    ),
    "judge": Network(
        rewards=("likeness", "faithfulness", "unasked"),
        example="scorers.judge.url=http://localhost:8000/v1",
        given=lambda scorers: scorers.judge.url,
        load=_load_judge_rewards,
    ),
}
