"""A Sync-GRPO step as published code computes it, for benchmarks/speed.py: obvious, and the same numbers as ours within
rounding.

One row at a time, the whole sequence for every new token and step, drawing prompts padded to the longest text a model
takes, logits of the whole vocabulary at every position, nothing cached, every step of every trajectory in one graph,
and a second model as reference. Only sampling and the loss, pure functions of logits and log-probabilities, are shared
with ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sync_r1.config import RLConfig
from sync_r1.models.decoding import completions, fresh_trace
from sync_r1.models.sampling import IMAGE_STREAM, TEXT_STREAM, chosen_logps, draw, guide, log_distribution, uniforms
from sync_r1.models.showo.maskgit import confidence, gumbel, masked_counts, remask
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import Batch, build_mmu, build_t2i, drawing_ids, text_ids
from sync_r1.rl.advantages import Advantages
from sync_r1.rl.loss import policy_loss, token_weights
from sync_r1.rl.rollout import Rollout
from sync_r1.types import ImageTrace, Sampling, TextCompletions, TextContext


def full_logits(model: Showo, batch: Batch) -> Tensor:
    """Logits [B, L, vocabulary]."""
    batch = batch.to(model.device)
    return model.showo(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits


def next_logits(model: Showo, context: TextContext, ids: Sequence[int], count: int) -> Tensor:
    """fp32 logits [count, vocabulary] of the token after `ids` and the count − 1 before it; -inf where no text is."""
    config = model.config
    picture = model.blank_codes() if context.image is None and config.text_only_image else context.image
    batch = build_mmu(config, [picture], [[*text_ids(model.tokenizer, context.text), *ids]])
    logits = full_logits(model, batch)[0, -count:].float()
    silent = [*config.suppressed_ids, *range(config.image_offset, config.vocab_size)]
    return logits.index_fill(-1, torch.tensor(silent, device=logits.device), -torch.inf)


@torch.no_grad()
def write(model: Showo, contexts: Sequence[TextContext], sampling: Sampling, seeds: Sequence[int]) -> TextCompletions:
    """One text after the other; each ends with the end token or at the length."""
    config, length = model.config, sampling.max_completion_length
    ids = torch.full((len(seeds), length), config.pad_id)
    logps, mask = torch.zeros(ids.shape), torch.zeros(ids.shape, dtype=torch.bool)
    for row, (context, seed) in enumerate(zip(contexts, seeds)):
        noise = uniforms([seed], TEXT_STREAM, 0, length)
        for step in range(length):
            distribution = log_distribution(next_logits(model, context, ids[row, :step].tolist(), 1), sampling)
            token = draw(distribution, noise[:, step].to(model.device))
            ids[row, step], logps[row, step], mask[row, step] = token[0], distribution[0, token[0]], True
            if token[0] == config.eos_id:
                break
    width = int(mask.sum(1).max())
    written, chosen, there = [value[:, :width].to(model.device) for value in (ids, logps, mask)]
    return completions(model.tokenizer, written, chosen, there, config.eos_id)


def code_logits(model: Showo, prompt: str, codes: Tensor, sampling: Sampling) -> Tensor:
    """fp32 logits [N, codes] at every position of one partly masked image [1, N], the guided and the unguided rows in
    one batch.
    """
    config, guided = model.config, sampling.guidance_scale > 0
    texts = (
        [drawing_ids(model.tokenizer, config, prompt), []] if guided else [drawing_ids(model.tokenizer, config, prompt)]
    )
    logits = full_logits(model, build_t2i(config, texts, codes.expand(len(texts), -1), pad_to=config.max_text_tokens))
    logits = logits[:, -config.num_image_tokens - 1 : -1, config.image_rows].float()
    return guide(logits[0], logits[1], sampling.guidance_scale) if guided else logits[0]


@torch.no_grad()
def draw_images(model: Showo, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> ImageTrace:
    """One image after the other; every position gets a proposal at every step."""
    return ImageTrace.cat([_draw_image(model, prompt, sampling, seed) for prompt, seed in zip(prompts, seeds)])


def _draw_image(model: Showo, prompt: str, sampling: Sampling, seed: int) -> ImageTrace:
    size, total = model.num_image_tokens, sampling.generation_timesteps
    trace, counts = fresh_trace([seed], size, total, model.device), masked_counts(size, total)
    for step in range(total):
        masked = ~trace.known_before(step)
        codes = trace.tokens.masked_fill(masked, model.codebook_size)
        logps = log_distribution(code_logits(model, prompt, codes, sampling), sampling)
        noise = uniforms([seed], IMAGE_STREAM, step, 2 * size)[0].to(model.device)
        proposals = draw(logps, noise[:size])
        chosen = logps.gather(-1, proposals[:, None])[:, 0]
        certainty = confidence(chosen, gumbel(noise[size:]), sampling.choice_temperature, step, total)
        again = remask(certainty[None].masked_fill(~masked, torch.inf), counts[step + 1])
        committed = masked & ~again
        trace.tokens = torch.where(masked, proposals, trace.tokens)
        trace.unmask_step = trace.unmask_step.masked_fill(committed, step)
        trace.logps = torch.where(committed, chosen, trace.logps)
        trace.step, trace.nfe = step + 1, trace.nfe + (2 if sampling.guidance_scale > 0 else 1)
    return trace


def text_logps(model: Showo, context: TextContext, ids: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [L] of one text [L]."""
    logits = next_logits(model, context, ids[:-1].tolist(), len(ids))
    return chosen_logps(logits, ids, sampling)[0]


