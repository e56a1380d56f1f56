"""The exact words the model reads, and the one rule that turns what it wrote into what it draws.

Understanding prompts follow UnifyBench++ §2.2: `USER: ` + name and info lines + query + ` ASSISTANT:`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

PromptKind = Literal["reason", "look", "recognize"]

RECOGNITION_QUESTION = "Is {name} in this picture?"


class Described(Protocol):
    """What the prompts need to know of a concept."""

    @property
    def name(self) -> str: ...
    @property
    def info(self) -> str: ...
    @property
    def facts(self) -> list[str]: ...


def placeholder(name: str) -> str:
    """`bo` → `<bo>`: how prompts and answers mention a concept."""
    return f"<{name}>"


def text_prefix(concept: Described) -> str:
    """The TP lines: the bare name and the one-line description."""
    return f"name: {concept.name}\ninfo: {concept.info}"


def understanding_prompt(concept: Described, question: str, tokens: Sequence[str] = ()) -> str:
    """Context of a question about a photo or about the concept. Soft tokens, if any, introduce it: `<c> is TOKS.`"""
    introduction = ""
    if tokens:
        introduction = f"{placeholder(concept.name)} is {''.join(tokens)}.\n"
    return f"USER: {text_prefix(concept)}\n{introduction}{question} ASSISTANT:"


def fact_prompt(concept: Described, question: str) -> str:
    """Context of a question, without a picture, that the private facts answer."""
    return f"USER: {text_prefix(concept)}\nfacts: {' '.join(concept.facts)}\n{question} ASSISTANT:"


def several_prompt(concepts: Sequence[Described], question: str) -> str:
    """Context of a question about several concepts, each introduced by its name and its description."""
    return "USER: " + "\n".join([*map(text_prefix, concepts), question]) + " ASSISTANT:"


def rewrite_prompt(concept: Described, prompt: str) -> str:
    """Context in which the model spells out an implicit drawing prompt from the private facts."""
    return f"USER: {text_prefix(concept)}\nfacts: {' '.join(concept.facts)}\nrewrite: {prompt} ASSISTANT:"


def drawing_prompt(name: str, text: str, tokens: Sequence[str]) -> str:
    """Put the concept's soft tokens before its placeholder (UniCTokens §3: `TOKS <c>`).

    Text without the placeholder stays as it is.
    """
    named = placeholder(name)
    return text.replace(named, "".join(tokens) + named)


def look_of(concept: Described) -> str:
    """What the info line says that the concept is: "<bo> is a red dog with a star." → "a red dog with a star".

    "" where its first sentence does not begin with the placeholder and "is".
    """
    opening = f"{placeholder(concept.name)} is "
    sentence = concept.info.strip().split(". ")[0].rstrip(".")
    if sentence.startswith(opening):
        return sentence.removeprefix(opening)
    return ""


def with_looks(text: str, concepts: Sequence[Described], least: int = 2) -> str:
    """A text that mentions several concepts, with the look of each after its first mention, if it is not there already.

    "<bo> and <ana>" → "<bo>, a red dog and <ana>, a girl with a bun". A text that mentions less than `least` of them
    stays as it is.
    """
    mentioned = [concept for concept in concepts if placeholder(concept.name) in text]
    if len(mentioned) < least:
        return text
    for concept in mentioned:
        named, look = placeholder(concept.name), look_of(concept)
        if look and look not in text:
            text = text.replace(named, f"{named}, {look}", 1)
    return text


def compose(kind: PromptKind, name: str, prompt: str, completion: str) -> str:
    """What to draw after reading `prompt` and writing `completion`: a fixed rule, no other model involved.

    reason: the rewrite itself. look: a photo of the concept with the answer appended. recognize: a photo of the
        concept, as yes and no describe nothing. An empty text falls back to the plain photo.
    """
    written = " ".join(completion.split()).rstrip(".")
    if kind == "reason":
        return written or prompt
    photo = f"a photo of {placeholder(name)}"
    if written and kind == "look":
        return f"{photo}, {written}"
    return photo
