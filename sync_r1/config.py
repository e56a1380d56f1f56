"""One configuration: keyword-only dataclasses, a line of documentation per field, checked before any weight is loaded.

Precedence: defaults < recipe < YAML file < dotted overrides (`rl.num_generations=12`). Names follow TRL where the
    meaning is the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from sync_r1.config_fields import (
    check_ranges,
    check_unicode,
    describe,
    fail,
    kind_of,
    merge,
    option,
    parse_yaml,
    shown,
)
from sync_r1.files import is_device_name, read_text, write_text
from sync_r1.types import Sampling

Weight = float | dict[str, float]
CATEGORIES = ("person", "animal", "object")
WORLD = "world"  # as a data root, a model or what scores: what ships with the package
SFT_STAGES = ("1", "2", "3", "photos", "baseline")


@dataclasses.dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model, and how a concept's tokens are added to it."""

    path: str = option(
        "world",
        "a folder, a hub id such as showlab/show-o-512x512, or 'world' for the model shipped with the package",
        path=True,
    )
    image_tokenizer: str = option(
        "showlab/magvitv2",
        "folder or hub id of MAGVIT-v2; only read with weights in Show-o's published layout",
        path=True,
    )
    text_tokenizer: str = option(
        "microsoft/phi-1_5", "folder or hub id of the tokenizer; only read with Show-o's published layout", path=True
    )
    dtype: Literal["fp32", "bf16"] = option(
        "fp32", "of frozen weights; what trains stays fp32, and so does log-probability maths"
    )
    num_tokens: int = option(4, "soft tokens <token_0>… added per concept, besides its name", ge=0)
    reading_tokens: int = option(
        0, "how many of the first soft tokens introduce the concept in understanding prompts", ge=0
    )
    drawing_tokens: int | None = option(
        None, "how many of the first soft tokens go into drawing prompts; empty is all", ge=0
    )
    init: Literal["class-noun", "images", "none"] = option(
        "class-noun",
        "what a new concept's rows start as: its class noun, its photos (k-means of code rows, a face), or noise",
    )


