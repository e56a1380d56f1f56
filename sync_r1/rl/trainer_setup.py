"""From a configuration to the parts of a trainer, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset
from transformers import TrainingArguments

from sync_r1.config import Config, RLConfig
from sync_r1.distributed import Processes
from sync_r1.models.base import UnifiedModel
from sync_r1.rl.closed_answers import ClosedAnswers
from sync_r1.rl.dgs import GroupScaling, NoScaling, Scaling, SpreadScaling, Threshold
from sync_r1.rl.rewards import RewardEnsemble
from sync_r1.rl.rollout import PreviewScore, Sampler
from sync_r1.rl.tree import TieScaling, TreeSampler, TreeScaling
from sync_r1.run_folder import CHECKPOINTS
from sync_r1.training.prompts import Prompt


class Steps(Dataset):
    """Stands in for data: a step's prompts follow from its number, so that resuming needs no data order.

    There must be enough for one pass over all processes: beginning another would draw from PyTorch's global generator.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"step": index}


def scaling(rl: RLConfig) -> Scaling:
    """DGS as configured, or its null object."""
    if not rl.dgs_enabled:
        return NoScaling()
    if rl.dgs_keep == "spread":
        return SpreadScaling(rl.dgs_candidate_factor, rl.dgs_preview_step)
    if rl.dgs_keep == "tree":
        return TreeScaling(rl.dgs_trunks, rl.dgs_preview_step, rl.dgs_skip_below)
    if rl.dgs_keep == "ties":
        return TieScaling(rl.dgs_trunks, rl.dgs_preview_step, tie_below=rl.dgs_tie_below)
    threshold = Threshold(rl.dgs_threshold, target=rl.dgs_target_acceptance, rate=rl.dgs_rate)
    return GroupScaling(threshold, rl.dgs_candidate_factor, rl.dgs_preview_step)


def check_setup(
    rl: RLConfig, prompts: Sequence[Prompt], rewards: RewardEnsemble, preview_score: PreviewScore | None
) -> None:
    """Refuse combinations that could only waste time. Raises ValueError."""
    if not prompts:
        raise ValueError(
            "there are no training prompts; give the concept implicit prompts with facts, or questions about its photos"
        )
    if rl.rolls_out:
        _check_rollouts(rl, prompts, rewards, preview_score)
    if rl.closed_loss != "none" and len({prompt.answer for prompt in prompts if prompt.options}) < 2:
        raise ValueError(
            f"rl.closed_loss is {rl.closed_loss!r}, but there are no pictures of both kinds to ask about, of the "
            "concept and of something else; put pictures of other things into its negative_example folder or into "
            "random_images, or set rl.closed_loss=none"
        )


def _check_rollouts(
    rl: RLConfig, prompts: Sequence[Prompt], rewards: RewardEnsemble, preview_score: PreviewScore | None
) -> None:
    """Whether what is sampled can teach what is to be optimised."""
    asked, shares = {prompt.kind for prompt in prompts}, rl.shares()
    if not any(shares[kind] > 0 for kind in asked):
        raise ValueError(
            f"the concept has only {' and '.join(sorted(asked))} prompts, and their share is 0 "
            f"(rl.look_fraction={rl.look_fraction}, rl.recognize_fraction={rl.recognize_fraction}); change the shares, "
            "or give the concept other prompts"
        )
    parts = rewards.parts({prompt.concept.category for prompt in prompts})
    both = {"text", "image"}
    movers = {
        "text": both if rl.optimise == "both" else {"text"},
        "image": {"image"} if rl.credit == "routed" else both,
    }
    for part in ("text", "image") if rl.optimise == "both" else (rl.optimise,):
        if not parts & movers[part]:
            raise ValueError(
                f"rl.optimise is {rl.optimise!r} and rl.credit {rl.credit!r}, but no reward judges "
                f"{' or '.join(sorted(movers[part]))}, so the {part} part cannot learn; add one with a weight for this "
                "concept to rl.reward_weights, or optimise the other part"
            )
    if rl.draw_every > 1 and (rl.optimise == "image" or "text" not in parts):
        raise ValueError(
            f"rl.draw_every is {rl.draw_every}, but rollouts without pictures have nothing to teach: rl.optimise is "
            f"{rl.optimise!r} and the rewards judge {' and '.join(sorted(parts))}; set rl.draw_every=1"
        )
    if rl.dgs_enabled and rl.dgs_keep != "tree" and preview_score is None:
        raise ValueError(
            "rl.dgs_enabled needs a preview score; add identity and alignment rewards or set rl.dgs_enabled=false"
        )


def build_sampler(
    model: UnifiedModel, rl: RLConfig, preview_score: PreviewScore | None, processes: Processes
) -> Sampler:
    """What draws the rollouts of one step. `preview_score` scores previews for DGS."""
    kind = Sampler
    if rl.grows_trees:
        kind = TreeSampler
    return kind(
        model=model,
        sampling=rl.sampling(),
        scaling=scaling(rl),
        preview_score=preview_score,
        group_size=rl.num_generations,
        images_per_text=rl.images_per_text,
        draw_images=rl.optimise != "text",
        preview_fill=rl.dgs_preview_fill,
        processes=processes,
    )


def build_closed_answers(
    config: Config, prompts: Sequence[Prompt], accelerator: Accelerator, sampler: Sampler
) -> ClosedAnswers | None:
    """The exact loss of the prompts that have few possible answers; None where it is off (`rl.closed_loss`)."""
    if config.rl.closed_loss == "none":
        return None
    asked = [prompt for prompt in prompts if prompt.options]
    seed, processes = config.run.seed, sampler.processes
    return ClosedAnswers(asked, config.rl, accelerator, seed, processes, sampler.photo_codes)


def training_arguments(config: Config) -> TrainingArguments:
    """Our configuration as transformers names it."""
    rl, run = config.rl, config.run
    return TrainingArguments(
        output_dir=str(run.folder / CHECKPOINTS),
        max_steps=rl.max_steps,
        per_device_train_batch_size=1,
        learning_rate=rl.learning_rate or rl.concept_learning_rate,
        lr_scheduler_type=rl.lr_scheduler_type,
        warmup_steps=rl.warmup_steps,
        max_grad_norm=0.0,  # update() clips
        seed=run.seed,
        ddp_timeout=round(run.peer_timeout_s),
        use_cpu=run.device == "cpu" or not torch.cuda.is_available(),
        bf16=run.precision == "bf16",
        save_strategy="steps",
        save_steps=run.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ignore_data_skip=True,
    )
