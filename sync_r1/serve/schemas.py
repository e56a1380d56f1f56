"""What requests may hold, in OpenAI's words. Fields that mean nothing here are passed over; those that would change
the result and cannot be followed are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from sync_r1.asked_texts import checked_text
from sync_r1.config_fields import LARGEST
from sync_r1.recognition import How
from sync_r1.serve.options import MAX_MESSAGES, MAX_PICTURES, MAX_STEPS, MAX_STOPS, MAX_TEXTS

PARTIAL_PICTURES = 8  # previews at most of one picture
LONGEST_STOP = 200

Seed = Annotated[int | None, Field(ge=0, le=LARGEST - MAX_PICTURES)]
Temperature = Annotated[float | None, Field(ge=0, le=5, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_PICTURES)]


class Request(BaseModel):
    """What all requests have."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str = Field(max_length=200)


class PicturePart(BaseModel):
    """The `image_url` of a message's part."""

    url: str


class Part(BaseModel):
    """A part of a message. Only texts and pictures are read; earlier messages may hold anything."""

    type: str = Field(max_length=40)
    text: str | None = None
    image_url: PicturePart | None = None


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """Of a streamed chat."""

    include_usage: bool = False


class ChatRequest(Request):
    """POST /v1/chat/completions. The last message of the user is asked; temperature 0 or none is greedy."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    n: Annotated[int, Field(ge=1, le=MAX_TEXTS)] | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: Temperature = None
    top_p: float | None = Field(None, ge=0, le=1)
    seed: Seed = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None

    @field_validator("stop")
    @classmethod
    def few_stops(cls, value: str | list[str] | None) -> list[str]:
        """As a list without empty texts."""
        if value is None:
            stops = []
        elif isinstance(value, str):
            stops = [value]
        else:
            stops = value
        if len(stops) > MAX_STOPS or any(len(text) > LONGEST_STOP for text in stops):
            raise ValueError(f"at most {MAX_STOPS} texts of at most {LONGEST_STOP} letters each")
        return [text for text in stops if text]

    @field_validator("tools")
    @classmethod
    def no_tools(cls, value: list[Any] | None) -> list[Any] | None:
        if value:
            raise ValueError("this model calls no tools; leave them out")
        return value

    @field_validator("response_format")
    @classmethod
    def plain_text(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and value.get("type") != "text":
            raise ValueError("this model answers in plain text only; leave it out")
        return value

    @field_validator("logprobs")
    @classmethod
    def no_logprobs(cls, value: bool | None) -> bool | None:
        if value:
            raise ValueError("log-probabilities are not given; leave it out")
        return value

    @field_validator("top_p")
    @classmethod
    def whole_distribution(cls, value: float | None) -> float | None:
        if value is not None and value != 1:
            raise ValueError("only 1 is possible, the whole distribution; use temperature instead")
        return value


class PictureRequest(Request):
    """What the three ways to draw have in common. `seed`, `steps`, `guidance` and `temperature` are ours."""

    n: Count | None = None
    size: str | None = Field(None, max_length=20)
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    seed: Seed = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    guidance: Annotated[float, Field(ge=0, le=20, allow_inf_nan=False)] | None = None
    temperature: Annotated[float, Field(gt=0, le=5, allow_inf_nan=False)] | None = None


class StreamedPicture(PictureRequest):
    """What can be streamed: one picture, with `partial_images` on the way."""

    prompt: str
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=PARTIAL_PICTURES)] | None = None

    @field_validator("prompt")
    @classmethod
    def some_words(cls, value: str) -> str:
        return checked_text(value, "prompt")


class DrawRequest(StreamedPicture):
    """POST /v1/images/generations. `rewrite` lets the model spell the prompt out from the facts first."""

    rewrite: bool | None = None
    background: Literal["auto", "opaque"] | None = None


class EditRequest(StreamedPicture):
    """POST /v1/images/edits, beside the files `image` and `mask`."""


class VariationRequest(PictureRequest):
    """POST /v1/images/variations, beside the file `image`. `share` of the tokens is drawn again."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.4
    prompt: str | None = None

    @field_validator("prompt")
    @classmethod
    def some_words(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return checked_text(value, "prompt")


class RecognizeRequest(Request):
    """POST /sync-r1/recognize: is the concept in the picture, a data: URL?"""

    image: str
    how: How = "words"


class RewriteRequest(Request):
    """POST /sync-r1/rewrite: spell a prompt out from the private facts."""

    prompt: str

    @field_validator("prompt")
    @classmethod
    def some_words(cls, value: str) -> str:
        return checked_text(value, "prompt")


class TextRequest(Request):
    """A text of the model and what led to it: either `prompt`, for its rewrite, or `question`, for its answer."""

    text: str
    prompt: str | None = None
    question: str | None = None

    @field_validator("text", "prompt", "question")
    @classmethod
    def some_words(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return checked_text(value, "text")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        if (self.prompt is None) == (self.question is None):
            raise ValueError("give either prompt, for a rewrite, or question, for an answer")
        return self


class WhyRequest(TextRequest):
    """POST /sync-r1/why: which facts led to the text."""

    image: str | None = None  # of the question, a data: URL


class FeedbackRequest(TextRequest):
    """POST /sync-r1/feedback: whether the text is good, and for a bad rewrite what it should have said."""

    good: bool
    correction: str | None = None

    @field_validator("correction")
    @classmethod
    def some_correction(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return checked_text(value, "correction")

    @model_validator(mode="after")
    def correction_of_a_rewrite(self) -> Self:
        if self.correction is not None and (self.good or self.prompt is None):
            raise ValueError("a correction goes with a rewrite that is not good; leave it out")
        return self
