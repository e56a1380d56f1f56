"""The section `rl` of a configuration: rewards, Sync-GRPO and Dynamic Group Scaling."""

from __future__ import annotations

import dataclasses
from typing import Literal

from sync_r1.config_fields import option
from sync_r1.types import Sampling

Weight = float | dict[str, float]


@dataclasses.dataclass(kw_only=True, slots=True)
class RewardConfig:
    """A reward function of your own."""

    function: str = option("", "dotted path, e.g. my_rewards.sharpness, of a function in TRL's reward shape")
    part: Literal["text", "image"] = option("image", "the part of the trajectory that it judges")


@dataclasses.dataclass(kw_only=True, slots=True)
class RLConfig:
    """Sync-GRPO and Dynamic Group Scaling."""

    optimise: Literal["both", "text", "image", "decisions"] = option(
        "both", "parts that receive gradients; 'text' draws no images, 'decisions' asks yes-or-no questions alone"
    )
    credit: Literal["shared", "routed"] = option(
        "routed", "shared: one advantage for both parts; routed: each part its own"
    )
    look_fraction: float = option(0.5, "share of 'look' prompts (a question about a photo)", ge=0, le=1)
    recognize_fraction: float = option(
        0.0, "share of 'recognize' prompts (is it there?); the rest are 'reason' prompts", ge=0, le=1
    )
    validation_prompts: int = option(
        0, "reason prompts held out of training to watch for reward hacking; 0 is off", ge=0
    )
    validation_steps: int = option(10, "updates between measurements on the validation and test prompts", ge=1)
    test_prompts: int = option(
        0, "test prompts drawn at every measurement, to show how the score rises; they teach nothing; 0 is off", ge=0
    )
    test_drawings: int = option(4, "drawings per test prompt and measurement, each of a rewrite of its own", ge=1)

    max_steps: int = option(60, "optimizer updates", ge=1)
    prompts_per_step: int = option(2, "groups per step on each process", ge=1)
    num_generations: int = option(8, "G, trajectories per prompt", ge=2)
    images_per_text: int = option(1, "M, images drawn from each text (a tree: prompt, texts, images)", ge=1)
    num_iterations: int = option(1, "updates per rollout; the clip only matters above 1", ge=1)
    draw_every: int = option(
        1,
        (
            "one rollout in so many is drawn; those in between teach the text part on its own rewards, at a small "
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
    text_loss_weight: float = option(1.0, "λ of the text part", ge=0)
    image_loss_weight: float = option(1.0, "λ of the image part", ge=0)
    entropy_coef: float = option(0.0, "entropy bonus on the text tokens", ge=0)
    closed_loss: Literal["none", "log", "expected", "tokens"] = option(
        "none",
        (
            "of yes-or-no questions: exact gradient of log p(rewarded answer) or of the expected reward, or SFT "
            "(tokens); none samples groups"
        ),
    )
    closed_prompts_per_step: int = option(
        8, "such questions per update on each process, as many with yes as with no", ge=2
    )
    closed_labels: Literal["given", "drawing"] = option(
        "given",
        "what says which pictures show the concept: the data, or the model's image part by how it would draw it",
    )
    closed_own_drawings: int = option(
        0, "pictures of its own that the model is also asked about; its image part decides which show the concept", ge=0
    )
    closed_loss_weight: float = option(1.0, "weight of their loss beside those of the two parts", ge=0)
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
    dgs_preview_step: int = option(3, "k, decoding steps before the preview, or before a tree branches", ge=1)
    dgs_keep: Literal["best", "spread", "tree", "ties"] = option(
        "best",
        (
            "finished are: candidates above a threshold, those that differ most, few texts as trees of M pictures, or "
            "texts with equal previews"
        ),
    )
    dgs_trunks: int = option(2, "texts per prompt that a tree draws, to step k once and from there M times", ge=2)
    dgs_skip_below: float = option(
        0.0, "a tree skips prompts whose texts agree and whose pictures' rewards differed by less; 0 skips none", ge=0
    )
    dgs_tie_below: float = option(
        0.05,
        "with dgs_keep=ties, texts are drawn whose previews score less apart than this; the others count as seen",
        ge=0,
    )
    dgs_preview_score: Literal["clip", "reward"] = option(
        "clip",
        (
            "what judges previews: a·CLIP-I + (1−a)·CLIP-T, or the ready-made image rewards with their weights, which "
            "are then asked twice"
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
        """Kind of prompt → its share of all prompts, from 0 to 1."""
        asked = self.look_fraction + self.recognize_fraction
        return {"reason": max(1 - asked, 0.0), "look": self.look_fraction, "recognize": self.recognize_fraction}

    def replayed_timesteps(self) -> int:
        """K: how many of the T decoding steps an update replays, where `train_timesteps` is empty all of them."""
        return self.train_timesteps or self.generation_timesteps

    @property
    def grows_trees(self) -> bool:
        """Whether only some texts are drawn, as trunks that branch."""
        return self.dgs_enabled and self.dgs_keep in ("tree", "ties")

    @property
    def draws(self) -> bool:
        """Whether any rollout draws pictures."""
        return self.optimise in ("both", "image")

    @property
    def rolls_out(self) -> bool:
        """Whether trajectories are sampled and rewarded at all."""
        return self.optimise != "decisions"

    def drawn(self, rollout: int) -> bool:
        """Whether pictures are drawn in rollout number `rollout` (`draw_every`)."""
        return self.draws and rollout % self.draw_every == 0

    def prompts_of(self, rollout: int) -> tuple[int, int]:
        """How many prompts a process asks in rollout number `rollout`, and how many it asked in all before it.

        Where nothing is ever drawn, `draw_every` above 1 still makes one rollout in so many ask as many prompts as a
        drawn one: the texts then see the prompts of a run that draws.
        """
        if not self.rolls_out:
            return 0, 0
        of_drawn = self.prompts_per_step
        of_texts = self.text_prompts_per_step or self.prompts_per_step
        if self.optimise == "text" and self.draw_every == 1:
            return of_texts, rollout * of_texts
        drawn_before = -(-rollout // self.draw_every)  # rollouts before this one that asked as a drawn one does
        before = drawn_before * of_drawn + (rollout - drawn_before) * of_texts
        if rollout % self.draw_every == 0:
            return of_drawn, before
        return of_texts, before
