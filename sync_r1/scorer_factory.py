"""From `config.scorers` and `config.eval` to the networks behind the rewards and those that evaluate, checked before
any is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sync_r1.config import Config, Weight
from sync_r1.constants import WORLD
from sync_r1.data.concepts import Concept
from sync_r1.files import read_json
from sync_r1.run_folder import newest, weights_of
from sync_r1.scorer_networks import NETWORKS, clip_name, load_clip
from sync_r1.scorers import reward_functions as ready_made
from sync_r1.scorers.base import Judge, Part, RewardFunction, check_fallback, check_name
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.custom import load_function
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.world.render import SIZE

Library = dict[str, tuple[RewardFunction, Part]]

TEXT_REWARDS: Library = {"rewrite": (ready_made.rewrite, "text"), "answer": (ready_made.answer, "text")}
# Ready-made image reward → the name of the network behind it.
BEHIND = {reward: name for name, network in NETWORKS.items() for reward in network.rewards}


@dataclass(frozen=True)
class Scorers:
    """What a run scores its trajectories with."""

    library: Library  # reward → function and part; only rewards whose network was loaded
    weights: dict[str, Weight]  # rl.reward_weights of those
    fallback: dict[str, str]  # scorers.fallback of those
    preview: RewardFunction | None  # score of previews; None without Dynamic Group Scaling
    models: list[str]  # names of the networks, for the record
    # reward → features of the concept's photos
    references: dict[str, ready_made.References] = field(default_factory=dict)

    def prepare(self, concept: Concept) -> None:
        """Embed the concept's photos now, once for all rewards.

        Raises:
            ValueError: no photos, or none that a reward with a weight and without a fallback can read.
        """
        for name, references in self.references.items():
            weight = self.weights.get(name, 0.0)
            if isinstance(weight, dict):
                weight = weight.get(concept.category, 0.0)
            if not len(references(concept)) and weight and name not in self.fallback:
                raise ValueError(
                    f"rl.reward_weights.{name} is {weight} for {concept.name!r}, but none of its "
                    f"{len(concept.train_images)} training photos shows a face; add one, declare a fallback "
                    f"(scorers.fallback.{name}=identity), or set the weight to 0"
                )


class Evaluator(NamedTuple):
    """What scores the held-out items."""

    image_judge: Judge | None
    clip: ClipScorer | None
    name: str


def build_scorers(config: Config) -> Scorers:
    """Rewards by name, the preview's score, and nothing that neither a weight above 0, a fallback nor the preview
    needs.

    A reward of weight 0 is kept, and logged, when its network is there anyway.

    Raises:
        ValueError: unknown names, a network that is needed but not named or cannot be read, the world's networks for
            another model.
    """
    rl = config.rl
    library = {**TEXT_REWARDS, **_custom_rewards(config)}
    parts: dict[str, Part] = {**{name: part for name, (_, part) in library.items()}, **dict.fromkeys(BEHIND, "image")}
    for name in rl.reward_weights:
        check_name(name, parts, "rl.reward_weights")
    check_fallback(config.scorers.fallback, parts)
    users = _users(config)
    _check_networks(config, users)
    references: dict[str, ready_made.References] = {}
    models = []
    for network in users:
        loaded = NETWORKS[network].load(config)
        library |= {name: (function, "image") for name, function in loaded.rewards.items()}
        references |= loaded.references
        models.append(loaded.name)
    weights = {name: weight for name, weight in rl.reward_weights.items() if name in library}
    fallback = {name: other for name, other in config.scorers.fallback.items() if name in library and other in library}
    return Scorers(library, weights, fallback, _preview(config, library, weights), models, references)


def _preview(config: Config, library: Library, weights: Mapping[str, Weight]) -> RewardFunction | None:
    """What Dynamic Group Scaling judges previews by; None when it is off or nothing is drawn."""
    rl = config.rl
    if not rl.dgs_enabled or not rl.draws:
        return None
    if rl.dgs_preview_score == "clip":
        return ready_made.blend(library["identity"][0], library["alignment"][0], rl.dgs_image_weight)
    judging = {name: (library[name][0], weight) for name, weight in weights.items() if name in BEHIND and weight}
    if not judging:
        raise ValueError(
            "rl.dgs_preview_score is 'reward', but rl.reward_weights has no ready-made image reward "
            f"({', '.join(BEHIND)}); add one, or use rl.dgs_preview_score=clip"
        )
    return ready_made.weighted_mean(judging)


def _custom_rewards(config: Config) -> Library:
    """Functions of `rl.custom_rewards`.

    ValueError for a name that is taken, or that has no weight and so would do nothing.
    """
    found: Library = {}
    for name, entry in config.rl.custom_rewards.items():
        if name in BEHIND or name in TEXT_REWARDS:
            raise ValueError(f"rl.custom_rewards.{name} has the name of a ready-made reward; give it another name")
        if name not in config.rl.reward_weights and name not in config.scorers.fallback.values():
            raise ValueError(
                f"rl.custom_rewards.{name} has no weight, so it would do nothing; set rl.reward_weights.{name}"
            )
        found[name] = (load_function(entry.function), entry.part)
    return found


def _users(config: Config) -> dict[str, list[str]]:
    """Networks to load, each with what needs it: rewards with a weight above 0, their fallbacks, and the preview."""
    rl = config.rl
    if not rl.draws:
        return {}
    needed = [
        name
        for name, weight in rl.reward_weights.items()
        if any(weight.values() if isinstance(weight, dict) else [weight])
    ]
    for name in needed:
        other = config.scorers.fallback.get(name)
        if other is not None and other not in needed:
            needed.append(other)
    users: dict[str, list[str]] = {}
    for name in needed:
        if name in BEHIND:
            users.setdefault(BEHIND[name], []).append(name)
    if rl.dgs_enabled and rl.dgs_preview_score == "clip":
        users.setdefault("clip", []).append("the preview of rl.dgs_enabled")
    return {network: users[network] for network in NETWORKS if network in users}


def _check_networks(config: Config, users: Mapping[str, list[str]]) -> None:
    scorers = config.scorers
    if "unasked" in users.get("judge", []) and scorers.judge.url != WORLD:
        raise ValueError(
            f"rl.reward_weights.unasked needs a judge that counts what was not asked for, and scorers.judge.url is "
            f"{scorers.judge.url!r}; only 'world' does; set its weight to 0, or write it as a function of your own"
        )
    for name, rewards in users.items():
        network = NETWORKS[name]
        given = network.given(scorers)
        fix = f"set {network.example}, or do without {' and '.join(rewards)}"
        if not given:
            raise ValueError(f"{network.option} is empty, but {', '.join(rewards)} of the reward needs it; {fix}")
        if given == WORLD:
            _check_world(config, network.option, fix)


def _check_world(config: Config, option: str, fix: str) -> None:
    """The world's networks see 32-pixel pictures of the world only. ValueError when the model draws anything else."""
    if not is_world_sized(config.model.path):
        raise ValueError(
            f"{option} is 'world', which reads the embedded world's {SIZE}-pixel pictures only, but model.path "
            f"is {config.model.path!r}; {fix}"
        )


