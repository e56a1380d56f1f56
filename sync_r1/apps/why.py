"""Which of the facts that the model read a text comes from.

The credit of a fact is log p(text | all that was read) − log p(text | the same without the fact), in nats: above 0
makes the text likelier. It is exact for one fact at a time; of two facts that say the same neither gets any.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sync_r1.data import Picture
from sync_r1.data.phrases import with_article
from sync_r1.data.prompts import fact_prompt, rewrite_prompt, understanding_prompt
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.types import Sampling, TextContext

USED = 0.05  # nats from which on a fact counts as used: the model may guess right without it, so little is enough
PICTURE = "the picture"

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Credit:
    """What one fact did for a text."""

    fact: str  # a private fact or a sentence of the info line as its owner reads it, or "the picture"
    nats: float

    @property
    def used(self) -> bool:
        """Whether the text is less likely without it."""
        return self.nats >= USED


def fact_credit(session: Session, prompt: str, completion: str) -> list[Credit]:
    """What every private fact did for a rewrite of a drawing prompt, in the order of the facts.

    Args:
        prompt: as it was given to `session.rewrite`, `completion` as that returned it.
    Raises:
        ValueError: an empty completion, or a concept without facts.
    """
    return _credits(session, session.concept.facts, _without_each_fact(session, prompt), completion)


def facts_credits(session: Session, rewrites: Sequence[tuple[str, str]]) -> list[list[float]]:
    """What every private fact did for each of many (prompt, rewrite), in nats: `fact_credit` of all, in batches.

    Raises ValueError for a concept without facts.
    """
    contexts: list[TextContext] = []
    texts: list[str] = []
    for prompt, rewrite in rewrites:
        views = _without_each_fact(session, prompt)
        contexts += views
        texts += [session.mention(rewrite)] * len(views)
    if not contexts:
        return []
    logps = text_likelihoods(session, contexts, texts).view(len(rewrites), -1)
    credits: list[list[float]] = (logps[:, :1] - logps[:, 1:]).tolist()
    return credits


def _without_each_fact(session: Session, prompt: str) -> list[TextContext]:
    """The context of a rewrite with all facts, then with each one taken away."""
    concept, text = session.concept, session.mention(prompt.strip())
    contexts = [session.rewrite_context(text)]
    for number in range(len(concept.facts)):
        left = [fact for index, fact in enumerate(concept.facts) if index != number]
        contexts.append(TextContext(rewrite_prompt(replace(concept, facts=left), text)))
    return contexts


def answer_credit(session: Session, question: str, completion: str, image: Picture | None = None) -> list[Credit]:
    """What the sentences of the info line and the picture, if there is one, did for an answer.

    A sentence is taken away; where none is left, the class is named in its place: "<bo> is a dog.".

    Args:
        question: as it was given to `session.ask`, `completion` as that returned it.
    Raises:
        ValueError: an empty completion, or a file that is no usable picture.
    """
    concept, text = session.concept, session.mention(question.strip())
    codes = None if image is None else session.encode([image])[0]
    sentences = _SENTENCE.split(concept.info.strip())
    contexts = [session.question_context(text, codes)]
    for number in range(len(sentences)):
        left = " ".join(sentence for index, sentence in enumerate(sentences) if index != number)
        info = left or f"{concept.placeholder} is {with_article(concept.class_noun)}."
        context = understanding_prompt(replace(concept, info=info), text, session.tokens.reading_tokens)
        contexts.append(TextContext(context, codes))
    if codes is not None:
        contexts.append(session.question_context(text))
    sources = sentences if codes is None else [*sentences, PICTURE]
    return _credits(session, sources, contexts, completion)


def fact_answer_credit(session: Session, question: str, completion: str) -> list[Credit]:
    """What every private fact did for an answer that was given with the facts in view, in the order of the facts.

    Raises ValueError as `fact_credit`.
    """
    concept, text = session.concept, session.mention(question.strip())
    if not concept.facts:
        raise ValueError(f"concept {concept.title!r} has no facts; add some to extra_info of its info.json")
    contexts = [TextContext(fact_prompt(concept, text))]
    for number in range(len(concept.facts)):
        left = [fact for index, fact in enumerate(concept.facts) if index != number]
        contexts.append(TextContext(fact_prompt(replace(concept, facts=left), text)))
    return _credits(session, concept.facts, contexts, completion)


def _credits(
    session: Session, sources: Sequence[str], contexts: Sequence[TextContext], completion: str
) -> list[Credit]:
    """The first context holds everything, each other one lacks the source of its place."""
    if not completion.strip():
        raise ValueError("the text is empty, so nothing led to it; give the model's own text")
    logps = text_likelihoods(session, contexts, session.mention(completion))
    losses = (logps[0] - logps[1:]).tolist()
    return [Credit(session.concept.shown(source), nats) for source, nats in zip(sources, losses, strict=True)]


@torch.no_grad()
def text_likelihoods(session: Session, contexts: Sequence[TextContext], texts: Sequence[str] | str) -> Tensor:
    """log p(text | context) of every context: fp32 [C], in nats, with the end of the text. One replay per batch.

    Args:
        texts: one per context, or the same for all.
    """
    if isinstance(texts, str):
        texts = [texts] * len(contexts)
    ids, mask = answer_ids(session.model, texts)
    parts = []
    for start in range(0, len(contexts), session.options.batch_size):
        rows = slice(start, start + session.options.batch_size)
        width = int(mask[rows].sum(1).max())
        logps, _ = session.model.text_logps(contexts[rows], ids[rows, :width], mask[rows, :width], Sampling())
        parts.append(logps.sum(1).cpu())
    return torch.cat(parts)
