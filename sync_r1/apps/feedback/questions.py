"""What to ask the owner: the rewrite whose thumb would say most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sync_r1.apps.feedback.beliefs import SETTLED, Belief, phrases
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.session import Session
from sync_r1.training.prompts import session_prompts
from sync_r1.types import Sampling

SAMPLES = 16  # rewrites to choose from


@dataclass(frozen=True)
class Question:
    """A prompt with one rewrite, or with two that name different facts."""

    prompt: str
    rewrites: tuple[str, ...]
    word: str  # what is asked about


def next_question(
    session: Session, known: Belief, prompts: Sequence[str] = (), pair: bool = False, seed: int = 0
) -> Question | None:
    """About the word that is least certain, a rewrite that names the fact it most likely means.

    Args:
        prompts: to choose from; by default the thing's own, and "a photo of <thing> with its …" of every word that got
            thumbs.
        pair: two rewrites, for the two likeliest facts.
    Returns:
        None when every word is settled, or the model always says the same where a pair is wanted.
    Raises:
        ValueError: a thing without facts, or no prompt with a single private word.
    """
    if not prompts:
        prompts = [prompt.prompt for prompt in session_prompts(session) if prompt.kind == "reason"]
        prompts = [*prompts, *(f"a photo of {session.concept.placeholder} with {word}" for word in known.words)]
    by_word: dict[str, list[str]] = {}
    for prompt in prompts:
        mentioned = phrases(prompt)
        if len(mentioned) == 1:
            by_word.setdefault(mentioned[0], []).append(prompt)
    if not by_word:
        raise ValueError(
            f"no prompt of {session.concept.title!r} holds a private word such as 'its treasure'; give one, for "
            'example "a photo of bo with its treasure"'
        )
    facts = [session.concept.shown(fact) for fact in session.concept.facts]
    for word in sorted(by_word, key=lambda word: -_entropy(known, word, len(facts))):
        if known.meaning(word)[1] >= SETTLED:
            continue
        likely = sorted(facts, key=lambda fact: -known.words.get(word, {}).get(fact, 1 / len(facts)))
        shortest = min(by_word[word], key=len)
        question = _about(session, word, shortest, likely, 1 + pair, seed)
        if question is not None:
            return question
    return None


def _about(session: Session, word: str, prompt: str, likely: Sequence[str], count: int, seed: int) -> Question | None:
    """Rewrites of a prompt that name the likeliest facts, as far as the model writes such."""
    contexts = [session.rewrite_context(session.mention(prompt))] * SAMPLES
    sampling = Sampling(max_completion_length=session.options.max_completion_length)
    written = session.model.generate_text(contexts, sampling, list(range(seed, seed + SAMPLES))).texts
    texts = [session.concept.shown(text) for text in dict.fromkeys(written) if text.strip()]
    found: dict[str, str] = {}
    for text, named in zip(texts, facts_named(session, [(prompt, text) for text in texts]), strict=True):
        if len(named) == 1:
            found.setdefault(named[0], text)
    chosen = [found[fact] for fact in likely if fact in found][:count]
    if len(chosen) < count:
        return None
    return Question(prompt, tuple(chosen), word)


def _entropy(known: Belief, word: str, facts: int) -> float:
    """In nats; that of an even guess for a word without thumbs."""
    row = known.words.get(word)
    if row is None:
        return math.log(max(facts, 1))
    return -sum(p * math.log(p) for p in row.values() if p > 0)