def is_world_sized(path: str) -> bool:
    """Whether a model draws the embedded world's pictures: it is "world", or a model, checkpoint or run folder that
    says so."""
    if path == WORLD:
        return True
    folder = Path(path)
    weights = weights_of(newest(folder) or folder)
    if isinstance(weights, str):  # what an update from feedback began from
        return is_world_sized(weights)
    file = weights / "config.json"
    stored = read_json(file) if file.is_file() else None
    return isinstance(stored, dict) and stored.get("image_size") == SIZE


def build_evaluator(config: Config) -> Evaluator:
    """Judge and CLIP of `config.eval`; None for one that is left empty. Their name says who scored.

    Raises:
        ValueError: the world's networks for another model, or a network that cannot be read.
    """
    options = config.eval
    if options.clip == WORLD:
        _check_world(config, "eval.clip", "set eval.clip=openai/clip-vit-base-patch32, or leave it empty (eval.clip=)")
    if options.judge.url == WORLD:
        _check_world(
            config, "eval.judge.url", "set eval.judge.url=http://localhost:8000/v1, or leave it empty (eval.judge.url=)"
        )
    clip = None
    if options.clip:
        clip = load_clip(options.clip, config)
    if options.judge.url == WORLD:
        from sync_r1.world.assets import EVALUATOR, load_evaluator_reader
        from sync_r1.world.judge import WorldJudge

        return Evaluator(WorldJudge(load_evaluator_reader()), clip, EVALUATOR)
    names = []
    if options.clip:
        names.append(clip_name(options.clip))
    judge = None
    if options.judge.url:
        judge = RemoteJudge(options.judge)
        names.insert(0, judge.name)
    return Evaluator(judge, clip, "; ".join(names))


def choose_evaluator(judge: str, clip: str, model: str, device: str, drawings: bool) -> Evaluator:
    """What scores an evaluation that no run configures.

    Args:
        judge: "world", "none", or "auto": the world's where there are `drawings` of a model of the embedded world.
        clip: a folder or hub id; "" takes the world's CLIP beside the world's judge, and none without it.
        model: a model, checkpoint or run folder, or "world".
    Raises:
        ValueError: an unknown judge, or what `build_evaluator` refuses.
    """
    if judge not in ("auto", "world", "none"):
        raise ValueError(f"judge is {judge!r}; allowed are auto, world and none")
    config = Config()
    config.model.path, config.run.device = model, device  # type: ignore[assignment]
    config.eval.judge.url, config.eval.clip = "", clip
    if judge == "world" or (judge == "auto" and drawings and is_world_sized(model)):
        config.eval.judge.url, config.eval.clip = WORLD, clip or WORLD
    return build_evaluator(config.validate())


def evaluator_notes(config: Config) -> list[str]:
    """What the evaluation shares with the reward, one sentence each: a rise there may be learned from the very network
    that measures it."""
    users, options, scorers = _users(config), config.eval, config.scorers
    notes = []
    if options.clip and "clip" in users and _same_place(options.clip, scorers.clip):
        notes.append(f"evaluator shares {clip_name(options.clip)} with the reward ({', '.join(users['clip'])})")
    judge, rewarding = options.judge, scorers.judge
    # The world's two judges are different networks.
    if (
        judge.url not in ("", WORLD)
        and "judge" in users
        and (judge.url, judge.model) == (rewarding.url, rewarding.model)
    ):
        notes.append(
            f"evaluator shares the judge {judge.model} at {judge.url} with the reward ({', '.join(users['judge'])})"
        )
    return notes


def _same_place(first: str, second: str) -> bool:
    return first == second or (Path(first).exists() and Path(first).resolve() == Path(second).resolve())
