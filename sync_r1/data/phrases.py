"""Plain templates that turn a user's facts into sentences about `<name>` and into drawing prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sync_r1.data.category import Category
from sync_r1.data.names import mention

_PRONOUNS = [
    (re.compile(rf"^{pattern}(?= )", re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(?:he|she|it|they)", ""),
        (r"(?:he|she|it)['’]s(?= (?:been|got))", " has"),
        (r"(?:he|she|it)['’]s", " is"),
        (r"they['’]re", " is"),
        (r"they['’]ve", " has"),
        (r"(?:he|she|it|they)['’]ll", " will"),
        (r"(?:he|she|it|they)['’]d", " would"),
        (r"(?:his|her|its|their)", "'s"),
    )
]
_IS = re.compile(r"^['’]s (?=(?:an?|the|not|always|never|\w+ing)\b)", re.IGNORECASE)  # "<bo>'s a dog": no possessive
_OF = re.compile(r"^['’]s? (?P<thing>.+)$", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)", re.IGNORECASE)
# Words after "<bo>" that say nothing about the topic of the fact ("who is", "who never"), or are no verb at all.
_TELLS_NO_TOPIC = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "does",
        "do",
        "did",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "must",
        "may",
        "might",
        "always",
        "never",
        "often",
        "sometimes",
        "usually",
        "rarely",
        "only",
        "also",
        "still",
        "really",
        "just",
        "not",
    ]
)
_DETERMINER = r"(?:an?|the|its|his|her|their|one|some)"
_OWNS = re.compile(rf"^(?:has|have|owns|got|wears|carries|holds) {_DETERMINER} (?P<thing>.+)$", re.IGNORECASE)
_BEFORE_NOUN = re.compile(r"^(?:(?:an?|the|my|our|your|his|her|its|their|this|that|some|one) )+(?=\S)", re.IGNORECASE)
_BE = re.compile(r" (is|are|was|were) ", re.IGNORECASE)
_VERB = re.compile(r"[a-z]+(?:n['’]t)?|can['’]t|won['’]t", re.IGNORECASE)
_AFTER_HEAD = re.compile(r" (?:with|in|on|of|from|that|which|who|for|at|and|made|while|when)\b|,", re.IGNORECASE)


def with_placeholder(fact: str, concept_id: str, name: str = "") -> str:
    """The fact with `<id>` in it.

    Unchanged if so already, else what mentions the concept or the pronoun at the beginning is replaced ("it's", "its"
    and the like are spelled out), else the placeholder is put before. `name`: as the owner writes it, unless it is the
    id.
    """
    placeholder = f"<{concept_id}>"
    named = mention(fact, concept_id, name, sentence=True)
    if placeholder in named:
        return named
    spoken = _pronoun_replaced(fact, placeholder)
    if placeholder in spoken:
        return spoken
    return f"{placeholder} {fact}"


def info_sentence(info: str, concept_id: str, name: str = "") -> str:
    """`<id> is …`, the form in which the model reads the description."""
    placeholder = f"<{concept_id}>"
    if placeholder in info:
        return info
    named = mention(info, concept_id, name, sentence=True)
    if named.startswith(placeholder):
        sentence = named
    else:
        sentence = _pronoun_replaced(info, placeholder)
    if sentence.startswith(placeholder):
        return sentence
    if sentence.lower().startswith("is "):
        return f"{placeholder} {sentence}"
    return f"{placeholder} is {sentence}"


def _pronoun_replaced(sentence: str, placeholder: str) -> str:
    """The placeholder for a pronoun at the beginning: "it's a dog" → "<bo> is a dog", "her bowl" → "<bo>'s bowl"."""
    for pattern, replacement in _PRONOUNS:
        replaced = pattern.sub(rf"{placeholder}{replacement}", sentence)
        if replaced != sentence:
            return replaced
    return sentence


def article(noun: str) -> str:
    """ "a" or "an", by the first letter."""
    if noun[:1].lower() in tuple("aeiou"):
        return "an"
    return "a"


def with_article(noun: str) -> str:
    """ "apple" → "an apple"; a noun that has an article keeps it."""
    if _ARTICLE.match(noun):
        return noun
    return f"{article(noun)} {noun}"


def without_article(noun: str) -> str:
    """ "a dog", "the old dog", "my dog" → the noun alone, as prompts put an article of their own before it."""
    return _BEFORE_NOUN.sub("", noun)


def drawing_pairs(facts: Sequence[str], name: str, category: Category) -> list[tuple[str, str]]:
    """One (implicit, explicit) prompt per fact, without the final period; the implicit one names the topic, the
    explicit one the fact.

    "<bo> has a green raincoat." → ("A photo of <bo> with its raincoat", "A photo of <bo> with its green raincoat");
    "<bo> sleeps in a basket." → ("A photo of <bo>, who sleeps", "A photo of <bo>, who sleeps in a basket");
    a fact of another form → ("A photo of <bo>", "A photo of <bo>, fact").
    """
    return [_pair(fact.strip().rstrip(".!"), f"<{name}>", category) for fact in facts]


def _pair(fact: str, placeholder: str, category: Category) -> tuple[str, str]:
    photo = f"A photo of {placeholder}"
    whose = "its"
    if category == "person":
        whose = "their"
    pronoun = "who"
    if category == "object":
        pronoun = "which"
    predicate = ""
    if fact.startswith(placeholder):
        predicate = _IS.sub(" is ", fact.removeprefix(placeholder))
    if owned := _OF.match(predicate):
        return _possession(photo, whose, owned["thing"])
    if not predicate.startswith(" "):
        return photo, f"{photo}, {fact}"
    predicate = predicate[1:]
    owned = _OWNS.match(predicate)
    if owned:
        thing = owned["thing"]
        head = _AFTER_HEAD.split(thing, maxsplit=1)[0].split()[-1:]
        if head and head[0] != thing:
            return f"{photo} with {whose} {head[0]}", f"{photo} with {whose} {thing}"
    verb, _, rest = predicate.partition(" ")
    if not _VERB.fullmatch(verb):  # "<bo> There's a scar on its nose": a sentence of its own
        return photo, f"{photo}, {predicate}"
    says_topic = verb.isalpha() and verb.lower() not in _TELLS_NO_TOPIC
    if rest and (owned or says_topic):
        return f"{photo}, {pronoun} {verb}", f"{photo}, {pronoun} {predicate}"
    return photo, f"{photo}, {pronoun} {predicate}"


def _possession(photo: str, whose: str, statement: str) -> tuple[str, str]:
    """ "bowl is blue" → ("… with its bowl", "…, whose bowl is blue")."""
    if _BE.search(statement):
        thing, verb, _ = _BE.split(statement, maxsplit=1)
    else:
        thing, verb, _ = ("", "", "")
    return (f"{photo} with {whose} {thing}" if verb else photo), f"{photo}, whose {statement}"
