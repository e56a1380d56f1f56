"""What there is to learn about a person's things: how each looks, its private facts and its private words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sync_r1.data.phrases import drawing_pairs, with_article
from sync_r1.data.types import Concept
from sync_r1.scorers.text import exact, token_f1
from sync_r1.world import grammar
from sync_r1.world.render import ATTRIBUTES, CONTEXT

ENOUGH_OF_A_TEXT = 0.6  # token F1 from which on a typed answer to a question of no fixed words counts

_PRIVATE_WORD = re.compile(r"with its (\w+)")
_WHERE_TO_LOOK = {  # asks for a picture
    "hat": "Which picture shows what {name} wears?",
    "item": "Which picture shows what {name} carries?",
    "scene": "Which picture shows where {name} lives?",
}


@dataclass(frozen=True)
class Fact:
    """One thing to know about one concept."""

    thing: str  # the concept's id
    name: str  # colour, hat, "treasure", or "fact 2"
    question: str
    answer: str
    sentence: str  # shown after every answer
    prompt: str  # a drawing prompt that shows it
    which: str  # asks for the picture that shows it, or ""
    order: str = ""  # asks the learner to have it drawn, or ""
    attribute: str = ""  # of the embedded world, where the answer is a value of one
    value: str = ""

    @property
    def id(self) -> str:
        return f"{self.thing}/{self.name}"

    def is_answered(self, text: str) -> bool:
        """Whether a typed text says the answer."""
        if exact(text, self.answer):
            return True
        if self.attribute:
            return grammar.parse(text).get(self.attribute, "none") == self.value
        return token_f1(text, self.answer) >= ENOUGH_OF_A_TEXT

    def others(self, facts: Sequence[Fact]) -> list[str]:
        """Wrong answers: the attribute's other values, or what is true of something else."""
        if self.attribute:
            values = [value for value in ATTRIBUTES[self.attribute] if value not in (self.value, "none")]
            return [self.in_words(value) for value in values]
        texts = [fact.answer for fact in facts if not fact.attribute and fact.answer != self.answer]
        return list(dict.fromkeys(texts))

    def in_words(self, value: str) -> str:
        """Another value in the words of the answer."""
        if self.name == self.attribute:
            return grammar.answer(self.attribute, value)
        return grammar.phrase(self.attribute, value)


def facts_of(concept: Concept) -> list[Fact]:
    """Everything to learn about a concept: its look first, then its private facts, then what its own words mean.

    ValueError when neither its info line nor its facts say anything.
    """
    facts = [*_look(concept), *_private(concept), *_words(concept)]
    if not facts:
        raise ValueError(
            f"there is nothing to learn about {concept.title}: its info.json has neither a description nor facts"
        )
    return facts


def _look(concept: Concept) -> list[Fact]:
    name, placeholder = concept.called, concept.placeholder
    seen = grammar.parse(concept.info)
    kinds = ATTRIBUTES["kind"]
    if "kind" not in seen and concept.class_noun in kinds:
        seen["kind"] = concept.class_noun
    facts = []
    for attribute in ("kind", "colour", "pattern", "mark"):
        if attribute not in seen:
            continue
        facts.append(
            Fact(
                concept.name,
                attribute,
                grammar.QUESTIONS[attribute].format(name=name),
                grammar.answer(attribute, seen[attribute]),
                _plain(concept, concept.info),
                f"a photo of {placeholder}",
                f"Which picture is {name}?",
                attribute=attribute,
                value=seen[attribute],
            )
        )
    if not facts and concept.info.strip():
        answer = with_article(concept.class_noun)
        question = f"What does {name} look like?"
        info = _plain(concept, concept.info)
        return [Fact(concept.name, "look", question, info or answer, info, f"a photo of {placeholder}", "")]
    return facts


def _private(concept: Concept) -> list[Fact]:
    facts = []
    pairs = drawing_pairs(concept.facts, concept.name, concept.category)
    for number, (sentence, (implicit, explicit)) in enumerate(zip(concept.facts, pairs, strict=True), 1):
        stated = {name: value for name, value in grammar.parse(sentence).items() if name in CONTEXT}
        if len(stated) == 1:
            (attribute, value), *_ = stated.items()
            facts.append(_context_fact(concept, attribute, value, sentence))
            continue
        question = f"What is true: {_plain(concept, implicit)} …"
        plain = _plain(concept, sentence)
        facts.append(Fact(concept.name, f"fact {number}", question, plain, plain, explicit, ""))
    return facts


def _context_fact(concept: Concept, attribute: str, value: str, sentence: str) -> Fact:
    name = concept.called
    return Fact(
        concept.name,
        attribute,
        grammar.FACT_QUESTIONS[attribute].format(name=name),
        grammar.answer(attribute, value),
        _plain(concept, sentence),
        f"a photo of {concept.placeholder} {grammar.phrase(attribute, value)}",
        _WHERE_TO_LOOK[attribute].format(name=name),
        f"Have {name} drawn {_own(attribute)}: write a prompt that says it in plain words.",
        attribute,
        value,
    )


def _own(attribute: str) -> str:
    return grammar.PLAIN_REFERENCES[attribute].replace("toy", "own thing")


def _words(concept: Concept) -> list[Fact]:
    """What a prompt with a private word and the same prompt spelled out have not in common."""
    found: dict[str, Fact] = {}
    name = concept.called
    pairs = zip(concept.conditions.implicit, concept.conditions.explicit)
    for implicit, explicit in pairs:
        words = _PRIVATE_WORD.findall(implicit)
        before, after = grammar.parse(implicit), grammar.parse(explicit)
        added = [attribute for attribute in CONTEXT if attribute in after and attribute not in before]
        if len(words) != 1 or len(added) != 1 or words[0] in found:
            continue
        (word,), (attribute,) = words, added
        phrase = grammar.phrase(attribute, after[attribute])
        found[word] = Fact(
            concept.name,
            word,
            f"What does {name}'s {word} mean?",
            phrase,
            f"{name}'s {word} means {phrase}.",
            f"a photo of {concept.placeholder} {phrase}",
            f"Which picture shows {name} with its {word}?",
            f"Have {name} drawn with its {word}: write a prompt that says it in plain words.",
            attribute,
            after[attribute],
        )
    return list(found.values())


def _plain(concept: Concept, text: str) -> str:
    """A sentence with the name as its owner writes it."""
    return text.replace(concept.placeholder, concept.called)
