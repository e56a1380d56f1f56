"""How many bytes training takes: what stays for the whole run, and what each phase needs on top.

The factors come from counting the tensors that autograd keeps for the models here.
"""

from __future__ import annotations

from itertools import pairwise

from sync_r1.costs.workload import Kind, Workload
from sync_r1.models.showo.maskgit import masked_counts

LOGIT_COPIES = 6  # fp32 copies of logits alive at once: scaled, masked, normalised, their gradients
DRAW_COPIES = 8  # the same while drawing with guidance: cond and uncond, guided, scaled, normalised, summed up
MAPS_ALIVE = 5  # feature maps alive in a residual block
# (numeric mode, what trains) → bytes kept for the backward pass per token and layer: · hidden, · feed-forward width;
# and of copied weights
SAVED: dict[tuple[str, Kind], tuple[float, float, float]] = {
    ("fp32", "full"): (31, 8, 0),
    ("fp32", "lora"): (31, 8, 0),
    ("fp32", "rows"): (23, 4, 0),
    ("autocast", "full"): (25, 4, 2),
    ("autocast", "lora"): (25, 4, 4),
    ("autocast", "rows"): (15, 2, 4),
    ("bf16", "lora"): (32, 6, 0),
    ("bf16", "rows"): (12, 2, 0),
    ("bf16 autocast", "lora"): (22, 4, 0),
    ("bf16 autocast", "rows"): (12, 2, 0),
}


def lasting(workload: Workload) -> dict[str, float]:
    """Bytes that stay for the whole run.

    With `run.sharding`: while replaying, when the policy and its gradients are whole.
    """
    sizes, rl = workload.sizes, workload.config.rl
    trained = workload.trained + workload.rows
    kept = trained - workload.shared + workload.own
    copied: float
    if workload.kind == "full":
        copied = sizes.body + workload.vocabulary
    else:
        copied = workload.rows
    if workload.config.run.sharding == "fsdp2":
        copied -= workload.shared - workload.own
    return {
        "weights": float(
            workload.weight_bytes * (sizes.body + workload.vocabulary)
            + 4 * (sizes.frozen + workload.adapter + workload.rows + workload.own)
        ),
        "gradients": 4.0 * trained,
        "Adam states": 8.0 * kept,
        "reference": 4.0 * copied if rl.beta > 0 else 0.0,
    }


def phases(workload: Workload) -> dict[str, float]:
    """Bytes of every phase on top of what stays; only one phase runs at a time."""
    rl, sizes = workload.config.rl, workload.sizes
    texts = max(workload.asked * workload.candidates, workload.asked_at_most * rl.num_generations)
    pairs = 2 * sizes.layers * sizes.key_width * workload.value_bytes  # one token's keys and values
    length = rl.max_completion_length
    rows = min(rl.sequences_per_backward, workload.asked_at_most * rl.num_generations)
    text = _saved(
        workload, rows, length, min(workload.asked_at_most, rows), workload.context, rows * length * sizes.text_rows
    )
    result = {
        "text rollout": texts * (workload.context + length) * pairs + 4.0 * texts * sizes.text_rows * LOGIT_COPIES,
        "text replay": text if rl.optimise != "image" else 0.0,
        "image rollout": 0.0,
        "pictures": 4.0 * MAPS_ALIVE * sizes.picture_map * min(sizes.pictures_at_once, workload.drawn),
        "image replay": 0.0,
        "optimizer": 4.0 * (max(workload.trained - workload.shared, 0) + workload.own),  # a temporary of every weight
    }
    if workload.closed:
        answers = min(rl.sequences_per_backward, 2 * workload.closed)
        result["closed answers"] = _saved(
            workload,
            answers,
            length,
            max(answers // 2, 1),
            workload.picture_context,
            answers * length * sizes.text_rows,
        )
    if workload.draws:
        drawn, width = workload.drawn * workload.guided, 3 * sizes.intermediate + 6 * sizes.hidden
        if sizes.autoregressive:
            result["image rollout"] = (
                drawn * (workload.prefix + workload.span) * pairs + 4.0 * drawn * sizes.codebook * DRAW_COPIES
            )
        else:
            logits = 4.0 * workload.drawn * sizes.image_tokens * sizes.codebook * DRAW_COPIES
            result["image rollout"] = drawn * workload.prefix * pairs + max(
                drawn * workload.span * width * workload.value_bytes, logits
            )
        result["image replay"] = _image_piece(workload)
    return result


def _image_piece(workload: Workload) -> float:
    rl, sizes = workload.config.rl, workload.sizes
    rows, together = workload.piece
    counts = masked_counts(sizes.image_tokens, rl.generation_timesteps)
    largest = sorted((before - after for before, after in pairwise(counts)), reverse=True)[:together]
    if sizes.autoregressive:
        asked = sizes.image_tokens * together / rl.generation_timesteps
    else:
        asked = sum(largest)
    sequences = rows * workload.guided * (1 if sizes.autoregressive else together)
    return _saved(
        workload,
        sequences,
        workload.span,
        rows + workload.guided - 1,
        workload.prefix,
        rows * workload.guided * asked * sizes.codebook,
    )


def _saved(workload: Workload, sequences: int, own: float, prefixes: int, prefix: float, logits: float) -> float:
    """Bytes of one backward pass: activations, copies of weights, logits, and the gradient of a vocabulary matrix.

    `sequences` of `own` tokens behind `prefixes` distinct prefixes of `prefix` tokens; recomputed layers read prefixes
    with every sequence.
    """
    sizes = workload.sizes
    per_hidden, per_width, copies = SAVED[workload.mode, workload.kind]
    per_token = per_hidden * sizes.hidden + per_width * sizes.intermediate * (1 + sizes.gated)
    keys, whole = 2 * sizes.key_width * workload.value_bytes, prefix + own
    if workload.config.rl.gradient_checkpointing:
        layer = (
            sequences * whole * (per_token + keys + whole * workload.value_bytes) + copies * sizes.linear / sizes.layers
        )
        kept = (
            sizes.layers
            * sequences
            * whole
            * sizes.hidden
            * (4 if "autocast" in workload.mode else workload.value_bytes)
        )
    else:
        layer = sequences * (own * per_token + whole * keys + own * whole * workload.value_bytes)
        layer += (
            prefixes * prefix * (per_token + keys + prefix * workload.value_bytes)
            + copies * sizes.linear / sizes.layers
        )
        kept, layer = sizes.layers * layer, 0.0
    vocabulary = 0
    if workload.rows:
        vocabulary = workload.weight_bytes * sizes.largest_matrix
    return float(kept + layer + 4 * LOGIT_COPIES * logits + vocabulary)
