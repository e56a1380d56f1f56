"""Private facts from a picture: the model reads it in several ways and proposes sentences; its owner confirms them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from sync_r1.apps.check import neutral_prompt
from sync_r1.data import Picture
from sync_r1.data.category import category_of
from sync_r1.data.phrases import with_article, with_placeholder
from sync_r1.data.types import Concept, Conditions
from sync_r1.opening import load_model
from sync_r1.scorers.text import token_f1
from sync_r1.session import Session
from sync_r1.types import TextContext
from sync_r1.world import grammar
from sync_r1.world.render import ATTRIBUTES, CONTEXT

_FACT = re.compile(r"> (?:wears|carries|lives) ")  # weights that never learned to state facts answer otherwise
UNKNOWN = "new-thing"  # the id of a thing that is not on disk yet


@dataclass(frozen=True)
class ProposedFact:
    """What a picture seems to show about a concept. Nothing is stored until its owner confirms it."""

    sentence: str  # with the placeholder: "<bo> carries a kite."
    source: str  # which readings say so: "question", "description", "facts"
    agreement: float  # the share of the readings that say so; of free text how much two descriptions share

    @property
    def sure(self) -> bool:
        """Whether every reading says so."""
        return self.agreement == 1.0


def read_facts(session: Session, picture: Picture) -> list[ProposedFact]:
    """Propose facts about the concept from a picture of it, the surest first.

    In the embedded world they say what it wears, carries and where it lives: each is read from the answer to its
    question, from a description of the picture, and, by weights that learned to state facts (world 2), from the
    facts they write. Other models describe the picture in two ways; the first is proposed with the share of words that
    the second repeats.

    ValueError for a file that is no usable picture.
    """
    codes = session.encode([picture])[0]
    if session.draws_world:
        return _world_facts(session, codes)
    questions = (grammar.CAPTION_QUESTION, grammar.DESCRIBE_QUESTION.format(name=session.concept.placeholder))
    first, second = session.answers([session.question_context(question, codes) for question in questions])
    if not first.strip():
        return []
    sentence = with_placeholder(first.strip(), session.concept.name, session.concept.display_name)
    return [ProposedFact(sentence, "description", token_f1(second, first))]


def unknown_thing(class_noun: str, model: str = "world", device: str = "auto") -> Session:
    """A session about a thing that is not on disk yet, of which nothing but the class is known."""
    concept = Concept(
        name=UNKNOWN,
        class_noun=class_noun,
        category=category_of(class_noun),
        info=f"<{UNKNOWN}> is {with_article(class_noun)}.",
        facts=[],
        conversation_type="",
        generation_type="object",
        num_testing_info=0,
        train_images=[],
        test_images=[],
        conversations={},
        items=[],
        conditions=Conditions(),
    )
    return Session(model=load_model(model, device), concept=concept)


def _world_facts(session: Session, codes: Tensor) -> list[ProposedFact]:
    questions = [grammar.CAPTION_QUESTION, grammar.TELL_QUESTION, *(grammar.QUESTIONS[name] for name in CONTEXT)]
    contexts = [TextContext(neutral_prompt(session, question), codes) for question in questions]
    caption, facts, *answers = session.answers(contexts)
    stated = grammar.parse(facts) if _FACT.search(facts) else {}
    found = []
    for attribute, answer in zip(CONTEXT, answers, strict=True):
        if stated and attribute not in stated:
            continue  # a thing alone, which the other questions are not about
        read = {
            "question": grammar.parse(answer).get(attribute),
            "description": grammar.parse(caption).get(attribute),
        }
        if stated:
            read["facts"] = stated[attribute]
        votes = Counter(value for value in read.values() if value in ATTRIBUTES[attribute] and value != "none")
        if not votes:
            continue
        value, count = votes.most_common(1)[0]  # of two different ones the answer's
        sources = [source for source, other in read.items() if other == value]
        sentence = grammar.fact(session.concept.placeholder, attribute, value)
        found.append(ProposedFact(sentence, " and ".join(sources), count / len(read)))
    return sorted(found, key=lambda one: one.agreement, reverse=True)
