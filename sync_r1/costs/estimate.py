"""What a run will cost, before it starts: parameters, evaluations, FLOPs, memory and time, as pure functions of sizes
and options.

FLOPs count multiply and add. Texts count at full length and every row as replayed, so the figures are upper bounds of
the work; docs/performance.md compares them with measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sync_r1.config import Config
from sync_r1.costs.memory import lasting, phases
from sync_r1.costs.model_sizes import ModelSizes
from sync_r1.costs.throughput import Throughput
from sync_r1.costs.workload import Prompts, Workload
from sync_r1.models.showo.maskgit import masked_counts

# share of the speed of plain matrix products that passes through a transformer reach, see docs/training_memory.json
REACHED = 0.5


@dataclass(frozen=True)
class CostEstimate:
    """Tables by the name of their rows; 0 means nothing to do."""

    parameters: dict[str, int]
    work: dict[str, float]  # rows and evaluations per step
    flops: dict[str, float]  # per step
    memory: dict[str, float]  # bytes that stay
    phases: dict[str, float]  # bytes that each phase needs on top, one at a time
    dgs: dict[str, float]  # evaluations per step; empty when DGS is off
    seconds: dict[str, float]  # per step, and of the run; empty without a measured throughput

    @property
    def peak(self) -> float:
        """Bytes at most: what stays and the hungriest phase."""
        return sum(self.memory.values()) + max(self.phases.values())


def estimate(
    config: Config,
    sizes: ModelSizes,
    throughput: Throughput | None = None,
    prompts: Prompts | None = None,
    processes: int = 1,
) -> CostEstimate:
    """Everything about one optimizer step on one of `processes` that rolls out and replays.

    With `num_iterations` > 1 some only replay.
    """
    workload = Workload(config, sizes, prompts or Prompts(), processes)
    flops = _flops(workload)
    return CostEstimate(
        parameters=_parameters(workload),
        work=_work(workload),
        flops=flops,
        memory=lasting(workload),
        phases=phases(workload),
        dgs=_dgs(workload) if config.rl.dgs_enabled else {},
        seconds={} if throughput is None else _seconds(workload, flops, throughput),
    )


def _parameters(workload: Workload) -> dict[str, int]:
    sizes = workload.sizes
    return {
        "total": sizes.body + workload.vocabulary + sizes.frozen + workload.adapter,
        "trainable": workload.trained + workload.rows,
        "body": sizes.body,
        "adapter": workload.adapter,
        "concept rows": workload.rows,
        "vocabulary": workload.vocabulary,
        "frozen tokenizer": sizes.frozen,
    }


def _work(workload: Workload) -> dict[str, float]:
    rl = workload.config.rl
    if workload.sizes.autoregressive:
        steps = 1
    else:
        steps = rl.replayed_timesteps()
    return {
        "prompts": workload.asked,
        "candidates": workload.asked * workload.candidates,
        "kept": workload.texts,
        "images finished": workload.images,
        "nfe": workload.nfe[0],
        "replayed texts": workload.texts if rl.optimise != "image" else 0,
        "replayed image sequences": workload.images * steps * workload.guided,
        **({"closed questions": workload.closed} if workload.closed else {}),
    }


def _dgs(workload: Workload) -> dict[str, float]:
    rl = workload.config.rl
    nfe, everything = workload.nfe
    whole = workload.evaluations(rl.generation_timesteps)
    if rl.grows_trees:
        return {"texts drawn per prompt": workload.trunks, "nfe": nfe, "nfe of plain GRPO": workload.texts * whole}
    plain = workload.images * whole
    return {
        "acceptance aimed at": rl.dgs_target_acceptance,
        "candidates per prompt": workload.candidates,
        "nfe": nfe,
        "nfe if every candidate were finished": everything,
        "nfe saved": everything - nfe,
        "nfe of plain GRPO with the same group": plain,
    }


def _flops(workload: Workload) -> dict[str, float]:
    rl, sizes = workload.config.rl, workload.sizes
    texts = workload.asked * workload.candidates
    length = rl.max_completion_length
    reading = workload.forward(workload.asked * workload.context, workload.context / 2)
    writing = (
        workload.forward(texts * length, workload.context + length / 2)
        + 2.0 * texts * length * sizes.hidden * sizes.text_rows
    )
    text_replay, image_replay = _replay_forward(workload)
    reference = 1 if rl.beta > 0 else 0
    head = 2 + (workload.rows > 0)
    flops = {"text rollout": reading + writing, "image rollout": _drawing(workload)}
    flops["pictures"] = float(sizes.picture_flops) * (workload.images + (workload.drawn if rl.dgs_enabled else 0))
    for name, (body, logits) in (("text replay", text_replay), ("image replay", image_replay)):
        flops[name] = body * (1 + workload.backward) + logits * head
    flops["reference"] = reference * (sum(text_replay) + sum(image_replay))
    if workload.closed:
        flops["closed answers"] = _closed_answers(workload, head)
    return flops


def _closed_answers(workload: Workload, head: int) -> float:
    """FLOPs of one update's closed questions: what precedes the decision is written, then both answers are
    replayed with gradients, one pass over each question's context."""
    sizes, length = workload.sizes, workload.config.rl.max_completion_length
    context = workload.picture_context
    read = workload.forward(workload.closed * context, context / 2)
    written = workload.forward(workload.closed * length, context + length / 2)
    answers = 2 * workload.closed
    replayed = read + workload.forward(answers * length, context + length / 2)
    if workload.config.rl.gradient_checkpointing:  # contexts are read again with every answer
        replayed += read
    logits = 2.0 * answers * length * sizes.hidden * sizes.text_rows
    return read + written + logits / 2 + replayed * (1 + workload.backward) + logits * head


