"""Slow, obvious decoders: one row at a time, whole sequence and whole vocabulary every time, sorted lists.

The fast ones must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sync_r1.models.reference_sampling import pick, probabilities
from sync_r1.models.sampling import IMAGE_STREAM, TEXT_STREAM, uniforms
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import Batch, build_mmu, build_t2i, drawing_ids, text_ids
from sync_r1.types import Sampling, TextContext


def full_logits(model: Showo, batch: Batch) -> Tensor:
    """Whole-vocabulary fp32 logits [L, vocab] of a single sequence, nothing cached or sliced."""
    batch = batch.to(model.device)
    output = model.showo(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return output.logits[0].float().cpu()


@torch.no_grad()
def write(model: Showo, context: TextContext, sampling: Sampling, seed: int) -> tuple[list[int], list[float]]:
    """One text: ids (end token included) and the log-probability of each."""
    config = model.config
    picture = context.image
    if picture is None and config.text_only_image:
        picture = model.blank_codes()
    allowed = [*range(config.text_vocab), *range(config.first_concept, config.image_offset)]
    allowed = [token for token in allowed if token not in config.suppress_tokens]
    noise = uniforms([seed], TEXT_STREAM, 0, sampling.max_completion_length)[0]
    read = text_ids(model.tokenizer, context.text)
    ids: list[int] = []
    logps: list[float] = []
    for step in range(sampling.max_completion_length):
        logits = full_logits(model, build_mmu(config, [picture], [[*read, *ids]]))[-1]
        distribution = probabilities(logits.tolist(), allowed, sampling)
        ids.append(pick(distribution, float(noise[step])))
        logps.append(math.log(distribution[ids[-1]]))
        if ids[-1] == config.eos_id:
            break
    return ids, logps


@torch.no_grad()
def draw(
    model: Showo, prompt: str, sampling: Sampling, seed: int, kept: Mapping[int, int] | None = None
) -> tuple[list[int], list[int], list[float]]:
    """One image: codes [N], the step that committed each, and its log-probability then.

    `kept` holds place → code of what is not drawn; its step is -1.
    """
    config, total = model.config, sampling.generation_timesteps
    size, scale = config.num_image_tokens, sampling.guidance_scale
    prompts = [drawing_ids(model.tokenizer, config, prompt), []]
    tokens, committed, logps = [config.codebook_size] * size, [total] * size, [0.0] * size
    for place, code in (kept or {}).items():
        tokens[place], committed[place] = code, -1
    drawn = size - len(kept or {})
    for step in range(total):
        codes = torch.tensor([tokens])
        conditional, unconditional = (full_logits(model, build_t2i(config, [text], codes)) for text in prompts)
        noise = uniforms([seed], IMAGE_STREAM, step, 2 * size)[0].tolist()
        proposals: list[tuple[float, int, int, float]] = []
        for place in range(size):
            if tokens[place] != config.codebook_size:
                continue
            at = place - size - 1
            logits = (1 + scale) * conditional[at] - scale * unconditional[at]
            distribution = probabilities(logits.tolist(), list(range(config.image_offset, config.mask_id)), sampling)
            token = pick(distribution, noise[place])
            logp = math.log(distribution[token])
            gumbel = -math.log(-math.log(min(max(noise[size + place], 1e-20), 1 - 1e-7)))
            certainty = logp + sampling.choice_temperature * (1 - (step + 1) / total) * gumbel
            proposals.append((certainty, place, token - config.image_offset, logp))
        left = max(1, min(len(proposals) - 1, math.floor(drawn * math.cos(math.pi / 2 * (step + 1) / total))))
        for _, place, token, logp in sorted(proposals)[0 if step == total - 1 else left :]:
            tokens[place], committed[place], logps[place] = token, step, logp
    return tokens, committed, logps
