"""A judge of pictures and texts behind an OpenAI-compatible endpoint.

What cannot be scored is None and counted, never a silent 0.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from torch import Tensor

from sync_r1.config import JudgeConfig
from sync_r1.data.pictures import load_image
from sync_r1.scorers.base import Score, mean_ignoring_none
from sync_r1.scorers.chat.client import Answer, ChatClient, ChatFailure, image_part, text_part
from sync_r1.scorers.chat.endpoint import Message
from sync_r1.scorers.judge_prompts import asked_again, conversation, load_instructions

Parsing = Literal["strict", "published"]

MAX_TOKENS, PUBLISHED_TOKENS = 1024, 64  # of a reply: ours, and that of the published protocol
# The schema that is sent allows no further fields, as strict endpoints ask; a reply may hold some, such as a reason.
_FORM = ConfigDict(strict=True, extra="ignore", json_schema_extra={"additionalProperties": False})


def _number(value: Any) -> Any:
    """A number that a model put in quotes."""
    try:
        if isinstance(value, str):
            return float(value)
        return value
    except ValueError:
        return value


Grade = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), BeforeValidator(_number)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_number)]


class PictureGrades(BaseModel):
    """Grades of one picture, 0 to 100; null where there is nothing to compare with."""

    model_config = _FORM
    index: int
    identity: Grade | None
    faithfulness: Grade | None


class Verdict(BaseModel):
    """Grade of a text or a clause, 0 to 1; null where there is nothing to judge by."""

    model_config = _FORM
    score: Share | None


class _Pictures(BaseModel):
    model_config = _FORM

    @model_validator(mode="after")
    def indices_are_those_asked_for(self) -> _Pictures:
        rows: list[PictureGrades] = getattr(self, "pictures")  # noqa: B009
        if sorted(row.index for row in rows) != list(range(1, len(rows) + 1)):
            raise ValueError("every index from 1 must occur once")
        return self


@lru_cache(maxsize=64)
def pictures_schema(count: int) -> type[BaseModel]:
    """The reply for `count` pictures: exactly one entry for each of the indices 1 … count."""
    entries = (list[PictureGrades], Field(min_length=count, max_length=count))
    return create_model("Pictures", __base__=_Pictures, pictures=entries)


@dataclass(frozen=True)
class _Call:
    """One request: which pictures of the batch it grades, and the photos it compares them with."""

    rows: list[int]
    references: tuple[Path, ...]


class RemoteJudge:
    """Grades pictures against texts and reference photos, and texts against texts (UnifyBench++ §judge metrics).

    Score of a picture: faithfulness / 100, or with reference photos w·identity / 100 + (1 − w)·faithfulness / 100,
    where w is `config.identity_weight` (0.6, as in the published reward). Pictures with the same reference photos are
    sent together, `config.images_per_call` at most.

    A reply of the wrong form is asked for once more; then its pictures are None. `counts` says how many scores were
    given and why others were not: scored, abstained (null), refused, invalid, unavailable, rejected, and `asked_again`
    for repairs.

    Args:
        parsing: of text and clause grades. "strict": schema-checked, None where it fails. "published": the first number
            of a plain reply, clamped to [0, 1]; a reply without one scores 0 with a warning, which is the rule of
            UnifyBench++. What a model thinks before it replies, and a reply cut at the token limit, hold no grade.
    Raises:
        ValueError: a configuration that cannot work; when called, also a key, URL or model that the endpoint denies.
    """

    def __init__(self, config: JudgeConfig, *, parsing: Parsing = "strict") -> None:
        self.config, self.parsing = config, parsing
        self.instructions = load_instructions(config.instructions)
        self.client = ChatClient(config, version=f"judge {self.instructions.version}")
        self.counts: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Model, host and instructions, for the record beside a score."""
        return f"{self.config.model} at {self.client.endpoint.hosts} (instructions {self.instructions.version})"

    def __call__(
        self, images: Tensor, texts: Sequence[str], *, references: Sequence[Sequence[Path]] | None = None
    ) -> list[Score]:
        """How well picture b shows texts[b], and with references[b] how much it is the same subject.

        Args:
            images: uint8 [B, 3, H, W]. texts: B; "" is not asked about. references: per picture its photos, [] for
                none.
        Returns:
            B scores in [0, 1], None where there is none.
        Raises:
            ValueError: inputs of different lengths, or an endpoint that denies every request.
        """
        if references is not None:
            photos = [tuple(map(Path, row)) for row in references]
        else:
            photos = [()] * len(texts)
        if not len(images) == len(texts) == len(photos):
            raise ValueError(
                f"got {len(images)} pictures, {len(texts)} texts and {len(photos)} rows of references; give one of "
                "each per picture"
            )
        pictures = to_pictures(images)
        calls = list(_calls(texts, photos, self.config))
        batch = [self._picture_request(call, pictures, texts) for call in calls]
        answers = self._ask(
            batch, [pictures_schema(len(call.rows)) for call in calls], [len(call.rows) for call in calls]
        )
        scores: list[Score] = [None] * len(texts)
        for call, answer in zip(calls, answers):
            if isinstance(answer, BaseModel):
                for entry in getattr(answer, "pictures"):  # noqa: B009
                    row = call.rows[entry.index - 1]
                    scores[row] = self._combine(entry, bool(call.references))
        return scores

    def score_text_answer(
        self, questions: Sequence[str], references: Sequence[str], answers: Sequence[str]
    ) -> list[Score]:
        """Is each answer right, given the question and a right answer? 0, 0.5 or 1 by the instruction."""
        rows = [
            {"task": "answer", "question": question, "reference": reference, "answer": answer}
            for question, reference, answer in zip(questions, references, answers, strict=True)
        ]
        found: list[Score] = []
        for verdict in self._grade(self.instructions.answer, rows, [[] for _ in rows]):
            found.append(verdict.score if verdict else None)
        return found

    def score_prompt_similarity(self, references: Sequence[str], rewrites: Sequence[str]) -> list[Score]:
        """Does each rewrite keep the intent and the personal details of the reference rewrite? 0, 0.5 or 1 by the
        instruction.
        """
        rows = [
            {"task": "rewrite", "reference": reference, "rewrite": rewrite}
            for reference, rewrite in zip(references, rewrites, strict=True)
        ]
        found: list[Score] = []
        for verdict in self._grade(self.instructions.rewrite, rows, [[] for _ in rows]):
            found.append(verdict.score if verdict else None)
        return found

    def score_clauses(self, images: Tensor, prompts: Sequence[str]) -> list[Score]:
        """Share of a prompt's clauses that its picture shows, one question each.

        Clauses that the judge abstains from leave the share; None where a reply failed or nothing is left.

        Args:
            images: uint8 [B, 3, H, W]; prompts: B.
        """
        pictures = to_pictures(images)
        owners, rows, parts = [], [], []
        for index, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            for clause in clauses(prompt):
                owners.append(index)
                rows.append({"task": "clause", "clause": clause})
                parts.append([image_part(picture, self.config.max_side)])
        found: dict[int, list[Verdict | None]] = {}
        for owner, verdict in zip(owners, self._grade(self.instructions.clause, rows, parts)):
            found.setdefault(owner, []).append(verdict)
        return [_share(found.get(index, [])) for index in range(len(pictures))]

    def _picture_request(self, call: _Call, pictures: Sequence[Image.Image], texts: Sequence[str]) -> list[Message]:
        wishes = [{"index": number, "wanted": about_subject(texts[row])} for number, row in enumerate(call.rows, 1)]
        data = {"task": "pictures", "reference_photos": len(call.references), "pictures": wishes}
        parts: list[Message] = []
        for number, path in enumerate(call.references, 1):
            stat = path.stat()
            parts += [
                text_part(f"Reference photo {number}:"),
                _photo(path, self.config.max_side, stat.st_mtime_ns, stat.st_size),
            ]
        for number, row in enumerate(call.rows, 1):
            parts += [text_part(f"Picture {number}:"), image_part(pictures[row], self.config.max_side)]
        return conversation(self.instructions.pictures, data, parts, "pictures", len(call.rows))

    def _combine(self, entry: PictureGrades, compared: bool) -> Score:
        weight = 0.0
        if compared:
            weight = self.config.identity_weight
        graded = [(weight, entry.identity), (1 - weight, entry.faithfulness)]
        known = [(share, grade / 100) for share, grade in graded if share > 0 and grade is not None]
        if len(known) < sum(share > 0 for share, _ in graded):
            self.counts["abstained"] += 1
            return None
        self.counts["scored"] += 1
        return sum(share * grade for share, grade in known)

    def _grade(
        self, instruction: str, rows: Sequence[Mapping[str, Any]], parts: Sequence[list[Message]]
    ) -> list[Verdict | None]:
        """One request per row → its grade; None where there is no usable reply."""
        published = self.parsing == "published"
        batch = [
            conversation(instruction, row, extra, "number" if published else "score") for row, extra in zip(rows, parts)
        ]
        answers = self._ask(batch, None if published else [Verdict] * len(batch), [1] * len(batch))
        verdicts = [Verdict(score=first_number(answer)) if isinstance(answer, str) else answer for answer in answers]
        graded = [verdict if isinstance(verdict, Verdict) else None for verdict in verdicts]
        for verdict in graded:
            if verdict is not None:
                self.counts["abstained" if verdict.score is None else "scored"] += 1
        return graded

    def _ask(
        self,
        batch: list[list[Message]],
        schemas: list[type[BaseModel]] | None,
        sizes: Sequence[int],
    ) -> list[Answer]:
        """Replies to a batch; those of the wrong form are asked for once more.

        Failures are counted (`sizes` scores each) and warned of.
        """
        if not batch:
            return []
        max_tokens = self.config.max_tokens or (MAX_TOKENS if schemas is not None else PUBLISHED_TOKENS)
        answers = self.client.complete_many(batch, schema=schemas, max_tokens=max_tokens, whole=True)
        wrong = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, ChatFailure) and answer.kind == "invalid"
        ]
        if wrong and schemas is not None:
            self.counts["asked_again"] += len(wrong)
            again = [asked_again(batch[index]) for index in wrong]
            repaired = self.client.complete_many(
                again, schema=[schemas[index] for index in wrong], max_tokens=max_tokens
            )
            answers = [dict(zip(wrong, repaired)).get(index, answer) for index, answer in enumerate(answers)]
        self._report(answers, sizes)
        return answers

    def _report(self, answers: Sequence[Answer], sizes: Sequence[int]) -> None:
        failures = [(answer, size) for answer, size in zip(answers, sizes) if isinstance(answer, ChatFailure)]
        for failure, size in failures:
            self.counts[failure.kind] += size
        for failure, _ in failures:
            if failure.kind == "denied":
                raise ValueError(failure.message)
        if failures:
            lost, kinds = sum(size for _, size in failures), Counter(failure.kind for failure, _ in failures)
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            warnings.warn(
                f"the judge left {lost} of {sum(sizes)} scores open ({counted}); {failures[0][0].message}", stacklevel=4
            )


