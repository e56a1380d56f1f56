"""The model's own drawings as training questions: is the concept in this picture?

No person gives the answers: the image part does, by how likely it would draw the picture (recognition.py). That is
learned from the concept's photos alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from sync_r1.data.prompts import RECOGNITION_QUESTION, drawing_prompt
from sync_r1.drawings import decoded, save_picture
from sync_r1.files import read_json, write_text
from sync_r1.models.batches import draw_traces
from sync_r1.scorers.text import DECISIONS
from sync_r1.session import Session
from sync_r1.training.prompts import Prompt, derive_seed

LABELS = "labels.json"


def own_drawings(session: Session, folder: Path, count: int, seed: int) -> list[Prompt]:
    """Draw `count` pictures into `folder` and ask of each whether the concept is in it.

    In turns the prompt holds the whole name, the name without a random part of its soft tokens, and the class noun
    alone: pictures of the concept, pictures that look like it, and others. The right answer is the image part's;
    where it is unsure, the picture is left out. A folder that is complete is read, so that a resumed run asks the same.
    """
    labels = folder / LABELS
    if not labels.is_file():
        _draw(session, folder, count, seed)
    question = RECOGNITION_QUESTION.format(name=session.concept.placeholder)
    return [
        Prompt("recognize", session.concept, question, answer, session.tokens, folder / name, options=DECISIONS)
        for name, answer in read_json(labels).items()
    ]


def _draw(session: Session, folder: Path, count: int, seed: int) -> None:
    prompts = [_prompt(session, number, seed) for number in range(count)]
    seeds = [derive_seed(seed, "own drawings", number) for number in range(count)]
    traces = draw_traces(session.model, prompts, seeds, session.image_sampling, session.options.batch_size)
    images = list(decoded(session.model, traces))
    margins, unsure = session.margins(images)
    answers = {}
    for number, (image, margin) in enumerate(zip(images, margins, strict=True)):
        if abs(margin) > unsure:
            save_picture(image, folder / f"{number}.png")
            answers[f"{number}.png"] = "yes" if margin > 0 else "no"
    write_text(folder / LABELS, json.dumps(answers, indent=1) + "\n")  # last: it makes the folder complete


def _prompt(session: Session, number: int, seed: int) -> str:
    text = f"a photo of {session.concept.placeholder}"
    tokens: Sequence[str] = session.tokens.drawing_tokens
    if number % 3 == 2:
        return text.replace(session.concept.placeholder, f"a {session.concept.class_noun}")
    if number % 3 == 1 and tokens:
        generator = torch.Generator().manual_seed(derive_seed(seed, "dropped tokens", number))
        kept = torch.rand(len(tokens), generator=generator) < 0.5
        tokens = [token for token, keep in zip(tokens, kept.tolist(), strict=True) if keep]
    return drawing_prompt(session.concept.name, text, tokens)
