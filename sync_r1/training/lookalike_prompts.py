"""Drawing prompts of look-alikes, from what the model itself says it sees: one word of a description is changed.

Which words could stand there is learned from what it sees in other pictures, so that no list of words is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import torch

from sync_r1.data.phrases import article
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.data.warm_up_items import negative_images
from sync_r1.scorers.text import DECISIONS, split_decision
from sync_r1.session import Session
from sync_r1.training.prompts import derive_seed

ARTICLES = ("a", "an")


def described_prompts(session: Session, count: int, seed: int) -> list[str]:
    """`count` drawing prompts: one in four is what the model sees in most photos of the concept, in the others one word
    of that is changed.

    None for a model that decides without saying what it sees, or that sees the same in all pictures.
    """
    own = seen_in(session, session.concept.train_images)
    if not own or session.root is None:
        return []
    most = Counter(own).most_common(1)[0][0]
    changes = one_word_changed(most, seen_in(session, negative_images(session.root, session.concept)))
    if not changes:
        return []
    prompts = []
    for number in range(count):
        text = most
        if number % 4:
            generator = torch.Generator().manual_seed(derive_seed(seed, "look-alike", number))
            text = changes[int(torch.randint(len(changes), (), generator=generator))]
        prompts.append(f"a photo of {text}")
    return prompts


def seen_in(session: Session, pictures: Sequence[Path]) -> list[str]:
    """What the model says it sees in each picture before it decides whether the concept is there, where it says
    anything."""
    question = RECOGNITION_QUESTION.format(name=session.concept.placeholder)
    contexts = [session.question_context(question, codes) for codes in session.encode(pictures)]
    said = [split_decision(answer, DECISIONS)[0] for answer in session.answers(contexts)]
    return [text.rstrip(". ") for text in said if text.rstrip(". ")]


def one_word_changed(text: str, others: Sequence[str]) -> list[str]:
    """The text with one word as it stands in the same place of another one: all that there are, in a fixed order.

    "a red dog with a star" and "a blue dog with a moon" → "a blue dog with a star", "a red dog with a moon".
    """
    words = text.split()
    found: dict[str, None] = {}
    for other in dict.fromkeys(others):
        found |= dict.fromkeys(_exchanged(words, other.split()))
    return list(found)


def _exchanged(words: list[str], others: list[str]) -> list[str]:
    found = []
    for kind, start, end, first, last in SequenceMatcher(a=words, b=others, autojunk=False).get_opcodes():
        if kind != "replace":
            continue
        for place, word in zip(range(start, end), others[first:last]):  # the longer one's rest has no counterpart
            if word not in (words[place], *ARTICLES) and words[place] not in ARTICLES:
                found.append(_with_word(words, place, word))
    return found


def _with_word(words: list[str], place: int, word: str) -> str:
    changed = [*words[:place], word, *words[place + 1 :]]
    if place and words[place - 1] in ARTICLES:
        changed[place - 1] = article(word)
    return " ".join(changed)
