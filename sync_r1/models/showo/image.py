"""Drawing and its replay. B rows, N image tokens, T steps, M positions that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.decoding import Asked, begin, check_steps, check_trace, with_dropped
from sync_r1.models.sampling import IMAGE_STREAM, chosen_logps, draw, guide, log_distribution, uniforms
from sync_r1.models.sequences import distinct
from sync_r1.models.showo.maskgit import confidence, gumbel, masked_counts, remask
from sync_r1.models.showo.network import ShowoNetwork
from sync_r1.models.showo.prefix import Prefix
from sync_r1.models.showo.prompting import build_t2i_prefix, drawing_ids, image_span
from sync_r1.types import ImageTrace, OnStep, Sampling


def encode_prompts(model: ShowoNetwork, asked: Sequence[Asked], sampling: Sampling) -> tuple[Prefix, Tensor]:
    """Distinct prompts, encoded once, and the row of each prompt among them [B].

    With guidance the empty prompt is the last row.
    """
    unique, index = distinct(asked)
    texts = [[] if dropped else drawing_ids(model.tokenizer, model.config, prompt) for prompt, dropped in unique]
    if sampling.guidance_scale > 0:
        texts.append([])
    return Prefix.encode(model, build_t2i_prefix(model.config, texts)), index.to(model.device)


def code_logits(
    model: ShowoNetwork, prefix: Prefix, index: Tensor, states: Tensor, wanted: Tensor, sampling: Sampling
) -> Tensor:
    """Guided fp32 logits [M, codebook_size] at the `wanted` positions [R, N] of partly masked codes `states` [R, N].

    Row r continues prefix index[r]; its unconditional row continues the last one. Rows that are equal, as those of a
    group without a committed token are, are computed once.
    """
    guided = sampling.guidance_scale > 0
    if guided:
        index = torch.cat([index, torch.full_like(index, len(prefix.batch.ids) - 1)])
        states, wanted = states.repeat(2, 1), wanted.repeat(2, 1)
    rows = torch.cat([index[:, None], states], 1)
    kinds, back = rows.unique(dim=0, return_inverse=True)
    if len(kinds) == len(rows):
        logits = _unguided(model, prefix, rows, wanted)
    else:
        anywhere = torch.zeros(len(kinds), wanted.shape[1], device=wanted.device).index_add(0, back, wanted.float()) > 0
        place = (anywhere.flatten().cumsum(0) - 1).view(anywhere.shape)
        logits = _unguided(model, prefix, kinds, anywhere)[place[back][wanted]]
    if not guided:
        return logits
    conditional, unconditional = logits.chunk(2)
    return guide(conditional, unconditional, sampling.guidance_scale)


def _unguided(model: ShowoNetwork, prefix: Prefix, rows: Tensor, wanted: Tensor) -> Tensor:
    """fp32 logits [M, codebook_size] at the `wanted` positions [R, N] of rows [R, 1+N]: which prefix, and partly
    masked codes."""
    span = image_span(model.config, rows[:, 1:])
    own = torch.ones(span.shape[1], span.shape[1], dtype=torch.bool, device=span.device)
    places = F.pad(wanted, (2, 1))  # behind the last prefix token and soi, before eoi
    hidden = prefix.select(rows[:, 0]).extend(model, span, own, places)
    return model.head(hidden, model.config.image_rows).float()


def masked_state(model: ShowoNetwork, trace: ImageTrace, step: int) -> Tensor:
    """Codes [B, N] as the model saw them at `step`; codebook_size = masked."""
    return torch.where(trace.known_before(step), trace.tokens, model.codebook_size)


def advance(model: ShowoNetwork, prefix: Prefix, index: Tensor, trace: ImageTrace, sampling: Sampling) -> ImageTrace:
    """One decoding step: propose a token for every masked position, commit the most confident.

    How many follows from how many are drawn in all, which is the same number in every row.
    """
    step, total, size = trace.step, trace.timesteps, trace.tokens.shape
    counts = masked_counts(int(trace.drawn[0].sum()), total)
    if counts[step] == counts[step + 1]:  # fewer tokens than steps: there is nothing to commit yet
        return replace(trace, step=step + 1, fills=with_fill(trace, trace.tokens if step == 0 else trace.likely(-1)))
    masked = ~trace.known_before(step)
    positions = masked.nonzero()[:, 1].view(size[0], counts[step])
    logits = code_logits(model, prefix, index, masked_state(model, trace, step), masked, sampling)
    logps = log_distribution(logits, sampling).view(*positions.shape, -1)
    noise = uniforms(trace.seeds.tolist(), IMAGE_STREAM, step, 2 * size[1]).to(logits.device)
    proposals = draw(logps, noise[:, : size[1]].gather(1, positions))
    chosen = logps.gather(-1, proposals[..., None])[..., 0]
    choice = gumbel(noise[:, size[1] :].gather(1, positions))
    keep = ~remask(confidence(chosen, choice, sampling.choice_temperature, step, total), counts[step + 1])
    return ImageTrace(
        tokens=trace.tokens.scatter(1, positions, proposals),
        unmask_step=trace.unmask_step.scatter(1, positions, torch.where(keep, step, total)),
        logps=trace.logps.scatter(1, positions, torch.where(keep, chosen, 0.0)),
        seeds=trace.seeds,
        step=step + 1,
        timesteps=total,
        nfe=trace.nfe + (2 if sampling.guidance_scale > 0 else 1),
        fills=with_fill(trace, trace.tokens.scatter(1, positions, logps.argmax(-1))),
    )


def with_fill(trace: ImageTrace, codes: Tensor) -> Tensor:
    """`trace.fills` with the filled-in state [B, N] before one more step: [B, step + 1, N]."""
    if trace.fills is None:
        earlier = codes.new_zeros(len(codes), 0, codes.shape[1])
    else:
        earlier = trace.fills
    return torch.cat([earlier, codes[:, None]], dim=1)


def generate(
    model: ShowoNetwork,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int] | None,
    state: ImageTrace | None,
    stop_at: int | None,
    on_step: OnStep | None = None,
) -> ImageTrace:
    """See UnifiedModel.generate_image. `state` is not modified."""
    state, stop = begin(
        prompts, sampling, seeds, state, stop_at, num_image_tokens=model.num_image_tokens, device=model.device
    )
    if not prompts or state.step >= stop:
        return state
    prefix, index = encode_prompts(model, with_dropped(prompts), sampling)
    while state.step < stop:
        state = advance(model, prefix, index, state, sampling)
        if on_step is not None:
            on_step(state)
    return state


def replay(
    model: ShowoNetwork,
    prompts: Sequence[str],
    trace: ImageTrace,
    sampling: Sampling,
    steps: Sequence[int],
    dropped: Sequence[bool] | None = None,
) -> tuple[Tensor, Tensor]:
    """See UnifiedModel.image_logps. The steps are folded into the batch; the head runs on committed positions only."""
    check_trace(prompts, sampling, trace, model.num_image_tokens)
    check_steps(steps, trace)
    asked = with_dropped(prompts, dropped)
    batch, size = trace.tokens.shape
    if steps:
        committed = torch.stack([trace.unmask_step == step for step in steps])
    else:
        committed = trace.tokens.new_zeros(0, batch, size).bool()
    logps = torch.zeros(batch, size, device=trace.tokens.device)
    if not committed.any():
        return logps, committed.any(0)
    states = torch.cat([masked_state(model, trace, step) for step in steps])
    prefix, index = encode_prompts(model, asked, sampling)
    logits = code_logits(model, prefix, index.repeat(len(steps)), states, committed.flatten(0, 1), sampling)
    _, rows, columns = committed.nonzero(as_tuple=True)
    chosen, _ = chosen_logps(logits, trace.tokens[rows, columns], sampling)
    return logps.index_put((rows, columns), chosen), committed.any(0)
