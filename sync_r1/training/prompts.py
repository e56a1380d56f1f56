"""What training asks: the prompts of a concept, their endless stream, and what the model reads and draws for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sync_r1.data.concepts import Concept, load_image
from sync_r1.data.prompts import (
    RECOGNITION_QUESTION,
    PromptKind,
    compose,
    drawing_prompt,
    rewrite_prompt,
    understanding_prompt,
)
from sync_r1.data.warm_up_items import negative_images
from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.scorers.text import DECISIONS
from sync_r1.session import Session
from sync_r1.types import TextContext


@dataclass(frozen=True)
class Prompt:
    """One prompt of a group: what is asked, and what would have been right."""

    kind: PromptKind
    concept: Concept
    prompt: str  # reason: implicit drawing prompt; else a question
    answer: str  # reason: the prompt with its fact spelled out; else the true answer
    tokens: ConceptTokens
    photo: Path | None = None  # what the question is about
    options: tuple[str, ...] = ()  # every answer there is, where they are few; `answer` is one of them


def training_prompts(
    concept: Concept, tokens: ConceptTokens | None = None, others: Sequence[Path] = ()
) -> list[Prompt]:
    """Everything RL may ask about a concept: implicit prompts of the training split, questions about its train photos,
    and whether it is in them or in as many of the pictures of `others`.

    Args:
        tokens: the concept's vocabulary in the model; without it, prompts hold the placeholder alone.
        others: pictures of something else, none of them in a test; without any, recognition is not asked: the answer
            were always yes.
    """
    conditions, tokens = concept.conditions, tokens or ConceptTokens(concept.name)
    pairs = [
        (conditions.implicit[i], conditions.explicit[i]) for i in concept.rl_indices if i < len(conditions.explicit)
    ]
    found = [Prompt("reason", concept, prompt, answer, tokens) for prompt, answer in pairs]
    photos = {path.name: path for path in concept.train_images}
    for name, questions in concept.conversations.items():
        if name in photos:
            found += [Prompt("look", concept, qa.question, qa.answer, tokens, photos[name]) for qa in questions]
    question, count = RECOGNITION_QUESTION.format(name=concept.placeholder), min(len(concept.train_images), len(others))
    seen = [(path, "yes") for path in concept.train_images[:count]] + [(path, "no") for path in others[:count]]
    return found + [
        Prompt("recognize", concept, question, answer, tokens, path, options=DECISIONS) for path, answer in seen
    ]


def evaluation_prompts(concept: Concept, tokens: ConceptTokens, count: int) -> list[Prompt]:
    """`count` implicit prompts of the test split, evenly spaced, or all where there are fewer."""
    conditions, indices = concept.conditions, concept.test_indices
    known = [index for index in indices if index < len(conditions.explicit)]
    if count < len(known):
        known = [known[place * len(known) // count] for place in range(count)]
    return [
        Prompt("reason", concept, conditions.implicit[index], conditions.explicit[index], tokens) for index in known
    ]


def prompt_stream(
    prompts: Sequence[Prompt], *, count: int, shares: Mapping[str, float], seed: int, first: int
) -> list[Prompt]:
    """Prompts number `first` … `first + count − 1` of an endless stream: each kind in shuffled passes, mixed evenly by
    `shares`.

    Args:
        shares: of each kind; those of kinds without prompts go to the others in proportion.
    Raises:
        ValueError: there are no prompts.
    """
    pools: dict[PromptKind, list[Prompt]] = {}
    for prompt in prompts:
        if shares.get(prompt.kind, 0.0) > 0:
            pools.setdefault(prompt.kind, []).append(prompt)
    if not pools:
        raise ValueError(
            "there is nothing to ask: give the concept implicit prompts with facts, or questions about its photos"
        )
    total = sum(shares[kind] for kind in pools)
    places = dict.fromkeys(pools, 0)
    chosen = []
    for number in range(first + count):
        # the kind that is furthest behind its share; ties go to the first
        kind = max(pools, key=lambda kind: shares[kind] / total * (number + 1) - places[kind])
        place, pool = places[kind], pools[kind]
        places[kind] += 1
        if number >= first:
            order = torch.randperm(
                len(pool), generator=torch.Generator().manual_seed(derive_seed(seed, kind, place // len(pool)))
            )
            chosen.append(pool[int(order[place % len(pool)])])
    return chosen


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2^62) from any values: the same parts give the same seed everywhere, so no generator state needs
    saving."""
    digest = hashlib.sha256("::".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def context(model: UnifiedModel, prompt: Prompt, photo_codes: dict[Path, Tensor]) -> TextContext:
    """What the model reads before it writes.

    Args:
        photo_codes: the image tokens of photos that were encoded before; a photo that is not in it is added.
    """
    if prompt.kind == "reason":
        return TextContext(rewrite_prompt(prompt.concept, prompt.prompt))
    assert prompt.photo is not None, "a question is about a photo"
    if prompt.photo not in photo_codes:
        photo_codes[prompt.photo] = model.look([load_image(prompt.photo)])[0]
    question = understanding_prompt(prompt.concept, prompt.prompt, prompt.tokens.reading_tokens)
    return TextContext(question, photo_codes[prompt.photo])


def drawing_text(prompt: Prompt, completion: str) -> str:
    """What the image part reads: the composed prompt with the concept's soft tokens in place."""
    name = prompt.concept.name
    return drawing_prompt(name, compose(prompt.kind, name, prompt.prompt, completion), prompt.tokens.drawing_tokens)


def session_prompts(session: Session) -> list[Prompt]:
    """Everything training may ask about the session's concept; without a data root, no pictures of something else."""
    others = negative_images(session.root, session.concept) if session.root is not None else ()
    return training_prompts(session.concept, session.tokens, others)
