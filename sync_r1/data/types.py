"""The values that reader, writer, training and benchmark share: a concept, its questions and its drawing prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sync_r1.data.category import Category

ItemKind = Literal["rec", "vqa", "text_only"]

ITEM_KINDS = ("rec", "vqa", "text_only")
CONDITION_KEYS = {
    "dense": "dense_prompt_generation",
    "implicit": "personalized_driven_generation",
    "explicit": "explicit_personalized_driven_generation",
    "dense_implicit": "personalized_dense_prompt_generation",
    "dense_explicit": "explicit_personalized_dense_prompt_generation",
}
TEXT_ONLY = "text_only"  # the one key of conversations.json that is not a picture


@dataclass(frozen=True)
class QA:
    """A question about a photo of the concept, and the answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class TestItem:
    """One benchmark question. rec: "Yes."/"No." about the picture; vqa: about the picture; text_only: from memory."""

    __test__ = False  # pytest would collect the class by its name

    kind: ItemKind
    image: Path | None
    question: str
    answer: str


@dataclass(frozen=True)
class Conditions:
    """Drawing prompts. implicit and explicit are pairs by index (as asked, and with the fact spelled out).

    So are the dense two.
    """

    dense: list[str] = field(default_factory=list)
    implicit: list[str] = field(default_factory=list)
    explicit: list[str] = field(default_factory=list)
    dense_implicit: list[str] = field(default_factory=list)
    dense_explicit: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)  # legacy UnifyBench only
    legacy: bool = False


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A personal thing: pictures, a class noun, one visual sentence, private facts, questions and drawing prompts."""

    name: str  # the id: names folders, tokens and files
    display_name: str = ""  # as the owner writes it; empty where that is the id
    class_noun: str
    category: Category
    info: str
    facts: list[str]
    conversation_type: str
    generation_type: str  # "object" | "live_subject": which DreamBooth prompts suit it
    num_testing_info: int  # T: the last T implicit prompts are for testing only
    train_images: list[Path]
    test_images: list[Path]
    conversations: dict[str, list[QA]]  # picture file name (or "text_only") → questions
    items: list[TestItem]
    conditions: Conditions

    @property
    def placeholder(self) -> str:
        return f"<{self.name}>"

    @property
    def called(self) -> str:
        """The name as its owner writes it."""
        return self.display_name or self.name

    @property
    def title(self) -> str:
        """The name for a table or a message, with the id where that is another."""
        if self.display_name:
            return f"{self.display_name} ({self.name})"
        return self.name

    def shown(self, text: str) -> str:
        """A text of the model or of the data as its owner reads it: with `<name>` for `<id>`."""
        return text.replace(self.placeholder, f"<{self.called}>")

    @property
    def published_rl_count(self) -> int:
        """How many implicit prompts the published rule trains on: the first ⌊(L+1)/2⌋ of L, test prompts or not."""
        return (len(self.conditions.implicit) + 1) // 2

    @property
    def overlap(self) -> int:
        """How many of those are among the last T, which are for testing."""
        return max(0, self.published_rl_count - len(self.conditions.implicit) + self.num_testing_info)

    @property
    def rl_indices(self) -> list[int]:
        """Implicit prompts RL may train on: the published half without the last T, and without prompts that testing
        asks word for word."""
        prompts = self.conditions.implicit
        tested = {_words(prompts[index]) for index in self.test_indices} | {
            _words(text) for text in self.conditions.dense_implicit
        }
        return [
            index for index in range(self.published_rl_count - self.overlap) if _words(prompts[index]) not in tested
        ]

    @property
    def test_indices(self) -> range:
        """Implicit prompts for testing: the last T."""
        length = len(self.conditions.implicit)
        return range(max(0, length - self.num_testing_info), length)


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()