def image_logps(model: Showo, prompt: str, trace: ImageTrace, sampling: Sampling, steps: Sequence[int]) -> Tensor:
    """Log-probabilities [1, N] of the tokens of one image that were committed at `steps`, 0 elsewhere."""
    total = torch.zeros(trace.tokens.shape, device=trace.tokens.device)
    for step in steps:
        codes = torch.where(trace.known_before(step), trace.tokens, model.codebook_size)
        logps, _ = chosen_logps(code_logits(model, prompt, codes, sampling), trace.tokens[0], sampling)
        total = total + torch.where(trace.unmask_step == step, logps, 0.0)
    return total


def update(
    policy: Showo,
    reference: Showo,
    rl: RLConfig,
    rollout: Rollout,
    credit: Advantages,
    *,
    rows_per_graph: int,
    steps_per_graph: int,
) -> None:
    """Gradients of the clipped loss with KL over all T steps.

    The graph is cut into rows, and rows into steps, where memory asks for it.
    """
    sampling = rl.sampling()
    clip: dict[str, Any] = {"epsilon": rl.epsilon, "epsilon_high": rl.epsilon_high, "beta": rl.beta}
    texts, trace, everywhere = (
        rollout.completions,
        rollout.trace,
        torch.ones(1, policy.num_image_tokens, dtype=torch.bool),
    )
    assert trace is not None, "nothing was drawn"
    written = token_weights(texts.mask, rl.loss_type, rl.max_completion_length).to(policy.device)
    drawn = token_weights(everywhere, rl.loss_type, policy.num_image_tokens).to(policy.device) / len(trace.tokens)

    def losses(row: int) -> Iterator[Tensor]:
        if rl.optimise != "image":
            length = int(texts.mask[row].sum())
            context, ids, old = rollout.contexts[row], texts.ids[row, :length], texts.logps[row : row + 1, :length]
            with torch.no_grad():
                start = text_logps(reference, context, ids, sampling)[None]
            found, weights = text_logps(policy, context, ids, sampling)[None], written[row : row + 1, :length]
            advantage = credit.text.flatten()[row : row + 1].to(policy.device)
            yield rl.text_loss_weight * policy_loss(found, old, weights, advantage, ref_logps=start, **clip)[0]
        part, prompt = trace.select([row]), rollout.drawing_prompts[row]
        advantage = credit.image.flatten()[row : row + 1].to(policy.device)
        for first in range(0, part.timesteps, steps_per_graph):
            steps = range(first, min(first + steps_per_graph, part.timesteps))
            with torch.no_grad():
                start = image_logps(reference, prompt, part, sampling, steps)
            found = image_logps(policy, prompt, part, sampling, steps)
            weights = drawn * ((part.unmask_step >= steps.start) & (part.unmask_step < steps.stop))
            loss = policy_loss(found, part.logps, weights, advantage, ref_logps=start, **clip)[0]
            if steps.stop < part.timesteps:
                (rl.image_loss_weight * loss).backward()
            else:
                yield rl.image_loss_weight * loss

    for first in range(0, len(trace.tokens), rows_per_graph):
        rows = range(first, min(first + rows_per_graph, len(trace.tokens)))
        torch.stack([loss for row in rows for loss in losses(row)]).sum().backward()
