"""Questions and prompts as people write them: checked, and with placeholders for the concepts that they name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sync_r1.config_fields import check_unicode
from sync_r1.data import Concept
from sync_r1.data.names import check_mentions, mention
from sync_r1.data.phrases import with_article
from sync_r1.models.base import UnifiedModel
from sync_r1.world.grammar import check_subjects, parse
from sync_r1.world.render import SIZE
from sync_r1.world.version import check_version

LONGEST_TEXT = 4000  # letters of a question or a prompt


def with_placeholders(text: str, concepts: Sequence[Concept]) -> str:
    """The text with every concept's name written as placeholder, unless it holds the placeholder already."""
    for concept in concepts:
        text = mention(text, concept.name, concept.display_name)
    return text


def checked_text(text: str, what: str) -> str:
    """A text as a person wrote it, without space around it.

    ValueError names `what` where the text is empty, too long or holds half a character.
    """
    if not text.strip():
        raise ValueError(f"the {what} is empty; write a few words")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the {what} has {len(text)} letters; at most {LONGEST_TEXT} are read, so shorten it")
    return check_unicode(text.strip(), f"the {what}")


def asked_text(model: UnifiedModel, text: str, concepts: Sequence[Concept], what: str) -> str:
    """A text with placeholders, without space around it.

    Args:
        what: "question" or "prompt", for messages.
    Raises:
        ValueError: as `checked_text`, and for a text that names a concept that the model does not know.
    """
    text = with_placeholders(checked_text(text, what), concepts)
    known = [tokens.name for tokens in model.concepts]
    check_mentions(text, known, [*known, *(name.strip("<>") for name in model.name_pool)], f"the {what}")
    return text


def asked_prompt(model: UnifiedModel, text: str, concepts: Sequence[Concept]) -> str:
    """The same of a drawing prompt. Warns of every one of the concepts that it does not mention.

    Raises:
        ValueError: as `asked_text`, and of the embedded world what `asks_for_two` refuses, or two with weights of its
            version 1.
    """
    text = asked_text(model, text, concepts, "prompt")
    if model.image_size == SIZE and asks_for_two(text, concepts):
        check_version(model, "draw two characters in one picture")
    for concept in concepts:
        if concept.placeholder not in text:
            shown = concept.shown(concept.placeholder)
            warnings.warn(f"the prompt does not mention {shown}, so it is drawn without it", stacklevel=5)
    return text


def asks_for_two(text: str, concepts: Sequence[Concept]) -> bool:
    """Whether a prompt of the embedded world asks for two characters. Warns of what they cannot hold.

    Raises:
        ValueError: more than two characters, or two concepts that "and" does not join, which would be drawn as one.
    """
    count = check_subjects(text)
    named = [concept.placeholder for concept in concepts if concept.placeholder in text]
    if len(named) == 2 and count < 2:
        raise ValueError(
            f'the prompt names {named[0]} and {named[1]} without "and" between them, so they would become one; write '
            f'"{named[0]} and {named[1]} at the beach", with what each wears after its name'
        )
    held = parse(text).get("item")
    if count == 2 and held:
        warnings.warn(f"in a picture of two nothing is held, so it is drawn without {with_article(held)}", stacklevel=6)
    return count == 2
