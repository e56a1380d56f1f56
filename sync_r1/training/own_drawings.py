"""The image part as teacher of the words: is the concept in this picture?

No person gives the answers: the image part does, by how likely it would draw the picture (recognition.py). That is
learned from the concept's photos and a pool of other pictures. It answers about the model's own drawings, and, with
`rl.closed_labels` "drawing", also about the photos and the pool.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sync_r1.config import Config
from sync_r1.data.prompts import RECOGNITION_QUESTION, drawing_prompt
from sync_r1.distributed import Processes
from sync_r1.drawings import decoded, save_picture
from sync_r1.files import read_json, write_text
from sync_r1.models.batches import draw_traces
from sync_r1.recognition import UNSURE
from sync_r1.scorers.text import DECISIONS
from sync_r1.session import Session
from sync_r1.training.lookalike_prompts import described_prompts
from sync_r1.training.prompts import Prompt, derive_seed

LABELS = "labels.json"


def asked_after_warm_up(
    session: Session, config: Config, prompts: Sequence[Prompt], processes: Processes
) -> list[Prompt]:
    """What training asks, once the image part knows the concept: its answers in place of the given ones where the
    configuration says so, and questions about its own drawings, which the main process draws once.
    """
    rl, seed, folder = config.rl, config.run.seed, config.run.folder / "own_drawings"
    asked = list(prompts)
    if rl.closed_loss == "none":
        return asked
    if rl.closed_labels == "drawing":
        labels = processes.on_main(lambda: drawn_answers(session, asked))
        asked = answered(asked, labels)
    if rl.closed_own_drawings:
        processes.on_main(lambda: len(own_drawings(session, folder, rl.closed_own_drawings, seed)))
        asked += own_drawings(session, folder, rl.closed_own_drawings, seed)
    return asked


def drawn_answers(session: Session, prompts: Sequence[Prompt]) -> dict[Path, str]:
    """Picture → yes or no, as the image part answers, of every picture that closed questions are about.

    Pictures of which it is unsure have no answer. ValueError when all that it is sure of have the same one.
    """
    pictures = list(dict.fromkeys(prompt.photo for prompt in prompts if prompt.options and prompt.photo))
    margins, _ = session.margins(pictures)  # all but the closest are asked: look-alikes teach most
    found = {
        picture: _decided(margin) for picture, margin in zip(pictures, margins, strict=True) if abs(margin) > UNSURE
    }
    if len(set(found.values())) < 2:
        raise ValueError(
            f"rl.closed_labels is 'drawing', but of {len(pictures)} pictures the image part is sure of {len(found)}, "
            f"and none of them is a {'no' if 'yes' in found.values() else 'yes'}: it does not know the concept well "
            "enough; let it look at the photos longer (sft.epochs), add pictures of other things, or set "
            "rl.closed_labels=given"
        )
    return found


def answered(prompts: Sequence[Prompt], labels: dict[Path, str]) -> list[Prompt]:
    """The prompts with these answers of closed questions; such questions without one are left out."""
    found = []
    for prompt in prompts:
        if not prompt.options:
            found.append(prompt)
        elif prompt.photo in labels:
            found.append(replace(prompt, answer=labels[prompt.photo]))
    return found


def _decided(margin: float) -> str:
    """The answer of a picture with this margin."""
    if margin > 0:
        return "yes"
    return "no"


def own_drawings(session: Session, folder: Path, count: int, seed: int) -> list[Prompt]:
    """Draw `count` pictures into `folder` and ask of each whether the concept is in it.

    In turns the prompt holds the whole name, the name without a random part of its soft tokens, and the class noun
    alone: pictures of the concept, pictures that look like it, and others. A model that says what it sees before it
    decides mostly draws what it sees in the concept's photos instead, as it is and with one word changed
    (lookalike_prompts.py). The right answer is the image part's; where it is unsure, the picture is left out. A folder
    that is complete is read, so that a resumed run asks the same.
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
    named = [_prompt(session, number, seed) for number in range(count)]
    seen = described_prompts(session, count - count // 6, seed)
    prompts = [*named[: count - len(seen)], *seen]
    seeds = [derive_seed(seed, "own drawings", number) for number in range(count)]
    traces = draw_traces(session.model, prompts, seeds, session.image_sampling, session.options.batch_size)
    images = list(decoded(session.model, traces))
    margins, _ = session.margins(images)
    answers = {}
    for number, (image, margin) in enumerate(zip(images, margins, strict=True)):
        if abs(margin) > UNSURE:
            save_picture(image, folder / f"{number}.png")
            answers[f"{number}.png"] = _decided(margin)
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
