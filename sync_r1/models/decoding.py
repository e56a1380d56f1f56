"""What decoding has in common over families: the loop that writes text, and the bookkeeping of drawn images."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.sampling import TEXT_STREAM, draw, log_distribution, uniforms
from sync_r1.types import ImageTrace, OnToken, Sampling, TextCompletions, TextContext


def write(
    logits: Tensor,
    following: Callable[[Tensor], Tensor],
    sampling: Sampling,
    seeds: Sequence[int],
    tokenizer: PreTrainedTokenizerFast,
    *,
    end_id: int,
    pad_id: int,
    on_token: OnToken | None = None,
) -> TextCompletions:
    """Draw texts token by token until every row has ended or the length is reached.

    Args:
        logits: [B, V] of the first tokens, -inf for ids that are never written.
        following: tokens [B] just drawn → logits [B, V] of the next.
        on_token: see `UnifiedModel.generate_text`.
    """
    noise = uniforms(seeds, TEXT_STREAM, 0, sampling.max_completion_length).to(logits.device)
    running = torch.ones(len(seeds), dtype=torch.bool, device=logits.device)
    ids, logps, masks = [], [], []
    for step in range(sampling.max_completion_length):
        distribution = log_distribution(logits, sampling)
        token = draw(distribution, noise[:, step])
        logps.append(torch.where(running, distribution.gather(-1, token[:, None])[:, 0], 0.0))
        ids.append(torch.where(running, token, pad_id))
        masks.append(running)
        ended = None if on_token is None else on_token(token, running)
        running = running & (token != end_id)
        if ended is not None:
            running = running & ~ended.to(running.device)
        if step + 1 == sampling.max_completion_length or not running.any():
            break
        logits = following(token)
    return completions(tokenizer, torch.stack(ids, 1), torch.stack(logps, 1), torch.stack(masks, 1), end_id)


def completions(
    tokenizer: PreTrainedTokenizerFast, ids: Tensor, logps: Tensor, mask: Tensor, end_id: int
) -> TextCompletions:
    """Decode ids [B, L]; end token and padding are left out of the texts."""
    written = mask & (ids != end_id)
    texts = [str(tokenizer.decode(row[keep].tolist())).strip() for row, keep in zip(ids, written)]
    return TextCompletions(ids, logps, mask, texts)


def check_writing(contexts: Sequence[TextContext], seeds: Sequence[int]) -> None:
    """Raises ValueError unless there is one seed per context, and a context."""
    if len(seeds) != len(contexts) or not contexts:
        raise ValueError(
            f"got {len(seeds)} seeds for {len(contexts)} contexts; give at least one context and one seed per context"
        )


def check_written(contexts: Sequence[TextContext], ids: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless ids and mask [B, L] belong to the contexts."""
    if ids.shape != mask.shape or len(ids) != len(contexts):
        raise ValueError(f"ids {tuple(ids.shape)}, mask {tuple(mask.shape)} and {len(contexts)} contexts must agree")


def fresh_trace(seeds: Sequence[int], num_image_tokens: int, timesteps: int, device: torch.device) -> ImageTrace:
    """Nothing committed."""
    shape = (len(seeds), num_image_tokens)
    return ImageTrace(
        tokens=torch.zeros(shape, dtype=torch.long, device=device),
        unmask_step=torch.full(shape, timesteps, device=device),
        logps=torch.zeros(shape, device=device),
        seeds=torch.tensor(list(seeds), dtype=torch.long, device=device),
        step=0,
        timesteps=timesteps,
        nfe=0,
    )


def begin(
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int] | None,
    state: ImageTrace | None,
    stop_at: int | None,
    *,
    num_image_tokens: int,
    device: torch.device,
) -> tuple[ImageTrace, int]:
    """Arguments of `generate_image`, checked → where to start and the step to stop at.

    Without seeds they come from Python's generator.
    """
    total = sampling.generation_timesteps
    check_timesteps(total, num_image_tokens)
    if state is None:
        state = fresh_trace(
            [random.getrandbits(48) for _ in prompts] if seeds is None else seeds, num_image_tokens, total, device
        )
    elif seeds is not None and list(seeds) != state.seeds.tolist():
        raise ValueError("a resumed image keeps its seeds; pass seeds=None together with state")
    if stop_at is None:
        stop = total
    else:
        stop = stop_at
    check_trace(prompts, sampling, state, num_image_tokens)
    if not 0 <= stop <= total:
        raise ValueError(f"stop_at is {stop}; it must lie in 0..{total} (generation_timesteps)")
    return state, stop


