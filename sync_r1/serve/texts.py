"""Writing: the worker's part of chats and rewrites. B rows of a batch, one per answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from sync_r1.apps.closer import closer_all
from sync_r1.asked_texts import asked_text
from sync_r1.serve.batching import Job
from sync_r1.serve.catalogue import Catalogue
from sync_r1.session import Session
from sync_r1.types import Sampling, TextContext

UNFINISHED = "\ufffd"  # what half a character is decoded as


@dataclass(frozen=True)
class Ask:
    """A question as a client put it."""

    model: str
    question: str
    picture: Image.Image | None
    seeds: tuple[int, ...]  # one per answer
    temperature: float  # 0 is greedy
    max_tokens: int | None
    stops: tuple[str, ...]
    streamed: bool


@dataclass
class Written:
    """An answer, or how far it is."""

    session: Session
    max_tokens: int
    stops: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    sent: str = ""  # what a streaming client has
    reason: str | None = None  # OpenAI's finish_reason

    def add(self, token: int) -> None:
        """One more token; sets `reason` where the answer is complete."""
        tokenizer = self.session.model.tokenizer
        if token == tokenizer.eos_token_id:
            self.reason = "stop"
            return
        self.ids.append(token)
        self.text = self.session.concept.shown(str(tokenizer.decode(self.ids)).strip())
        found = [place for place in map(self.text.find, self.stops) if place >= 0]
        if found:
            self.text, self.reason = self.text[: min(found)].rstrip(), "stop"
        elif len(self.ids) >= self.max_tokens:
            self.reason = "length"

    def news(self) -> str:
        """The part of the text that is new and will not change any more; the rest when the answer is complete."""
        text = self.text
        if self.reason is None:
            text = text.rstrip(UNFINISHED)
            endings = (*self.stops, self.session.concept.placeholder)
            text = text[: len(text) - max(_overlap(text, ending) for ending in endings)].rstrip()
        if not text.startswith(self.sent):
            return ""
        new = text[len(self.sent) :]
        self.sent = text
        return new


def _overlap(text: str, ending: str) -> int:
    """How many letters at the end of the text begin `ending`, without being all of it."""
    return next((size for size in range(len(ending) - 1, 0, -1) if text.endswith(ending[:size])), 0)


@dataclass(frozen=True)
class Answers:
    """The result of an `Ask`."""

    texts: list[str]
    reasons: list[str]
    prompt_tokens: int
    written_tokens: int


@dataclass(frozen=True)
class Delta:
    """More of answer number `index`."""

    index: int
    text: str


class Texts:
    """Answers questions of several clients in one batch."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def answer(self, jobs: Sequence[Job]) -> None:
        """A `batching.Handler` of jobs whose request is an `Ask`; all have one model and one temperature."""
        session = self.catalogue.session(jobs[0].request.model)
        contexts = contexts_of(session, [job.request for job in jobs])
        rows = Rows(session, jobs, contexts)
        limit = session.options.max_completion_length
        temperature = jobs[0].request.temperature
        if temperature > 0:
            sampling = Sampling(temperature=temperature, max_completion_length=limit)
        else:
            sampling = Sampling(top_k=1, max_completion_length=limit)
        session.model.generate_text(rows.contexts, sampling, rows.seeds, on_token=rows.on_token)
        rows.finish()


def contexts_of(session: Session, asked: Sequence[Ask]) -> list[TextContext]:
    """What the model reads for each question. Pictures are encoded together, of those of two the half that is meant."""
    pairs = [(ask.question, ask.picture) for ask in asked if ask.picture is not None]
    seen = closer_all(session, [question for question, _ in pairs], [picture for _, picture in pairs])
    codes: list[Tensor] = []
    if seen:
        codes = list(session.encode(seen))
    contexts = []
    for ask in asked:
        shown = None
        if ask.picture is not None:
            shown = codes.pop(0)
        contexts.append(
            session.question_context(asked_text(session.model, ask.question, [session.concept], "question"), shown)
        )
    return contexts


class Rows:
    """The rows of a batch, and which job each belongs to."""

    def __init__(self, session: Session, jobs: Sequence[Job], contexts: Sequence[TextContext]) -> None:
        self.jobs = jobs
        self.prompt_tokens = [_prompt_tokens(session, context) for context in contexts]
        self.owners: list[int] = []
        self.contexts: list[TextContext] = []
        self.seeds: list[int] = []
        self.written: list[Written] = []
        limit = session.options.max_completion_length
        for number, (job, context) in enumerate(zip(jobs, contexts, strict=True)):
            ask: Ask = job.request
            for seed in ask.seeds:
                self.owners.append(number)
                self.contexts.append(context)
                self.seeds.append(seed)
                self.written.append(Written(session, min(ask.max_tokens or limit, limit), ask.stops))

    def on_token(self, tokens: Tensor, running: Tensor) -> Tensor:
        """Pass the tokens on; which rows end."""
        ended = torch.zeros(len(self.written), dtype=torch.bool)
        for row, (token, runs) in enumerate(zip(tokens.tolist(), running.tolist(), strict=True)):
            written, job = self.written[row], self.jobs[self.owners[row]]
            if runs and written.reason is None:
                written.add(token)
                self._send(row)
            ended[row] = written.reason is not None or job.unwanted
        return ended

    def _send(self, row: int) -> None:
        job = self.jobs[self.owners[row]]
        if job.request.streamed and not job.unwanted:
            text = self.written[row].news()
            if text:
                job.send(Delta(row - self.owners.index(self.owners[row]), text))

    def finish(self) -> None:
        """Give every job its answers."""
        for number, job in enumerate(self.jobs):
            if job.unwanted:
                continue
            own = [written for written, owner in zip(self.written, self.owners) if owner == number]
            texts = [written.text for written in own]
            reasons = [written.reason or "length" for written in own]
            count = sum(len(written.ids) for written in own)
            job.finish(Answers(texts, reasons, self.prompt_tokens[number], count))


def _prompt_tokens(session: Session, context: TextContext) -> int:
    """Tokens that the model reads: those of the text, and those of the picture."""
    count = len(session.model.tokenizer(context.text, add_special_tokens=False)["input_ids"])
    if context.image is None:
        return count
    return count + session.model.num_image_tokens
