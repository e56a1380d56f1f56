"""What a run will cost, before it starts: parameters, evaluations, FLOPs, memory and time, as pure functions of sizes
and options.

FLOPs count multiply and add. Texts count at full length and every row as replayed, so the figures are upper bounds of
the work; docs/performance.md compares them with measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sync_r1.config import Config
from sync_r1.models.showo.maskgit import masked_counts
from sync_r1.rl.memory import lasting, phases
from sync_r1.rl.plan import Plan, Prompts
from sync_r1.rl.rates import Rates
from sync_r1.rl.sizes import ModelSizes

REACHED = (
    0.5  # share of the rate of matrix products that passes through a transformer reach, see docs/training_memory.json
)


@dataclass(frozen=True)
class Estimate:
    """Tables by the name of their rows; 0 means nothing to do."""

    parameters: dict[str, int]
    work: dict[str, float]  # rows and evaluations per step
    flops: dict[str, float]  # per step
    memory: dict[str, float]  # bytes that stay
    phases: dict[str, float]  # bytes that each phase needs on top, one at a time
    dgs: dict[str, float]  # evaluations per step; empty when DGS is off
    seconds: dict[str, float]  # per step, and of the run; empty without measured rates

    @property
    def peak(self) -> float:
        """Bytes at most: what stays and the hungriest phase."""
        return sum(self.memory.values()) + max(self.phases.values())


def estimate(
    config: Config, sizes: ModelSizes, rates: Rates | None = None, prompts: Prompts | None = None, processes: int = 1
) -> Estimate:
    """Everything about one optimizer step on one of `processes` that rolls out and replays.

    With `num_iterations` > 1 some only replay.
    """
    plan = Plan(config, sizes, prompts or Prompts(), processes)
    flops = _flops(plan)
    return Estimate(
        parameters=_parameters(plan),
        work=_work(plan),
        flops=flops,
        memory=lasting(plan),
        phases=phases(plan),
        dgs=_dgs(plan) if config.rl.dgs_enabled else {},
        seconds={} if rates is None else _seconds(plan, flops, rates),
    )


def _parameters(plan: Plan) -> dict[str, int]:
    sizes = plan.sizes
    return {
        "total": sizes.body + plan.vocabulary + sizes.frozen + plan.adapter,
        "trainable": plan.trained + plan.rows,
        "body": sizes.body,
        "adapter": plan.adapter,
        "concept rows": plan.rows,
        "vocabulary": plan.vocabulary,
        "frozen tokenizer": sizes.frozen,
    }


def _work(plan: Plan) -> dict[str, float]:
    rl = plan.config.rl
    steps = 1 if plan.sizes.autoregressive else rl.replayed_timesteps()
    return {
        "prompts": plan.asked,
        "candidates": plan.asked * plan.candidates,
        "kept": plan.texts,
        "images finished": plan.images,
        "nfe": plan.nfe[0],
        "replayed texts": plan.texts if rl.optimise != "image" else 0,
        "replayed image sequences": plan.images * steps * plan.guided,
    }


def _dgs(plan: Plan) -> dict[str, float]:
    rl = plan.config.rl
    nfe, everything = plan.nfe
    plain = plan.images * plan.evaluations(rl.generation_timesteps)
    return {
        "acceptance aimed at": rl.dgs_target_acceptance,
        "candidates per prompt": plan.candidates,
        "nfe": nfe,
        "nfe if every candidate were finished": everything,
        "nfe saved": everything - nfe,
        "nfe of plain GRPO with the same group": plain,
    }


def _flops(plan: Plan) -> dict[str, float]:
    rl, sizes = plan.config.rl, plan.sizes
    texts = plan.asked * plan.candidates
    length = rl.max_completion_length
    reading = plan.forward(plan.asked * plan.context, plan.context / 2)
    writing = (
        plan.forward(texts * length, plan.context + length / 2) + 2.0 * texts * length * sizes.hidden * sizes.text_rows
    )
    text_replay, image_replay = _replay_forward(plan)
    reference = 1 if rl.beta > 0 else 0
    head = 2 + (plan.rows > 0)
    flops = {"text rollout": reading + writing, "image rollout": _drawing(plan)}
    flops["pictures"] = float(sizes.picture_flops) * (plan.images + (plan.drawn if rl.dgs_enabled else 0))
    for name, (body, logits) in (("text replay", text_replay), ("image replay", image_replay)):
        flops[name] = body * (1 + plan.backward) + logits * head
    flops["reference"] = reference * (sum(text_replay) + sum(image_replay))
    return flops


def _drawing(plan: Plan) -> float:
    """FLOPs of the image half of a rollout."""
    rl, sizes = plan.config.rl, plan.sizes
    nfe, _ = plan.nfe
    prompts = plan.forward(plan.drawn * plan.prefix, plan.prefix / 2)
    if sizes.autoregressive:
        return (
            prompts * plan.guided
            + plan.forward(nfe, plan.prefix + sizes.image_tokens / 2)
            + 2.0 * nfe * sizes.hidden * sizes.codebook
        )
    counts = masked_counts(sizes.image_tokens, rl.generation_timesteps)
    stop = rl.dgs_preview_step if rl.dgs_enabled else rl.generation_timesteps
    asked = plan.drawn * sum(counts[:stop]) + plan.images * sum(counts[stop:])  # positions that are still masked
    return (
        prompts
        + plan.forward(nfe * plan.span, plan.prefix + plan.span)
        + 2.0 * plan.guided * asked * sizes.hidden * sizes.codebook
    )


def _replay_forward(plan: Plan) -> tuple[tuple[float, float], tuple[float, float]]:
    """FLOPs of one forward pass over everything replayed: (body, head) of texts and of images."""
    rl, sizes = plan.config.rl, plan.sizes
    texts = plan.texts if rl.optimise != "image" else 0
    whole = rl.gradient_checkpointing  # prefixes are recomputed with every row
    contexts = texts if whole else max(min(plan.asked, texts), math.ceil(texts / rl.sequences_per_backward))
    length = rl.max_completion_length
    text = plan.forward(contexts * plan.context, plan.context / 2) + plan.forward(
        texts * length, plan.context + length / 2
    )
    steps = rl.replayed_timesteps()
    rows, together = plan.piece
    passes = math.ceil(steps / together) * math.ceil(plan.images / max(rows, 1))
    sequences = plan.images * plan.guided * (1 if sizes.autoregressive else steps)
    prefixes = (
        sequences if whole else passes * (rows + plan.guided - 1)
    )  # distinct prompts once per pass, and the empty one
    seen = plan.prefix + (plan.span / 2 if sizes.autoregressive else plan.span)
    image = plan.forward(prefixes * plan.prefix, plan.prefix / 2) + plan.forward(sequences * plan.span, seen)
    asked = plan.images * plan.guided * sizes.image_tokens * steps / rl.generation_timesteps
    return (text, 2.0 * texts * length * sizes.hidden * sizes.text_rows), (
        image,
        2.0 * asked * sizes.hidden * sizes.codebook,
    )


def _seconds(plan: Plan, flops: dict[str, float], rates: Rates) -> dict[str, float]:
    """FLOPs at REACHED of the measured rates: token by token of the narrow one, the rest of the wide one."""
    step_by_step = {"text rollout"} | ({"image rollout"} if plan.sizes.autoregressive else set())
    seconds = {
        name: value / REACHED / (rates.narrow if name in step_by_step else rates.wide) for name, value in flops.items()
    }
    rollout = sum(seconds[name] for name in ("text rollout", "image rollout", "pictures"))
    step = rollout / plan.config.rl.num_iterations + sum(seconds.values()) - rollout
    texts = (
        seconds["text rollout"] / plan.config.rl.num_iterations + seconds["text replay"]
    )  # all that a step without pictures costs
    seldom, more = 1 / plan.config.rl.draw_every, plan.asked_at_most / plan.asked
    step = seldom * step + (1 - seldom) * more * texts
    return {**seconds, "step on average": step, "run": step * plan.config.rl.max_steps}