def _drawing(workload: Workload) -> float:
    """FLOPs of the image part of a rollout."""
    rl, sizes = workload.config.rl, workload.sizes
    nfe, _ = workload.nfe
    prompts = workload.forward(workload.drawn * workload.prefix, workload.prefix / 2)
    if sizes.autoregressive:
        return (
            prompts * workload.guided
            + workload.forward(nfe, workload.prefix + sizes.image_tokens / 2)
            + 2.0 * nfe * sizes.hidden * sizes.codebook
        )
    counts = masked_counts(sizes.image_tokens, rl.generation_timesteps)
    if rl.dgs_enabled:
        stop = rl.dgs_preview_step
    else:
        stop = rl.generation_timesteps
    masked = workload.drawn * sum(counts[:stop]) + workload.images * sum(counts[stop:])
    return (
        prompts
        + workload.forward(nfe * workload.span, workload.prefix + workload.span)
        + 2.0 * workload.guided * masked * sizes.hidden * sizes.codebook
    )


def _replay_forward(workload: Workload) -> tuple[tuple[float, float], tuple[float, float]]:
    """FLOPs of one forward pass over everything replayed: (body, head) of texts and of images."""
    rl, sizes = workload.config.rl, workload.sizes
    texts = 0
    if rl.optimise != "image":
        texts = workload.texts
    whole = rl.gradient_checkpointing  # prefixes are recomputed with every row
    if whole:
        contexts = texts
    else:
        contexts = max(min(workload.asked, texts), math.ceil(texts / rl.sequences_per_backward))
    length = rl.max_completion_length
    text = workload.forward(contexts * workload.context, workload.context / 2) + workload.forward(
        texts * length, workload.context + length / 2
    )
    steps = rl.replayed_timesteps()
    rows, together = workload.piece
    passes = math.ceil(steps / together) * math.ceil(workload.images / max(rows, 1))
    sequences = workload.images * workload.guided * (1 if sizes.autoregressive else steps)
    # distinct prompts once per pass, and the empty one
    if whole:
        prefixes = sequences
    else:
        prefixes = passes * (rows + workload.guided - 1)
    seen = workload.prefix + (workload.span / 2 if sizes.autoregressive else workload.span)
    image = workload.forward(prefixes * workload.prefix, workload.prefix / 2) + workload.forward(
        sequences * workload.span, seen
    )
    asked = workload.images * workload.guided * sizes.image_tokens * steps / rl.generation_timesteps
    return (text, 2.0 * texts * length * sizes.hidden * sizes.text_rows), (
        image,
        2.0 * asked * sizes.hidden * sizes.codebook,
    )


def _seconds(workload: Workload, flops: dict[str, float], throughput: Throughput) -> dict[str, float]:
    """Seconds of each kind of work, of a step and of the run, where REACHED of the measured throughput is reached.

    What is decoded token by token runs at the throughput of narrow matrix products, the rest at that of wide ones.
    """
    step_by_step = {"text rollout"} | ({"image rollout"} if workload.sizes.autoregressive else set())
    seconds = {}
    for name, value in flops.items():
        if name in step_by_step:
            seconds[name] = value / REACHED / throughput.narrow
        else:
            seconds[name] = value / REACHED / throughput.wide
    rollout = sum(seconds[name] for name in ("text rollout", "image rollout", "pictures"))
    step = rollout / workload.config.rl.num_iterations + sum(seconds.values()) - rollout
    # a step without pictures costs its texts and the closed questions, nothing else
    texts = seconds["text rollout"] / workload.config.rl.num_iterations + seconds["text replay"]
    closed = seconds.get("closed answers", 0.0)
    seldom, more = 1 / workload.config.rl.draw_every, workload.asked_at_most / max(workload.asked, 1)
    step = seldom * step + (1 - seldom) * (more * texts + closed)
    return {**seconds, "step on average": step, "run": step * workload.config.rl.max_steps}
