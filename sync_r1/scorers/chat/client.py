"""A client for any OpenAI-compatible chat endpoint (vLLM or hosted): batches, a cache of replies, replies checked
against a schema."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from PIL import Image
from pydantic import BaseModel, ValidationError

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.cache import ReplyCache, content_key
from sync_r1.scorers.chat.endpoint import ChatFailure, Message, Reply, Usage
from sync_r1.scorers.chat.http import one_line
from sync_r1.scorers.chat.pool import EndpointPool

Model = TypeVar("Model", bound=BaseModel)
Schema = type[BaseModel]
Answer = str | BaseModel | ChatFailure

LONGEST_OBJECT = 100_000  # characters of a reply that are searched for JSON
_TAG = r"(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning)"
# Thoughts end at the last closing tag. Their opening tag is often part of the chat template and thus not of the reply.
_THOUGHTS = re.compile(rf".*(?:</{_TAG}\s*>|\[/THINK\])", re.DOTALL | re.IGNORECASE)
_UNFINISHED_THOUGHTS = re.compile(rf"\s*(?:<{_TAG}\s*>|\[THINK\])", re.IGNORECASE)
# A reply that is nothing but one object, closed as if it had been a thought.
_CLOSED_OBJECT = re.compile(rf"\s*(\{{.*\}})\s*</{_TAG}\s*>\s*", re.DOTALL | re.IGNORECASE)
# Replies of models that write into channels (harmony): thoughts go to others, the answer to the one called final.
_CHANNELS = re.compile(r"\s*(?:<\|start\|>\s*\w*\s*)?<\|channel\|>", re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.IGNORECASE)
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call)\|>", re.IGNORECASE)
SPACE_AROUND = 200  # characters between a comma and the bracket that follows it, at most
MOST_COMMAS = 100  # that are taken out of one reply because nothing follows them
_DECLINES = re.compile(
    r"\b(?:can ?not|can['’]?t|won['’]?t|unable to|not able to|must decline|decline to)\b.{0,40}"
    r"\b(?:assist|help|comply|identify|evaluate|judge|rate|score|compare|process|analy[sz]e|do that)\b",
    re.IGNORECASE | re.DOTALL,
)


class ChatError(ValueError):
    """What `ChatClient.complete` raises; `failure` says why."""

    def __init__(self, failure: ChatFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class _Request:
    key: str
    messages: list[Message]
    schema: Schema | None
    max_tokens: int
    whole: bool


class ChatClient:
    """Asks a chat model. Safe to share between threads.

    Replies are cached by model, `version`, temperature, messages (pictures included), schema and `max_tokens`. The URL
    is no part of it, so a cache stays valid when a model moves. Only replies that fit their schema are kept, and no
    empty ones.

    Args:
        config: where and how; the key is read once from the environment variable `config.key_env`.
        version: of the caller's instructions.
    Raises:
        ValueError: no model name, or a URL or key that cannot be used.
    """

    def __init__(self, config: JudgeConfig, *, version: str = "") -> None:
        if not config.model:
            raise ValueError(
                f"judge.model is empty; set it to a model that {config.url} serves (its /v1/models lists them)"
            )
        self.config, self.version = config, version
        self.endpoint = EndpointPool(config)
        self.cache = ReplyCache(config.cache)

    @property
    def usage(self) -> Usage:
        """Requests, cache hits, retries, failures, tokens and cost so far (a copy)."""
        return self.endpoint.usage

    def close(self) -> None:
        """Close the connections."""
        self.endpoint.close()

    def complete(self, messages: list[Message], *, schema: Schema | None = None, max_tokens: int = 1024) -> Any:
        """The reply to one conversation: text, or with `schema` an instance of it.

        Raises:
            ChatError: there is no usable reply; its `failure` says why.
        """
        answer = self._answer(self._request(messages, schema, max_tokens, False))
        if isinstance(answer, ChatFailure):
            raise ChatError(answer)
        return answer

    def complete_many(
        self,
        batch: Sequence[list[Message]],
        *,
        schema: Schema | Sequence[Schema] | None = None,
        max_tokens: int = 1024,
        whole: bool = False,
    ) -> list[Answer]:
        """Replies in the order of `batch`, asked concurrently; failures are values. Equal requests are asked once.

        Args:
            schema: one for all conversations, or one for each.
            whole: a text that was cut at the token limit is a failure, too.
        """
        schemas = list(schema) if isinstance(schema, Sequence) else [schema] * len(batch)
        requests = [
            self._request(messages, wanted, max_tokens, whole) for messages, wanted in zip(batch, schemas, strict=True)
        ]
        distinct = {request.key: request for request in requests}
        self.endpoint.count(cache_hits=len(requests) - len(distinct))
        at_once = self.config.concurrency * len(self.endpoint.endpoints)
        with ThreadPoolExecutor(max(1, min(at_once, len(distinct)))) as pool:
            answers = dict(zip(distinct, pool.map(self._answer, distinct.values())))
        return [answers[request.key] for request in requests]

    def _request(self, messages: list[Message], schema: Schema | None, max_tokens: int, whole: bool) -> _Request:
        shape = json_shape(schema)
        key = content_key(self.config.model, self.version, self.config.temperature, max_tokens, shape, messages)
        return _Request(key, messages, schema, max_tokens, whole)

    def _answer(self, request: _Request) -> Answer:
        stored = self.cache.get(request.key)
        if stored is not None:
            answer = read_answer(Reply(stored), request.schema)
            if not isinstance(answer, ChatFailure):
                self.endpoint.count(cache_hits=1)
                return answer
        reply = self.endpoint.send(request.messages, json_shape(request.schema), request.max_tokens)
        if isinstance(reply, ChatFailure):
            answer = reply
        else:
            answer = read_answer(reply, request.schema, request.whole)
        if isinstance(answer, ChatFailure):
            self.endpoint.count(failures=1)
        elif isinstance(reply, Reply) and reply.text.strip():
            self.cache.put(request.key, reply.text)
        return answer


@lru_cache(maxsize=256)
def json_shape(schema: Schema | None) -> dict[str, Any] | None:
    """The JSON schema of a model. Not to be changed by the caller."""
    if schema:
        return schema.model_json_schema()
    return None


def read_answer(reply: Reply, schema: Schema | None, whole: bool = False) -> Answer:
    """A reply's text without thoughts (it may be empty), or the JSON object in it that fits `schema`, else a failure.

    The failure is refused or invalid. With `whole`, a text that was cut at the token limit is invalid.
    """
    if reply.refusal:
        return ChatFailure("refused", f"the model declined: {one_line(reply.refusal)}")
    if schema is None and not (whole and reply.cut):
        return without_thoughts(reply.text)
    found = None
    if schema is not None:
        found = find_object(reply.text, schema)
    if found is not None:
        return found
    if reply.cut:
        return ChatFailure(
            "invalid", "the model's reply was cut at the token limit; allow it more with judge.max_tokens"
        )
    if _DECLINES.search(reply.text):
        return ChatFailure("refused", f"the model declined: {one_line(reply.text)}")
    return ChatFailure("invalid", f"the model's reply does not fit the schema: {one_line(reply.text) or 'it is empty'}")


def without_thoughts(text: str) -> str:
    """A reply without what a reasoning model thought before it."""
    text = _final_message(text)
    thoughts = _THOUGHTS.match(text)
    if thoughts:
        rest = text[thoughts.end() :]
    else:
        rest = text
    if _UNFINISHED_THOUGHTS.match(rest):
        return ""
    return rest


def _final_message(text: str) -> str:
    """What a reply in channels says in its final one; empty without such a channel. Other replies stay as they are."""
    if not _CHANNELS.match(text):
        return text
    finals = list(_FINAL_CHANNEL.finditer(text))
    if not finals:
        return ""
    return _END_OF_MESSAGE.split(text[finals[-1].end() :], maxsplit=1)[0]


def find_object(text: str, schema: type[Model]) -> Model | None:
    """The JSON object in a reply that fits `schema`; thoughts, words and code fences around it are skipped.

    Line breaks within its strings and commas after its last entry are allowed, as models write them. None for no such
    object, or several that differ.
    """
    closed = _CLOSED_OBJECT.fullmatch(text)
    rest = without_thoughts(text)
    if closed and not rest.strip():
        rest = closed[1]
    else:
        closed = None
    found: list[Model] = []
    position = rest.find("{")
    while 0 <= position < LONGEST_OBJECT:
        try:
            value, rest, end = _decode(rest, position)
            found.append(schema.model_validate(value))
        except ValidationError:
            pass
        except RecursionError:  # nested without end, and so is what follows
            return None
        except ValueError:
            end = position + 1
        if closed and end < len(rest):  # more than an object: these were thoughts
            return None
        position = rest.find("{", end)
    if found and all(one == found[0] for one in found):
        return found[0]
    return None


def _decode(text: str, position: int) -> tuple[Any, str, int]:
    """The JSON value that begins at `position`, the text without commas that end a list or an object in it, and where
    the value ends there. ValueError when there is none."""
    decoder = json.JSONDecoder(strict=False)
    for _ in range(MOST_COMMAS):
        try:
            value, end = decoder.raw_decode(text, position)
            return value, text, end
        except json.JSONDecodeError as error:
            near = max(position, error.pos - SPACE_AROUND)  # bounded, as a hostile reply may hold a brace per letter
            comma = near + len(text[near : error.pos + 1].rstrip(" \t\r\n]}")) - 1
            follows = text[comma + 1 : comma + SPACE_AROUND].lstrip()[:1]
            if comma < near or text[comma] != "," or follows not in ("}", "]") or len(text) > LONGEST_OBJECT:
                raise
            text = text[:comma] + text[comma + 1 :]
    raise ValueError(f"more than {MOST_COMMAS} commas have nothing after them")


def text_part(text: str) -> Message:
    """Text as one piece of a message's content."""
    return {"type": "text", "text": text}


def image_part(image: Image.Image, max_side: int | None = None) -> Message:
    """A picture as one piece of a message's content: a PNG in base64, at most `max_side` pixels wide and high.

    It is encoded from its pixels alone: nothing else that the file held (place, camera, comments) is sent.
    """
    image = image.convert("RGB")
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, "PNG", compress_level=1)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"},
    }
