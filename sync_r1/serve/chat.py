"""POST /v1/chat/completions: the last message of the user is asked, with its picture, as `sync-r1 ask` does."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sync_r1.asked_texts import checked_text
from sync_r1.serve import pictures
from sync_r1.serve.batching import Job
from sync_r1.serve.errors import bad_request, json_response
from sync_r1.serve.replies import Event, result_of, sse, streamed
from sync_r1.serve.schemas import ChatRequest, Message
from sync_r1.serve.state import State, state_of
from sync_r1.serve.texts import Answers, Ask, Delta

LONG_TEXT = 1000  # letters from which on a question counts as more than one row of a batch

router = APIRouter()


@router.post("/v1/chat/completions")
async def complete(body: ChatRequest, request: Request) -> Response:
    """Answer a question about the concept, with or without a picture."""
    state = state_of(request)
    state.catalogue.find(body.model)
    job = state.submit(await run_in_threadpool(ask_of, body), job_of)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
    if not body.stream:
        return json_response({**head, "object": "chat.completion", **whole(await result_of(request, job))})
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    return await streamed(request, job, Chunks(head, body.n or 1, wants_usage).write)


def ask_of(body: ChatRequest) -> Ask:
    """The question of a conversation. ApiError for one without a question, or with several pictures."""
    last = next((message for message in reversed(body.messages) if message.role == "user"), None)
    if last is None:
        raise bad_request("messages hold none of the user; the last one of the user is asked", "messages")
    question, picture = read(last)
    first = body.seed
    if first is None:
        first = random.getrandbits(32)
    limits = [limit for limit in (body.max_tokens, body.max_completion_tokens) if limit is not None]
    return Ask(
        model=body.model,
        question=question,
        picture=picture,
        seeds=tuple(range(first, first + (body.n or 1))),
        temperature=body.temperature or 0.0,
        max_tokens=min(limits, default=None),
        stops=tuple(body.stop or ()),
        streamed=bool(body.stream),
    )


def read(message: Message) -> tuple[str, Image.Image | None]:
    """The text of a message and its picture."""
    if isinstance(message.content, list):
        parts = message.content
    else:
        parts = []
    if other := [part.type for part in parts if part.type not in ("text", "image_url")]:
        raise bad_request(f"a part has the type {other[0]!r}; text and image_url can be read", "messages")
    texts = [part.text or "" for part in parts if part.type == "text"]
    if isinstance(message.content, str):
        texts = [message.content]
    shown = [part.image_url for part in parts if part.type == "image_url"]
    if len(shown) > 1:
        raise bad_request(
            f"the last user message holds {len(shown)} pictures; the model sees one at a time", "messages"
        )
    try:
        question = checked_text("\n".join(texts), "last user message")
    except ValueError as error:
        raise bad_request(str(error), "messages") from error
    if not shown:
        return question, None
    if shown[0] is None:
        raise bad_request("a part of type image_url has no image_url", "messages")
    return question, pictures.from_data_url(shown[0].url, "image_url")


def job_of(state: State, ask: Ask) -> Job:
    """Questions to one model at one temperature share a batch; long ones take the place of several."""
    size = len(ask.seeds) * (1 + len(ask.question) // LONG_TEXT)
    key = ("text", ask.model, ask.temperature)
    return Job(state.texts.answer, key, ask, size, state.options.time_limit_s)


def whole(answers: Answers) -> dict[str, Any]:
    """The choices and the usage of a reply that is not streamed."""
    choices = []
    for index, (text, reason) in enumerate(zip(answers.texts, answers.reasons, strict=True)):
        message = {"role": "assistant", "content": text, "refusal": None}
        choices.append({"index": index, "message": message, "finish_reason": reason, "logprobs": None})
    return {"choices": choices, "usage": usage(answers)}


def usage(answers: Answers) -> dict[str, int]:
    read, written = answers.prompt_tokens, answers.written_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Chunks:
    """Turns the events of a job into the chunks of a streamed reply."""

    def __init__(self, head: dict[str, Any], n: int, wants_usage: bool) -> None:
        self.head = {**head, "object": "chat.completion.chunk"}
        self.n, self.wants_usage = n, wants_usage
        self.sent = [""] * n
        self.begun = False

    def write(self, event: Event) -> list[str]:
        """The lines of one event."""
        last, value = event
        lines = []
        if not self.begun:
            self.begun = True
            lines += [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self.n)]
        if isinstance(value, Delta):
            self.sent[value.index] += value.text
            lines.append(self._chunk(value.index, {"content": value.text}))
        if last:
            lines += self._end(value)
        return lines

    def _end(self, answers: Answers) -> list[str]:
        lines = []
        for index, text in enumerate(answers.texts):
            rest = text.removeprefix(self.sent[index])
            if rest and text.startswith(self.sent[index]):
                lines.append(self._chunk(index, {"content": rest}))
            lines.append(self._chunk(index, {}, answers.reasons[index]))
        if self.wants_usage:
            lines.append(sse({**self.head, "choices": [], "usage": usage(answers)}))
        return [*lines, "data: [DONE]\n\n"]

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return sse({**self.head, "choices": [choice]})
