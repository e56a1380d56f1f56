"""Drawing and its replay: codes one after the other, row by row from the top left. B rows, N image tokens, T steps.

A "step" of the contract is a contiguous block: code j belongs to step ⌊j·T/N⌋. So previews, resuming and updates on
some of the steps mean the same as for MaskGIT, while the network is asked once per code (twice with guidance).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sync_r1.models.decoding import Asked, begin, check_steps, check_trace, with_dropped
from sync_r1.models.janus.kv_stream import KVStream, Prefix
from sync_r1.models.janus.network import JanusNetwork
from sync_r1.models.janus.prompting import drawing_ids, pad_rows, unconditional_ids
from sync_r1.models.sampling import IMAGE_STREAM, chosen_logps, draw, guide, log_distribution, uniforms
from sync_r1.models.sequences import distinct
from sync_r1.types import ImageTrace, OnStep, Sampling


def block_start(step: int, size: int, timesteps: int) -> int:
    """First of `size` codes that belongs to `step` or a later one: ⌈step·N/T⌉."""
    return -(-step * size // timesteps)


def embed_prompts(model: JanusNetwork, asked: Sequence[Asked], sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct prompts left-padded: embeddings [D, P, H], which are real [D, P]; and every prompt's row among them [B].

    With guidance the unconditional twins follow the prompts, and the rows of the twins [B] follow the index.
    """
    unique, index = distinct(asked)
    full = [drawing_ids(model.special_tokens, model.tokenizer, prompt) for prompt, _ in unique]
    rows = [unconditional_ids(model.special_tokens, row) if dropped else row for row, (_, dropped) in zip(full, unique)]
    if sampling.guidance_scale > 0:
        index = torch.cat([index, index + len(rows)])
        rows += [unconditional_ids(model.special_tokens, row) for row in rows]
    model.check_length(max(map(len, rows)), model.num_image_tokens)
    ids, valid = (tensor.to(model.device) for tensor in pad_rows(rows, model.special_tokens.pad))
    return model.get_input_embeddings()(ids), valid, index.to(model.device)


def _doubled(rows: Tensor, sampling: Sampling) -> Tensor:
    if sampling.guidance_scale > 0:
        return torch.cat([rows, rows])
    return rows


def code_logits(model: JanusNetwork, hidden: Tensor, sampling: Sampling) -> Tensor:
    """Guided fp32 logits [M, codebook_size] of hidden [M, H], or of [2M, H] with guidance: conditional ones first."""
    logits = model.janus.model.generation_head(hidden).float()
    if sampling.guidance_scale == 0:
        return logits
    conditional, unconditional = logits.chunk(2)
    return guide(conditional, unconditional, sampling.guidance_scale)


def generate(
    model: JanusNetwork,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int] | None,
    state: ImageTrace | None,
    stop_at: int | None,
    on_step: OnStep | None = None,
) -> ImageTrace:
    """See UnifiedModel.generate_image. Prompts are read once each.

    `state` is not modified; its codes are read again in one pass.
    """
    size, total = model.num_image_tokens, sampling.generation_timesteps
    state, stop = begin(prompts, sampling, seeds, state, stop_at, num_image_tokens=size, device=model.device)
    if not prompts or state.step >= stop:
        return state
    first, last = (block_start(step, size, total) for step in (state.step, stop))
    trace = _after(state, state.tokens.clone(), state.logps.clone(), state.step, 0, sampling)
    if first < last:
        noise = uniforms(state.seeds.tolist(), IMAGE_STREAM, 0, size).to(model.device)
        stream = KVStream(model, *embed_prompts(model, with_dropped(prompts), sampling))
        if first:
            stream.feed(model.embed_codes(_doubled(trace.tokens[:, :first], sampling)))
    for step in range(state.step, stop):
        tokens, logps = trace.tokens.clone(), trace.logps.clone()
        start, end = (block_start(edge, size, total) for edge in (step, step + 1))
        for place in range(start, end):
            distribution = log_distribution(code_logits(model, stream.last, sampling), sampling)
            tokens[:, place] = draw(distribution, noise[:, place])
            logps[:, place] = distribution.gather(-1, tokens[:, place, None])[:, 0]
            if place + 1 < last:
                stream.feed(model.embed_codes(_doubled(tokens[:, place, None], sampling)))
        calls = end - start + (1 if step == state.step and 0 < first < last else 0)  # one more reads what was there
        trace = _after(trace, tokens, logps, step + 1, calls, sampling)
        if on_step is not None:
            on_step(trace)
    return trace


def _after(trace: ImageTrace, tokens: Tensor, logps: Tensor, step: int, calls: int, sampling: Sampling) -> ImageTrace:
    """The trace with the codes [B, N] drawn before `step`, and `calls` more passes."""
    size, total = tokens.shape[1], trace.timesteps
    steps = torch.arange(size, device=tokens.device) * total // size
    return ImageTrace(
        tokens=tokens,
        unmask_step=torch.where(steps < step, steps, total).expand_as(tokens).clone(),
        logps=logps,
        seeds=trace.seeds,
        step=step,
        timesteps=total,
        nfe=trace.nfe + calls * (2 if sampling.guidance_scale > 0 else 1),
    )


def replay(
    model: JanusNetwork,
    prompts: Sequence[str],
    trace: ImageTrace,
    sampling: Sampling,
    steps: Sequence[int],
    dropped: Sequence[bool] | None = None,
) -> tuple[Tensor, Tensor]:
    """See UnifiedModel.image_logps. One forward with all codes given; the head runs on the blocks asked for only."""
    check_trace(prompts, sampling, trace, model.num_image_tokens)
    check_steps(steps, trace)
    asked = with_dropped(prompts, dropped)
    committed = torch.isin(
        trace.unmask_step, torch.tensor(list(steps), dtype=torch.long, device=trace.unmask_step.device)
    )
    logps = torch.zeros(committed.shape, device=committed.device)
    if not committed.any():
        return logps, committed
    end = int(committed.any(0).nonzero().max()) + 1
    embeds, valid, index = embed_prompts(model, asked, sampling)
    given = model.embed_codes(_doubled(trace.tokens[:, : end - 1], sampling))
    hidden = Prefix.encode(model, embeds, valid).select(index).extend(model, given)
    wanted = committed[:, :end]
    logits = code_logits(model, hidden[_doubled(wanted, sampling)], sampling)
    chosen, _ = chosen_logps(logits, trace.tokens[:, :end][wanted], sampling)
    return logps.masked_scatter(committed, chosen), committed
