"""Plain templates that turn a user's facts into sentences about `<name>` and into drawing prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sync_r1.data.category import Category

_DETERMINER = r"(?:an?|the|its|his|her|their|one|some)"
_OWNS = re.compile(rf"^(?:has|have|owns|got|wears|carries|holds) {_DETERMINER} (?P<thing>.+)$", re.IGNORECASE)
_AFTER_HEAD = re.compile(r" (?:with|in|on|of|from|that|which|who|for|at|and|made|while|when)\b|,", re.IGNORECASE)


def with_placeholder(fact: str, name: str) -> str:
    """The fact with `<name>` in it:

    unchanged if so already, else bare name or first pronoun replaced, else the placeholder put before.
    """
    mark = f"<{name}>"
    if mark in fact:
        return fact
    named = re.sub(rf"<{re.escape(name)}>|(?<![\w<-]){re.escape(name)}(?![\w>-])", mark, fact, flags=re.IGNORECASE)
    if named != fact:
        return named
    pronoun = re.sub(r"^(?:he|she|it|they)(?= )", mark, fact, flags=re.IGNORECASE)
    return pronoun if pronoun != fact else f"{mark} {fact}"


def info_sentence(info: str, name: str) -> str:
    """`<name> is …`, the form in which the model reads the description."""
    mark = f"<{name}>"
    sentence = info if mark in info else re.sub(rf"^{re.escape(name)}(?= is )", mark, info, flags=re.IGNORECASE)
    if mark in sentence:
        return sentence
    return f"{mark} {sentence}" if sentence.lower().startswith("is ") else f"{mark} is {sentence}"


def article(noun: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if noun[:1].lower() in tuple("aeiou") else "a"


def with_article(noun: str) -> str:
    """ "apple" → "an apple"."""
    return f"{article(noun)} {noun}"


def drawing_pairs(facts: Sequence[str], name: str, category: Category) -> list[tuple[str, str]]:
    """One (implicit, explicit) prompt per fact, without the final period; the implicit one names the topic, the
    explicit one the fact.

    "<bo> has a green raincoat." → ("A photo of <bo> with its raincoat", "A photo of <bo> with its green raincoat");
    "<bo> sleeps in a basket." → ("A photo of <bo>, who sleeps", "A photo of <bo>, who sleeps in a basket");
    a fact of another form → ("A photo of <bo>", "A photo of <bo>, fact").
    """
    return [_pair(fact.strip().rstrip(".!"), f"<{name}>", category) for fact in facts]


def _pair(fact: str, mark: str, category: Category) -> tuple[str, str]:
    photo = f"A photo of {mark}"
    if not fact.startswith(f"{mark} "):
        return photo, f"{photo}, {fact}"
    said = fact.removeprefix(f"{mark} ")
    owned = _OWNS.match(said)
    if owned:
        thing = owned["thing"]
        head = _AFTER_HEAD.split(thing, maxsplit=1)[0].split()[-1:]
        whose = "their" if category == "person" else "its"
        if head and head[0] != thing:
            return f"{photo} with {whose} {head[0]}", f"{photo} with {whose} {thing}"
    verb, _, rest = said.partition(" ")
    pronoun = "which" if category == "object" else "who"
    if rest and verb.lower() not in {"is", "are", "was"}:
        return f"{photo}, {pronoun} {verb}", f"{photo}, {pronoun} {said}"
    return photo, f"{photo}, {pronoun} {said}"