@dataclasses.dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where the concepts are."""

    root: str = option("world", "concept store in the UniCTokens layout, or 'world' for the embedded one", path=True)
    concepts: list[str] = dataclasses.field(default_factory=list, metadata={"doc": "the one concept to learn"})


@dataclasses.dataclass(kw_only=True, slots=True)
class RewardConfig:
    """A reward function of your own."""

    function: str = option("", "dotted path, e.g. my_rewards.sharpness, of a function in TRL's reward shape")
    part: Literal["text", "image"] = option("image", "the half of the trajectory that it judges")


@dataclasses.dataclass(kw_only=True, slots=True)
class JudgeConfig:
    """A judge of pictures and texts behind an OpenAI-compatible endpoint. Its key comes from the environment only."""

    url: str = option(
        "world",
        (
            "base URL such as http://localhost:8000/v1, several of the same model by commas; 'world' reads the "
            "embedded world; empty is none"
        ),
    )
    model: str = option("", "model name the endpoint expects")
    key_env: str = option("SYNC_R1_JUDGE_KEY", "environment variable that holds the key; unset sends none")
    timeout_s: float = option(60.0, "seconds until a request counts as failed", gt=0)
    max_retries: int = option(4, "attempts after the first, with exponential backoff", ge=0)
    concurrency: int = option(8, "requests in flight at most", ge=1)
    images_per_call: int = option(9, "pictures judged in one request at most", ge=1)
    references_per_call: int = option(2, "reference photos sent with a request at most", ge=1)
    max_side: int = option(512, "longer side of a picture as it is sent, in pixels; larger ones are scaled down", ge=16)
    identity_weight: float = option(
        0.6, "identity's share of a score where reference photos are sent; the rest is faithfulness", ge=0, le=1
    )
    temperature: float | None = option(0.0, "of the judge's replies; empty leaves it to the endpoint", ge=0)
    max_tokens: int | None = option(
        None,
        "tokens of a reply, thoughts included; raise it for a judge that thinks; empty is 1024, or 64 as published",
        ge=1,
    )
    instructions: str = option(
        "", "YAML file with instructions of your own; empty takes those of the package", path=True
    )
    cache: str = option("", "folder of replies keyed by content; empty keeps them in memory", path=True)
    price_in: float = option(0.0, "price of a million prompt tokens, for the cost counter", ge=0)
    price_out: float = option(0.0, "price of a million completion tokens, for the cost counter", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class ScorersConfig:
    """The networks behind the rewards.

    Those of the evaluation are set in `eval`, so that reward and evaluator can differ.
    """

    clip: str = option(
        "world",
        "folder or hub id of a CLIP, such as openai/clip-vit-base-patch32, or 'world'; behind identity, alignment",
        path=True,
    )
    dino: str = option(
        "", "folder or hub id of a DINOv2, such as facebook/dinov2-base; behind the reward 'dino'", path=True
    )
    face: str = option(
        "", "folder of an insightface pack (detector and ArcFace .onnx files); behind the reward 'face'", path=True
    )
    judge: JudgeConfig = dataclasses.field(
        default_factory=JudgeConfig, metadata={"doc": "behind likeness and faithfulness"}
    )
    fallback: dict[str, str] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "reward → reward that stands in where it could not score, e.g. face: identity; counted"},
    )


@dataclasses.dataclass(kw_only=True, slots=True)
class SFTConfig:
    """Warm-up of a concept's tokens by next-token and masked-token losses (docs/warm_up.md).

    Off unless stages are named.
    """

    stages: list[str] = dataclasses.field(
        default_factory=list,
        metadata={
            "doc": (
                "of 1, 2, 3 (UniCTokens), photos (tokens learn to draw them) and baseline (what RL asks, answered), "
                "in order"
            )
        },
    )
    epochs: int | None = option(
        None, "passes per stage; empty is the published 15, 20, 20, 60 for photos and 20 for the baseline", ge=1
    )
    learning_rate: float = option(1e-3, "for the concept's rows, constant", gt=0)
    body_learning_rate: float = option(
        0.0, "for the transformer body; 0 trains the rows only, as UniCTokens does", ge=0
    )
    understanding_weight: float = option(0.2, "weight of the answer loss when both streams are on", ge=0)
    drawing_weight: float = option(0.8, "weight of the masked-token loss when both streams are on", ge=0)
    understanding_batch: int | None = option(
        None, "dialogues per step; empty is the stage's own: 1, in stage 1 and the baseline 4", ge=1
    )
    drawing_batch: int | None = option(
        None, "pictures per step; empty is the stage's own: 4 in photos and baseline, else 1", ge=1
    )
    fresh_epochs: bool = option(
        False, "draw crops, flips and order anew in every epoch; the published stages freeze them before the first"
    )
    crop_scale: float = option(
        1.1, "stage 2 cuts random squares out of pictures enlarged this much; 1 keeps them whole", ge=1
    )
    condition_dropout: float = option(
        0.1, "share of drawing prompts left empty: keeps guidance alive when the body trains", ge=0, le=1
    )
    photo_prompt: str = option(
        "A photo of {name}.", "drawing prompt of a photo; {name} becomes soft tokens and placeholder"
    )
    described: bool = option(
        False, "begin questions of stages 1 to 3 with the name and info lines, as the benchmark does"
    )
    save_epochs: int = option(5, "epochs between checkpoints; the last is always saved", ge=1)
    pull: float = option(0.0, "weight of the L2 pull of the placeholder's rows to their start", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class RLConfig:
    """Sync-GRPO and Dynamic Group Scaling."""

    optimise: Literal["both", "text", "image"] = option(
        "both", "halves that receive gradients; 'text' draws no images at all"
    )
    credit: Literal["shared", "routed"] = option(
        "routed", "shared: one advantage for both halves; routed: each half its own"
    )
    look_fraction: float = option(0.5, "share of 'look' prompts (a question about a photo)", ge=0, le=1)
    recognize_fraction: float = option(
        0.0, "share of 'recognize' prompts (is it there?); the rest are 'reason' prompts", ge=0, le=1
    )
    validation_prompts: int = option(
        0, "reason prompts held out of training to watch for reward hacking; 0 is off", ge=0
    )
    validation_steps: int = option(10, "updates between looks at the validation prompts", ge=1)

    max_steps: int = option(60, "optimizer updates", ge=1)
    prompts_per_step: int = option(2, "groups per step on each process", ge=1)
    num_generations: int = option(8, "G, trajectories per prompt", ge=2)
    images_per_text: int = option(1, "M, images drawn from each text (a tree: prompt, texts, images)", ge=1)
    num_iterations: int = option(1, "updates per rollout; the clip only matters above 1", ge=1)
    draw_every: int = option(
        1,
        (
            "one rollout in so many is drawn; those in between teach the text half on its own rewards, at a small "
            "share of the cost"
        ),
        ge=1,
    )

    text_prompts_per_step: int | None = option(
        None,
        (
            "groups per step on each process in rollouts without pictures: more prompts make steadier texts; empty is "
            "prompts_per_step"
        ),
        ge=1,
    )

    learning_rate: float = option(5e-5, "for the transformer body; 0 freezes it", ge=0)
    concept_learning_rate: float = option(1e-2, "for the concept's rows of embedding and head; 0 freezes them", ge=0)
    lora_rank: int = option(
        0, "rank of adapters on the body, which then keeps its own weights; 0 trains the weights themselves", ge=0
    )
    lora_alpha: float = option(32.0, "scale of the adapters, alpha / rank", gt=0)
    lora_target_modules: list[str] = dataclasses.field(
        default_factory=list,
        metadata={"doc": "linear layers that get adapters, by the last part of their names; empty is all of the body"},
    )
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"] = option(
        "constant_with_warmup", "learning rate schedule"
    )
    warmup_steps: int = option(0, "updates over which the learning rate rises", ge=0)
    weight_decay: float = option(0.0, "AdamW decay of the body; concept rows are never decayed", ge=0)
    adam_beta1: float = option(0.9, "AdamW first moment", ge=0, le=1)
    adam_beta2: float = option(0.99, "AdamW second moment", ge=0, le=1)
    max_grad_norm: float = option(1.0, "gradient norm limit; 0 is no limit", ge=0)
    sequences_per_backward: int = option(
        256, "replayed sequences (trajectory × timestep) per backward: bounds memory", ge=1
    )

    gradient_checkpointing: bool = option(
        False, "recompute layers in the backward pass: less memory, about a third more time"
    )

    beta: float = option(0.0, "weight of KL(policy ‖ start); above 0 keeps the start weights in memory", ge=0)
    epsilon: float = option(0.2, "lower clip of the ratio (and upper, unless epsilon_high is set)", gt=0)
    epsilon_high: float | None = option(
        None, "upper clip of the ratio; larger than epsilon keeps exploration alive", gt=0
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo"] = option(
        "dr_grpo", "mean per trajectory, per token, or over a constant length"
    )
    importance_sampling_level: Literal["token", "sequence"] = option(
        "token", "ratio per token, or per text and per set of image tokens committed at one step"
    )
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = option(
        "sum_then_normalize", "whether rewards are standardised in their group one by one (GDPO) before they are added"
    )
    scale_rewards: Literal["none", "group", "batch"] = option(
        "none", "divide advantages by the std of the group or batch"
    )
    text_loss_weight: float = option(1.0, "λ of the understanding half", ge=0)
    image_loss_weight: float = option(1.0, "λ of the generation half", ge=0)
    entropy_coef: float = option(0.0, "entropy bonus on the text tokens", ge=0)
    closed_loss: Literal["none", "log", "expected"] = option(
        "none",
        (
            "exact gradient of yes-or-no questions: of log p(rewarded answer) or of the expected reward; none samples "
            "groups"
        ),
    )
    closed_prompts_per_step: int = option(
        8, "such questions per update on each process, as many with yes as with no", ge=2
    )
    closed_own_drawings: int = option(
        0, "pictures of its own that the model is also asked about; its drawing half says which show the concept", ge=0
    )
    closed_loss_weight: float = option(1.0, "weight of their loss beside the two halves", ge=0)
    image_baseline: Literal["group", "previews"] = option(
        "group", "an image is compared with its group's mean, or step by step also with what its own previews promised"
    )
    timestep_sampling: Literal["uniform", "late"] = option(
        "uniform", "replayed steps: K at random, or always the last ⌊K/2⌋ and the rest at random; both are unbiased"
    )
    train_timesteps: int | None = option(
        None, "K of the T decoding steps replayed per update, weighted T/K; empty is all", ge=1
    )
    max_skipped_steps: int = option(
        3, "unscored or non-finite steps in a row that are skipped before the run stops", ge=0
    )

    temperature: float = option(1.0, "of text and image tokens, in rollout and replay", gt=0)
    top_k: int | None = option(None, "of text and image tokens, in rollout and replay; empty is off", ge=1)
    max_completion_length: int = option(24, "text tokens at most, end token included", ge=1)
    generation_timesteps: int = option(8, "T, MaskGIT steps per image", ge=1)
    guidance_scale: float = option(0.0, "w in (1+w)·cond − w·uncond; 0 is off and costs half", ge=0)
    choice_temperature: float = option(1.0, "noise on which proposals are committed first", ge=0)

    reward_weights: dict[str, Weight] = dataclasses.field(
        default_factory=lambda: {"rewrite": 0.5, "answer": 0.5, "identity": 0.3, "alignment": 0.2},
        metadata={"doc": "weight per reward: a number, or one number per category (person, animal, object)"},
    )
    custom_rewards: dict[str, RewardConfig] = dataclasses.field(
        default_factory=dict, metadata={"doc": "functions of your own that reward_weights may name"}
    )

    dgs_enabled: bool = option(False, "Dynamic Group Scaling: preview candidates early, finish only the promising ones")
    dgs_candidate_factor: float = option(2.0, "c_max: at most ⌈c_max·G⌉ candidates per prompt", ge=1)
    dgs_preview_step: int = option(3, "k, decoding steps before the preview", ge=1)
    dgs_keep: Literal["best", "spread"] = option(
        "best",
        (
            "candidates to finish: those above a threshold that follows the acceptance, or those whose previews "
            "differ most"
        ),
    )
    dgs_preview_score: Literal["clip", "reward"] = option(
        "clip",
        (
            "what judges previews: a·CLIP-I + (1−a)·CLIP-T, or the ready-made image rewards with their weights (costs "
            "a second look)"
        ),
    )
    dgs_preview_fill: Literal["likely", "sampled"] = option(
        "sampled", "what previews show where nothing is drawn yet: the likeliest code, or a sampled one"
    )
    dgs_threshold: float | None = option(None, "first τ; empty takes it from the first previews", ge=0, le=1)
    dgs_target_acceptance: float = option(0.5, "ρ, share of candidates that should pass", gt=0, le=1)
    dgs_rate: float = option(0.05, "η, how fast τ follows the acceptance", ge=0)
    dgs_image_weight: float = option(0.65, "a: preview score = a·identity + (1−a)·alignment", ge=0, le=1)

    def sampling(self) -> Sampling:
        """The one sampling object that generation and replay share."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            guidance_scale=self.guidance_scale,
            max_completion_length=self.max_completion_length,
            generation_timesteps=self.generation_timesteps,
            choice_temperature=self.choice_temperature,
        )

    def shares(self) -> dict[str, float]:
        """Of each kind of prompt."""
        asked = self.look_fraction + self.recognize_fraction
        return {"reason": max(1 - asked, 0.0), "look": self.look_fraction, "recognize": self.recognize_fraction}

    def replayed_timesteps(self) -> int:
        """K, with "all" resolved."""
        return self.train_timesteps or self.generation_timesteps

    def drawn(self, rollout: int) -> bool:
        """Whether pictures are drawn in rollout number `rollout` (`draw_every`)."""
        return self.optimise != "text" and rollout % self.draw_every == 0

    def prompts_of(self, rollout: int) -> tuple[int, int]:
        """How many prompts a process asks in rollout number `rollout`, and how many it asked in all before it."""
        counts = (self.text_prompts_per_step or self.prompts_per_step, self.prompts_per_step)
        if self.optimise == "text":
            drawn = 0
        else:
            drawn = -(-rollout // self.draw_every)
        return counts[self.drawn(rollout)], drawn * counts[True] + (rollout - drawn) * counts[False]


@dataclasses.dataclass(kw_only=True, slots=True)
class EvalConfig:
    """UnifyBench++."""

    clip: str = option("world", "folder or hub id of the CLIP that scores pictures, or 'world'", path=True)
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig, metadata={"doc": "scores texts and pictures"})
    tasks: list[str] = dataclasses.field(default_factory=list, metadata={"doc": "tasks to run; empty is all nine"})
    max_items: int | None = option(None, "items per task and concept at most; empty is all", ge=1)
    images_per_prompt: int = option(1, "images drawn per prompt", ge=1)
    generation_timesteps: int = option(8, "MaskGIT steps per image", ge=1)
    guidance_scale: float = option(0.0, "guidance of the drawings", ge=0)
    temperature: float = option(1.0, "temperature of the drawings; answers are greedy", gt=0)
    max_completion_length: int = option(48, "tokens per answer at most", ge=1)
    batch_size: int = option(16, "items per batch", ge=1)
    seed: int = option(3407, "base seed; every item derives its own", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class RunConfig:
    """Where results go and on what the run computes."""

    name: str = option("run", "folder of this run inside output_dir")
    output_dir: str = option("runs", "folder of all runs", path=True)
    seed: int = option(0, "all sampling derives from (seed, step, index)", ge=0)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where to compute; auto prefers cuda")
    precision: Literal["fp32", "bf16"] = option("fp32", "bf16 is autocast; log-probabilities stay fp32")
    sharding: Literal["none", "fsdp2", "zero1"] = option(
        "none",
        "of memory among several processes: fsdp2 the optimizer's and the KL reference's; zero1 the optimizer's",
    )
    peer_timeout_s: float = option(
        1800.0, "seconds that one of several processes waits for another before it gives up", ge=1
    )
    save_steps: int = option(20, "updates between checkpoints; the last step is always saved", ge=1)
    save_total_limit: int = option(2, "checkpoints kept", ge=1)
    log_completions: bool = option(True, "write trajectories and pictures")
    completions_steps: int = option(5, "steps between written trajectories", ge=1)
    completions_images: int = option(24, "pictures per written step at most", ge=0)

    @property
    def folder(self) -> Path:
        return Path(self.output_dir) / self.name


@dataclasses.dataclass(kw_only=True, slots=True)
class Config:
    """Everything a run depends on; `config.yaml` in the run folder is this, resolved."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    scorers: ScorersConfig = dataclasses.field(default_factory=ScorersConfig)
    sft: SFTConfig = dataclasses.field(default_factory=SFTConfig)
    rl: RLConfig = dataclasses.field(default_factory=RLConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)

    def validate(self) -> Config:
        """Check every range, then what fields demand of each other. Raises ValueError: value seen, limit, fix."""
        check_ranges(self, "")
        _check_steps(self.rl)
        _check_losses(self.rl)
        _check_run(self.rl, self.run)
        _check_rewards(self.rl)
        _check_warm_up(self.sft)
        if self.model.dtype == "bf16" and self.rl.learning_rate > 0 and not self.rl.lora_rank:
            limit = (
                "a body that trains must be fp32: bf16 has 8 significant bits and loses updates below 0.4 % of a weight"
            )
            fail(
                "model.dtype",
                "bf16",
                limit,
                "set rl.lora_rank=16 (fp32 adapters on frozen bf16), model.dtype=fp32 or rl.learning_rate=0",
            )
        return self


def _check_steps(rl: RLConfig) -> None:
    steps = rl.generation_timesteps
    limit = f"it must be at most rl.generation_timesteps = {steps}"
    if rl.replayed_timesteps() > steps:
        fail("rl.train_timesteps", rl.train_timesteps, limit, "lower it or leave it empty")
    if rl.dgs_enabled and rl.dgs_preview_step >= steps:
        limit = f"it must be below rl.generation_timesteps = {steps}"
        fail("rl.dgs_preview_step", rl.dgs_preview_step, limit, f"set it to {max(steps // 3, 1)}")
    if rl.dgs_enabled and rl.optimise == "text":
        fail(
            "rl.dgs_enabled", True, "previews need images, but rl.optimise=text draws none", "set rl.dgs_enabled=false"
        )
    if rl.look_fraction + rl.recognize_fraction > 1:
        limit = f"with rl.look_fraction = {rl.look_fraction} it must be at most {1 - rl.look_fraction:.2g}"
        fail("rl.recognize_fraction", rl.recognize_fraction, limit, "lower one of the two")
    if rl.epsilon_high is not None and rl.epsilon_high < rl.epsilon:
        fail(
            "rl.epsilon_high",
            rl.epsilon_high,
            f"it must be at least rl.epsilon = {rl.epsilon}",
            "raise it or leave it empty",
        )
    if rl.learning_rate == 0 and rl.concept_learning_rate == 0:
        fail("rl.learning_rate", 0.0, "with rl.concept_learning_rate = 0 nothing would train", "raise one of the two")
    if rl.warmup_steps > rl.max_steps:
        fail("rl.warmup_steps", rl.warmup_steps, f"it must be at most rl.max_steps = {rl.max_steps}", "lower it")


def _check_losses(rl: RLConfig) -> None:
    if rl.image_baseline == "previews" and rl.multi_objective_aggregation == "normalize_then_sum":
        limit = "it compares rewards as they are, and rl.multi_objective_aggregation=normalize_then_sum changes them"
        fail("rl.image_baseline", "previews", limit, "set rl.multi_objective_aggregation=sum_then_normalize")
    if rl.image_baseline == "previews" and rl.credit == "shared":
        fail("rl.image_baseline", "previews", "a preview says nothing about the text's reward", "set rl.credit=routed")
    if rl.closed_prompts_per_step % 2:
        limit = "it must be even: half of the answers are yes, half no"
        fail("rl.closed_prompts_per_step", rl.closed_prompts_per_step, limit, "add one")
    if rl.closed_loss != "none" and rl.optimise == "image":
        fail("rl.closed_loss", rl.closed_loss, "rl.optimise=image trains no text", "set rl.closed_loss=none")


def _check_run(rl: RLConfig, run: RunConfig) -> None:
    updates = rl.num_iterations
    for name, value in (("run.save_steps", run.save_steps), ("rl.max_steps", rl.max_steps)):
        if value % updates:
            limit = f"it must be a multiple of rl.num_iterations = {updates}"
            fail(name, value, limit, f"set {name} to {math.ceil(value / updates) * updates}")
    if run.name in ("", ".", "..") or Path(run.name).name != run.name:
        fail("run.name", run.name, "it must be one folder name without separators", "use run.output_dir for the place")
    if is_device_name(run.name):
        fail("run.name", run.name, "it cannot be a folder on Windows", "choose another name")
    if run.sharding != "none" and (rl.lora_rank or not rl.learning_rate):
        trained = "with rl.learning_rate = 0"
        if rl.learning_rate:
            trained = f"with rl.lora_rank = {rl.lora_rank}"
        limit = f"{trained} so little trains that every process may keep all of it"
        fail("run.sharding", run.sharding, limit, "set run.sharding=none")


def _check_warm_up(sft: SFTConfig) -> None:
    for stage in sft.stages:
        if stage not in SFT_STAGES:
            fail("sft.stages", stage, f"it must be one of {', '.join(SFT_STAGES)}", "for example sft.stages=[1,2,3]")
    if "{name}" not in sft.photo_prompt:
        fail("sft.photo_prompt", sft.photo_prompt, "it must hold {name}", "for example 'A photo of {name}.'")
    if sft.stages and sft.understanding_weight == 0 and sft.drawing_weight == 0:
        fail(
            "sft.drawing_weight",
            0.0,
            "with sft.understanding_weight = 0 nothing would be learned",
            "raise one of the two",
        )


def _check_rewards(rl: RLConfig) -> None:
    if not rl.reward_weights:
        fail("rl.reward_weights", {}, "at least one reward is needed", "for example rl.reward_weights.identity=1.0")
    for name, weight in rl.reward_weights.items():
        for category, value in weight.items() if isinstance(weight, dict) else [("", weight)]:
            where = f"rl.reward_weights.{name}" + (f".{category}" if category else "")
            if category and category not in CATEGORIES:
                fail(where, value, f"{category!r} is no category", f"use {', '.join(CATEGORIES)}")
            if not (math.isfinite(value) and value >= 0):
                fail(where, value, "a weight must be at least 0", "let the function return a lower score instead")
    for name, custom in rl.custom_rewards.items():
        if "." not in custom.function:
            fail(
                f"rl.custom_rewards.{name}.function",
                custom.function,
                "it must be a dotted path",
                "for example my_rewards.sharpness",
            )


def _names() -> list[str]:
    return [name for name, *_ in describe(Config())]


def _override(config: Config, text: str) -> None:
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2:
        raise ValueError(f"override {shown(text)} is not section.option=value; for example rl.num_generations=12")
    check_unicode(raw, path.strip())
    if kind_of(Config, keys) is str and raw.strip()[:1] not in ("'", '"'):
        tree: Any = raw.strip()
    else:
        tree = parse_yaml(raw, f"override {shown(text)}", texts=True)
    for key in reversed(keys):
        tree = {key: tree}
    current = getattr(getattr(config, keys[0], None), keys[1], None)
    if isinstance(current, dict) and len(keys) > 2:
        plain = dataclasses.asdict(config)[keys[0]][keys[1]]
        tree = {keys[0]: {keys[1]: _deep(plain, tree[keys[0]][keys[1]])}}  # one entry changes, the others stay
    merge(config, tree, known=_names())


def _deep(old: Any, new: Any) -> Any:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: _deep(old.get(key), value) for key, value in new.items()}}


def load_config(path: str | Path | None = None, overrides: Sequence[str] = (), *, base: Config | None = None) -> Config:
    """Base (defaults or a recipe) < YAML file < overrides, validated.

    Raises:
        ValueError: an unknown option (with near matches) or a value outside its range (value, limit, fix).
        FileNotFoundError: `path` does not exist.
    """
    if base is not None:
        config = base
    else:
        config = Config()
    if path is not None:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such configuration file")
        values = parse_yaml(read_text(Path(path)), str(path), texts=True) or {}
        if not isinstance(values, Mapping):
            raise ValueError(
                f"{path} holds {type(values).__name__}; it must be a mapping of "
                f"{', '.join(f.name for f in dataclasses.fields(config))}"
            )
        merge(config, values, known=_names())
    for text in overrides:
        _override(config, text)
    return config.validate()


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration; `load_config` of the file gives it back."""
    write_text(Path(path), yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True))