def begin_redraw(
    prompts: Sequence[str],
    codes: Tensor,
    region: Tensor,
    sampling: Sampling,
    seeds: Sequence[int] | None,
    *,
    num_image_tokens: int,
    codebook_size: int,
    device: torch.device,
) -> ImageTrace:
    """Arguments of `redraw_image`, checked → a state before the first step, in which all but the region is committed.

    The region still holds the old codes: what previews show until the first step.
    """
    check_region(region, codes.shape, num_image_tokens)
    if codes.numel() and (codes.min() < 0 or codes.max() >= codebook_size):
        raise ValueError(
            f"codes lie in {int(codes.min())}..{int(codes.max())}; this model's codes are 0..{codebook_size - 1}"
        )
    numbers = [random.getrandbits(48) for _ in prompts] if seeds is None else seeds
    if not len(numbers) == len(prompts) == len(codes):
        raise ValueError(
            f"got {len(prompts)} prompts and {len(numbers)} seeds for {len(codes)} pictures; give one of each per "
            "picture"
        )
    total = sampling.generation_timesteps
    check_timesteps(total, num_image_tokens)
    state = fresh_trace(numbers, num_image_tokens, total, device)
    state.tokens = codes.to(device).clone()
    state.unmask_step = state.unmask_step.masked_fill(~region.to(device).expand(codes.shape), -1)
    return state


def check_region(region: Tensor, shape: Sequence[int], num_image_tokens: int) -> None:
    """Raises ValueError unless `region` says, for codes of `shape` [B, N], which to draw: equally many in every row."""
    if len(shape) != 2 or shape[1] != num_image_tokens:
        raise ValueError(f"codes have shape {list(shape)}; this model needs [pictures, {num_image_tokens}]")
    if region.dtype != torch.bool or list(region.shape) not in ([shape[1]], list(shape)):
        raise ValueError(
            f"the region is {region.dtype} of shape {list(region.shape)}; it must be bool, "
            f"[{shape[1]}] for all pictures or {list(shape)}"
        )
    counts = sorted(set(region.expand(*shape).sum(1).tolist()))
    if counts[:1] == [0]:
        raise ValueError("the region is empty; mark at least one image token to draw")
    if len(counts) > 1:
        raise ValueError(
            f"the regions of the pictures have {counts[0]} to {counts[-1]} image tokens; "
            "one batch needs equally many in each, so redraw the pictures apart"
        )


def check_timesteps(timesteps: int, num_image_tokens: int) -> None:
    """Raises ValueError for far more steps than tokens: a step draws at least one, so the others only cost time."""
    if timesteps > 2 * num_image_tokens:
        raise ValueError(
            f"generation_timesteps is {timesteps}; it must be at most {2 * num_image_tokens}, twice the "
            f"{num_image_tokens} tokens of this model's pictures"
        )


def check_trace(prompts: Sequence[str], sampling: Sampling, trace: ImageTrace, num_image_tokens: int) -> None:
    """Raises ValueError for another number of rows, steps or image tokens."""
    if len(prompts) != len(trace.tokens):
        raise ValueError(f"got {len(prompts)} prompts for {len(trace.tokens)} images; give one prompt per row")
    if trace.timesteps != sampling.generation_timesteps:
        raise ValueError(
            f"the image was started with {trace.timesteps} steps, sampling asks for {sampling.generation_timesteps}; "
            "one image has one schedule"
        )
    if trace.tokens.shape[1] != num_image_tokens:
        raise ValueError(f"the image has {trace.tokens.shape[1]} tokens; this model draws {num_image_tokens}")


Asked = tuple[str, bool]  # a drawing prompt, and whether it is dropped


def with_dropped(prompts: Sequence[str], dropped: Sequence[bool] | None = None) -> list[Asked]:
    """Each prompt with its flag; by default none is dropped. Raises ValueError unless there is one flag per prompt."""
    if dropped is None:
        flags = [False] * len(prompts)
    else:
        flags = [bool(flag) for flag in dropped]
    if len(flags) != len(prompts):
        raise ValueError(
            f"dropped has {len(flags)} flags for {len(prompts)} prompts; give one flag per prompt, or None"
        )
    return list(zip(prompts, flags))


def check_steps(steps: Sequence[int], trace: ImageTrace) -> None:
    """Raises ValueError for steps that were not run, or asked for twice."""
    if len(set(steps)) != len(steps) or not all(0 <= step < trace.step for step in steps):
        raise ValueError(
            f"steps are {list(steps)}; they must be distinct and in 0..{trace.step - 1}, the steps that were run"
        )
