"""Slow, obvious decoders: one row at a time, transformers' own forward over the whole sequence every time.

The fast ones must agree.
"""

from __future__ import annotations

import math

import torch

from sync_r1.models.janus.model import Janus
from sync_r1.models.janus.prompting import drawing_ids, reading_ids, unconditional_ids
from sync_r1.models.reference_sampling import pick, probabilities
from sync_r1.models.sampling import IMAGE_STREAM, TEXT_STREAM, uniforms
from sync_r1.types import Sampling, TextContext


@torch.no_grad()
def write(model: Janus, context: TextContext, sampling: Sampling, seed: int) -> tuple[list[int], list[float]]:
    """One text: ids (end token included) and the log-probability of each."""
    pixels = None
    if context.image is not None:
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (model.extras.image_mean, model.extras.image_std)
        )
        pixels = (context.image[None] / 255 - mean) / std
    if pixels is None:
        places = 0
    else:
        places = model.num_image_tokens
    read = reading_ids(model.special_tokens, model.tokenizer, context.text, places, model.extras.system_prompt)
    allowed = [token for token in range(model.text_vocab) if token not in model.suppressed_ids]
    noise = uniforms([seed], TEXT_STREAM, 0, sampling.max_completion_length)[0]
    ids: list[int] = []
    logps: list[float] = []
    for step in range(sampling.max_completion_length):
        logits = (
            model.janus(input_ids=torch.tensor([[*read, *ids]]), pixel_values=pixels, use_cache=False)
            .logits[0, -1]
            .float()
        )
        distribution = probabilities(logits.tolist(), allowed, sampling)
        ids.append(pick(distribution, float(noise[step])))
        logps.append(math.log(distribution[ids[-1]]))
        if ids[-1] == model.special_tokens.eos:
            break
    return ids, logps


@torch.no_grad()
def draw(model: Janus, prompt: str, sampling: Sampling, seed: int) -> tuple[list[int], list[float]]:
    """One image: codes [N] and the log-probability of each."""
    scale, everything = sampling.guidance_scale, list(range(model.codebook_size))
    prompts = [drawing_ids(model.special_tokens, model.tokenizer, prompt)]
    prompts.append(unconditional_ids(model.special_tokens, prompts[0]))
    noise = uniforms([seed], IMAGE_STREAM, 0, model.num_image_tokens)[0]
    codes: list[int] = []
    logps: list[float] = []
    for place in range(model.num_image_tokens):
        conditional, unconditional = (_code_logits(model, ids, codes) for ids in prompts)
        logits = (1 + scale) * conditional - scale * unconditional
        distribution = probabilities(logits.tolist(), everything, sampling)
        codes.append(pick(distribution, float(noise[place])))
        logps.append(math.log(distribution[codes[-1]]))
    return codes, logps


def _code_logits(model: Janus, ids: list[int], codes: list[int]) -> torch.Tensor:
    embeds = model.get_input_embeddings()(torch.tensor([ids]))
    if codes:
        embeds = torch.cat([embeds, model.embed_codes(torch.tensor([codes]))], 1)
    hidden = model.janus.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return model.janus.model.generation_head(hidden[0, -1]).float()
