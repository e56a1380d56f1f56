"""Questions and prompts as people write them: checked, and with placeholders for the concepts that they name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sync_r1.config_fields import check_unicode
from sync_r1.data import Concept
from sync_r1.data.names import check_mentions, mention
from sync_r1.models.base import UnifiedModel
from sync_r1.world.grammar import check_subjects
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
        ValueError: as `asked_text`, and for more than two characters of the embedded world, or two with weights of its
            version 1.
    """
    text = asked_text(model, text, concepts, "prompt")
    if model.image_size == SIZE and check_subjects(text) == 2:
        check_version(model, "draw two characters in one picture")
    for concept in concepts:
        if concept.placeholder not in text:
            shown = concept.shown(concept.placeholder)
            warnings.warn(f"the prompt does not mention {shown}, so it is drawn without it", stacklevel=5)
    return text