def clauses(prompt: str) -> list[str]:
    """The parts of a prompt between commas, with "the subject" for any `<…>`."""
    found: list[str] = []
    for part in (piece.strip() for piece in about_subject(prompt).split(",")):
        if part:
            found.append(part)
    return found


def about_subject(text: str) -> str:
    """`a photo of <bo>` → `a photo of the subject`."""
    return re.sub(r"<[^<>]*>", "the subject", text)


def first_number(text: str) -> float:
    """The first number in a reply, clamped to [0, 1].

    0 with a warning when there is none (UnifyBench++ §judge client).
    """
    found = re.search(r"-?\d+(?:\.\d+)?|-?\.\d+", text)
    if found is None:
        warnings.warn(
            f"the judge's reply {text[:80]!r} holds no number; by the published rule it scores 0", stacklevel=2
        )
        return 0.0
    return min(max(float(found.group()), 0.0), 1.0)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """uint8 [B, 3, H, W] → B pictures."""
    if images.ndim != 4 or images.shape[1] != 3 or str(images.dtype) != "torch.uint8":
        raise ValueError(f"images is {images.dtype} {tuple(images.shape)}; it must be uint8 [B, 3, H, W]")
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).cpu().contiguous().numpy()]


def _calls(texts: Sequence[str], photos: Sequence[tuple[Path, ...]], config: JudgeConfig) -> Iterator[_Call]:
    """Pictures with equal photos together, in order; those without a text are not asked about."""
    groups: dict[tuple[Path, ...], list[int]] = {}
    for row, (text, paths) in enumerate(zip(texts, photos)):
        if text.strip():
            groups.setdefault(paths[: config.references_per_call], []).append(row)
    for paths, rows in groups.items():
        for start in range(0, len(rows), config.images_per_call):
            yield _Call(rows[start : start + config.images_per_call], paths)


@lru_cache(maxsize=64)
def _photo(path: Path, max_side: int, _modified: int, _size: int) -> Message:
    return image_part(load_image(path), max_side)


def _share(verdicts: Sequence[Verdict | None]) -> Score:
    if None in verdicts:
        return None
    return mean_ignoring_none(verdict.score for verdict in verdicts if verdict is not None)
