"""Start stage 3's soft tokens from the parts of drawings that change late in decoding (UniCTokens' diff masks)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.data.prompts import drawing_prompt, placeholder
from sync_r1.drawings import save_picture, to_images
from sync_r1.models.concept_init import photo_centres
from sync_r1.session import Session
from sync_r1.training.prompts import derive_seed

PICTURES = 20
EARLY = 35 / 50  # share of the decoding steps after which codes are compared with the final ones
PROMPTS = {"person": "A close-up photo of the face of {name}."}
PROMPT = "A photo of {name} in the centre of the picture."


def changed_patches(pictures: Tensor, changed: Tensor) -> Tensor:
    """Pictures uint8 [B, 3, H, W] with the patches of `changed` codes (bool [B, N], row by row) painted white."""
    side = math.isqrt(changed.shape[1])
    white = F.interpolate(changed.view(-1, 1, side, side).float(), pictures.shape[-2:], mode="nearest") > 0
    return torch.where(white, 255, pictures)


def draw_diff_masks(session: Session, folder: Path, seed: int) -> list[Path]:
    """Draw the concept 20 times and save each picture as it was at step 35 of 50, what changed later painted white:
    <folder>/00.png …

    Steps, guidance and temperature are those of `session.options`; with other than 50 steps the comparison is at the
    same share of them.
    """
    concept, model, sampling = session.concept, session.model, session.image_sampling
    words = PROMPTS.get(concept.category, PROMPT).replace("{name}", placeholder(concept.name))
    text = drawing_prompt(concept.name, words, session.tokens.drawing_tokens)
    early_step = max(1, round(EARLY * sampling.generation_timesteps))
    size, paths = session.options.batch_size, []
    for start in range(0, PICTURES, size):
        numbers = range(start, min(start + size, PICTURES))
        seeds = [derive_seed(seed, "diff mask", number) for number in numbers]
        early = model.generate_image([text] * len(seeds), sampling, seeds, stop_at=early_step)
        final = model.generate_image([text] * len(seeds), sampling, None, state=early)
        painted = changed_patches(model.decode_image(early.tokens), early.tokens != final.tokens)
        paths += [
            save_picture(image, folder / f"{number:02d}.png") for number, image in zip(numbers, to_images(painted))
        ]
    return paths


def start_reading_tokens(session: Session, folder: Path, seed: int) -> None:
    """Start the soft tokens behind the drawing ones at the k-means centres of the diff masks' codes.

    Their head rows stay.
    """
    model, tokens = session.model, session.tokens
    soft = tokens.tokens[len(tokens.drawing_tokens) :]
    vocabulary = model.tokenizer.get_vocab()
    ids = [vocabulary[token] for token in soft]
    rows = model.read_rows(ids)
    rows.embed = photo_centres(model, draw_diff_masks(session, folder, seed), len(ids), seed=0).to(rows.embed)
    model.write_rows(ids, rows)
