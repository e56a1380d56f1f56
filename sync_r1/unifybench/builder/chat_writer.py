"""Test prompts and questions proposed by a chat model.

Whatever it says is checked by the builder's rules; templates fill up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from sync_r1.config import JudgeConfig
from sync_r1.data import QA, Concept, load_image
from sync_r1.scorers.chat.client import ChatClient, image_part, text_part
from sync_r1.scorers.chat.endpoint import ChatFailure, Message
from sync_r1.unifybench.builder.fact_templates import TEST_SCENES
from sync_r1.unifybench.builder.propose import Sizes
from sync_r1.unifybench.builder.rules import Pair

VERSION = "builder-1"  # of the instructions below, part of the cache key
MAX_TOKENS = 2048

ROLE = (
    "You write test items for a model that draws and recognises one personal thing. The thing is always called by its "
    "placeholder, written exactly as given, and never by another name."
)
PAIRS = (
    "Write {count} pairs of drawing prompts about the one fact below. The implicit prompt only hints at the fact, "
    "by its topic ('in its coat'), and holds none of its details. The explicit prompt is the same sentence with the "
    "fact spelled out, using the fact's own words. Each pair has another everyday setting, such as '{scene}'. One "
    "sentence of at most 25 words each, both with {placeholder}."
)
DENSE_PAIRS = (
    "Write {count} pairs of long drawing prompts. Each combines the facts you number in 'facts' (two, or three) "
    "with a setting, light and mood, as clauses with commas between. The implicit prompt only hints at every fact by "
    "its topic; the explicit prompt is the same with the facts spelled out in their own words. At most 45 words each, "
    "both with {placeholder}."
)
DENSE = (
    "Write {count} long drawing prompts of {placeholder} that need none of the facts: what it does, where, the light, "
    "the style, as four to six clauses with commas between. At most 40 words each, each with {placeholder}."
)
QUESTIONS = (
    "Write one or two questions about each fact that can be answered in a few words, with the answer. Each question "
    "holds {placeholder}."
)
LOOK = (
    "This photo shows {placeholder}. Write two or three questions about what can be seen in this photo, and short "
    "answers that are certain from it. Ask about the setting and what {placeholder} does or wears here, not about the "
    "facts. Each question holds {placeholder}."
)

M = TypeVar("M", bound=BaseModel)


class PairReply(BaseModel):
    implicit: str
    explicit: str


class PairsReply(BaseModel):
    pairs: list[PairReply]


class DenseReply(PairReply):
    facts: list[int]


class DensePairsReply(BaseModel):
    pairs: list[DenseReply]


class PromptsReply(BaseModel):
    prompts: list[str]


class QuestionReply(BaseModel):
    question: str
    answer: str


class QuestionsReply(BaseModel):
    questions: list[QuestionReply]


class ChatWriter:
    """A builder's `Writer` behind an OpenAI-compatible endpoint.

    A request that fails costs its proposals only, and is counted.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config, self.name = config, config.model
        self.client = ChatClient(config, version=VERSION)
        self.failures: Counter[str] = Counter()

    def pairs(self, concept: Concept, sizes: Sizes) -> list[Pair]:
        """Proposals per fact in turns, half again as many as wanted, as some will fail the rules."""
        count = sizes.per_fact + (sizes.per_fact + 1) // 2
        scenes = [TEST_SCENES[number % len(TEST_SCENES)] for number in range(len(concept.facts))]
        wanted = [PAIRS.format(count=count, scene=scene, placeholder=concept.placeholder) for scene in scenes]
        batch = [_talk(concept, f"{text}\nThe fact: {fact}") for text, fact in zip(wanted, concept.facts)]
        rows = []
        for index, reply in enumerate(self._ask(batch, PairsReply)):
            rows.append(
                [Pair(as_sentence(pair.implicit), as_sentence(pair.explicit), (index,)) for pair in reply.pairs]
                if reply
                else []
            )
        return [row[turn] for turn in range(max(map(len, rows), default=0)) for row in rows if turn < len(row)]

    def dense_pairs(self, concept: Concept, sizes: Sizes) -> list[Pair]:
        """Proposals about two facts or more.

        Those about others than the facts there are, or about one, are left out.
        """
        if len(concept.facts) < 2:
            return []
        text = DENSE_PAIRS.format(count=sizes.dense_pairs + sizes.dense_pairs // 2, placeholder=concept.placeholder)
        reply = self._ask([_talk(concept, text)], DensePairsReply)[0]
        known = range(1, len(concept.facts) + 1)
        rows = []
        for pair in reply.pairs if reply else []:
            if len(set(pair.facts)) > 1 and all(n in known for n in pair.facts):
                rows.append(pair)
        if reply:
            self.failures["dense pairs that name no two facts"] += len(reply.pairs) - len(rows)
        found: list[Pair] = []
        for r in rows:
            found.append(
                Pair(as_sentence(r.implicit), as_sentence(r.explicit), tuple(sorted({n - 1 for n in r.facts})))
            )
        return found

    def dense(self, concept: Concept, sizes: Sizes) -> list[str]:
        """Long prompts without facts."""
        text = DENSE.format(count=sizes.dense + sizes.dense // 3, placeholder=concept.placeholder)
        reply = self._ask([_talk(concept, text)], PromptsReply)[0]
        return [line for prompt in (reply.prompts if reply else []) if (line := as_sentence(prompt))]

    def questions(self, concept: Concept) -> list[QA]:
        """Questions from memory."""
        return _qas(
            self._ask([_talk(concept, QUESTIONS.format(placeholder=concept.placeholder))], QuestionsReply)[0],
            concept.placeholder,
        )

    def photo_questions(self, concept: Concept, photos: Sequence[Path]) -> list[tuple[Path, QA]]:
        """Questions about test photos, which the model looks at."""
        text = LOOK.format(placeholder=concept.placeholder)
        batch = [_talk(concept, text, image_part(load_image(photo), self.config.max_side)) for photo in photos]
        replies = self._ask(batch, QuestionsReply)
        return [(photo, qa) for photo, reply in zip(photos, replies) for qa in _qas(reply, concept.placeholder)]

    def notes(self) -> list[str]:
        """What went wrong, and what it took."""
        used = self.client.usage
        asked = f"{self.name} was asked {used.requests} times ({used.prompt_tokens} + {used.completion_tokens} tokens)"
        return [asked, *(f"{count} × {reason}" for reason, count in self.failures.items() if count)]

    def _ask(self, batch: Sequence[list[Message]], schema: type[M]) -> list[M | None]:
        replies: list[Any] = []
        if batch:
            replies = self.client.complete_many(
                list(batch), schema=schema, max_tokens=self.config.max_tokens or MAX_TOKENS
            )
        for reply in replies:
            if isinstance(reply, ChatFailure):
                self.failures[f"no reply: {reply.message}"] += 1
        return [None if isinstance(reply, ChatFailure) else reply for reply in replies]


def as_sentence(text: str) -> str:
    """A model's sentence on one line, with a final period."""
    line = " ".join(text.split())
    if not line or line.endswith((".", "!", "?")):
        return line
    return f"{line}."


def _talk(concept: Concept, text: str, picture: Message | None = None) -> list[Message]:
    facts = "\n".join(f"{number + 1}. {fact}" for number, fact in enumerate(concept.facts))
    about = (
        f"The thing: {concept.placeholder}, a {concept.class_noun}. {concept.info}\n"
        "Facts that only its owner knows:\n"
        f"{facts}\n"
        "\n"
        f"{text}"
    )
    content = [text_part(about), *([picture] if picture else [])]
    return [{"role": "system", "content": ROLE}, {"role": "user", "content": content if picture else about}]


def _qas(reply: QuestionsReply | None, placeholder: str) -> list[QA]:
    """Questions and answers that are not empty and name the thing."""
    rows = [(" ".join(row.question.split()), as_sentence(row.answer)) for row in (reply.questions if reply else [])]
    return [QA(question, answer) for question, answer in rows if placeholder in question and answer]
