"""What options demand of each other. Every error gives the value seen, the limit and the fix."""

from __future__ import annotations

import math
from pathlib import Path

from sync_r1.config.rl import RLConfig
from sync_r1.config.sections import SFT_STAGES, ModelConfig, RunConfig, SFTConfig
from sync_r1.config_fields import fail
from sync_r1.constants import CATEGORIES
from sync_r1.files import is_device_name


def check_steps(rl: RLConfig) -> None:
    steps = rl.generation_timesteps
    limit = f"it must be at most rl.generation_timesteps = {steps}"
    if rl.replayed_timesteps() > steps:
        fail("rl.train_timesteps", rl.train_timesteps, limit, "lower it or leave it empty")
    if rl.dgs_enabled and rl.dgs_preview_step >= steps:
        limit = f"it must be below rl.generation_timesteps = {steps}"
        fail("rl.dgs_preview_step", rl.dgs_preview_step, limit, f"set it to {max(steps // 3, 1)}")
    if rl.dgs_enabled and not rl.draws:
        limit = f"previews need images, but rl.optimise={rl.optimise} draws none"
        fail("rl.dgs_enabled", True, limit, "set rl.dgs_enabled=false")
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


def check_tree(rl: RLConfig) -> None:
    if not rl.grows_trees:
        return
    if rl.images_per_text < 2:
        limit = (
            f"with rl.dgs_keep={rl.dgs_keep} it must be at least 2: the pictures that branch from one text are compared"
        )
        fail("rl.images_per_text", rl.images_per_text, limit, "set it to 4")
    if rl.dgs_keep == "tree" and rl.dgs_trunks > rl.num_generations:
        limit = f"it must be at most rl.num_generations = {rl.num_generations}"
        fail("rl.dgs_trunks", rl.dgs_trunks, limit, f"set it to {rl.num_generations}")
    if rl.credit == "shared":
        fail("rl.dgs_keep", rl.dgs_keep, "a text that is not drawn has no whole trajectory", "set rl.credit=routed")
    if rl.multi_objective_aggregation == "normalize_then_sum":
        limit = "promises and rewards are compared as they are, and normalize_then_sum changes them"
        fail("rl.dgs_keep", rl.dgs_keep, limit, "set rl.multi_objective_aggregation=sum_then_normalize")


def check_losses(rl: RLConfig) -> None:
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
    if rl.closed_loss == "none" and not rl.rolls_out:
        fail("rl.closed_loss", "none", "with rl.optimise=decisions nothing would train", "set rl.closed_loss=log")


def check_run(rl: RLConfig, run: RunConfig) -> None:
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


def check_warm_up(sft: SFTConfig) -> None:
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


def check_rewards(rl: RLConfig) -> None:
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


def check_precision(model: ModelConfig, rl: RLConfig) -> None:
    if model.dtype == "bf16" and rl.learning_rate > 0 and not rl.lora_rank:
        limit = "a body that trains must be fp32: bf16 has 8 significant bits and loses updates below 0.4 % of a weight"
        fail(
            "model.dtype",
            "bf16",
            limit,
            "set rl.lora_rank=16 (fp32 adapters on frozen bf16), model.dtype=fp32 or rl.learning_rate=0",
        )
