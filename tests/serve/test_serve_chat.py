"""Chats: the official client gets what `Session.ask` says, whole or streamed."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from PIL import Image

from sync_r1.serve.texts import Written
from sync_r1.session import Session
from tests.serve.serving import data_url

QUESTION = "What colour is bo?"


def asked(client: openai.OpenAI, content: Any = QUESTION, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": content}]
    return client.chat.completions.create(**{"model": "tiny", "messages": messages, **more})


def with_picture(image: Image.Image, question: str = QUESTION) -> list[dict[str, Any]]:
    return [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": data_url(image)}}]


def test_models_are_listed_with_their_concepts(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "tiny" and model.model_dump()["concept"] == "bo"
    assert client.models.retrieve("tiny") == model
    with pytest.raises(openai.NotFoundError, match="known are tiny"):
        client.models.retrieve("other")


def test_answers_are_those_of_ask(client: openai.OpenAI, session: Session, photo: Image.Image) -> None:
    reply = asked(client)
    assert reply.choices[0].message.content == session.ask(QUESTION)
    seen = asked(client, with_picture(photo))
    assert seen.choices[0].message.content == session.ask(QUESTION, photo)
    assert seen.usage.prompt_tokens == reply.usage.prompt_tokens + session.model.num_image_tokens
    assert 0 < reply.usage.completion_tokens <= session.options.max_completion_length
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_the_last_message_of_the_user_is_asked(client: openai.OpenAI, session: Session, photo: Image.Image) -> None:
    messages: Any = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": with_picture(photo, "Where is bo?")},
        {"role": "assistant", "content": "In the snow."},
        {"role": "user", "content": [{"type": "text", "text": "What is bo wearing?"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]
    reply = client.chat.completions.create(model="tiny", messages=messages)
    assert reply.choices[0].message.content == session.ask("What is bo wearing?")


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_tells_the_same_text_token_by_token(client: openai.OpenAI, seed: int) -> None:
    given: dict[str, Any] = {"temperature": 2.0, "seed": seed, "n": 2}  # random bytes, characters cut in the middle
    whole = asked(client, **given)
    chunks = list(asked(client, stream=True, stream_options={"include_usage": True}, **given))
    for index, choice in enumerate(whole.choices):
        own = [part for chunk in chunks for part in chunk.choices if part.index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(part.delta.content or "" for part in own) == choice.message.content
        assert [part.finish_reason for part in own if part.finish_reason] == [choice.finish_reason]
        assert len(own) > 4
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert whole.choices[0].message.content != whole.choices[1].message.content


def test_max_tokens_and_stop_end_an_answer(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"temperature": 1.5, "seed": 3}
    whole = asked(client, **given)
    text = whole.choices[0].message.content
    short = asked(client, max_tokens=2, **given)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
    assert text.startswith(short.choices[0].message.content.rstrip("\ufffd"))
    stop = text[3:6]
    cut = asked(client, stop=[stop, "never written"], **given)
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == text[: text.index(stop)].rstrip()
    streamed = asked(client, stop=stop, stream=True, **given)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == cut.choices[0].message.content
    assert asked(client, max_tokens=10**9).usage.completion_tokens <= 12


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "other"}, "does not exist"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "hi"}]}, "none of the user"),
        ({"content": "  "}, "is empty"),
        ({"content": "What colour is <nosuch>?"}, "<nosuch>"),
        ({"content": "word " * 1000}, "at most 4000"),
        ({"content": "half of a \ud83d character"}, "UTF-8"),
        ({"content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]}, "no image_url"),
        ({"content": [{"type": "input_audio"}]}, "type"),
        ({"n": 1000}, "n: "),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a"] * 5}, "at most 4"),
        ({"top_p": 0.5}, "only 1"),
        ({"tools": [{"type": "function"}]}, "no tools"),
        ({"response_format": {"type": "json_object"}}, "plain text"),
        ({"logprobs": True}, "log-probabilities"),
    ],
)
def test_what_cannot_be_done_is_told_in_openai_s_form(client: openai.OpenAI, given: dict[str, Any], words: str) -> None:
    content = given.pop("content", QUESTION)
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **given}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=words) as caught:
        client.post("/chat/completions", content=ascii_json(body), cast_to=object)
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def ascii_json(body: object) -> bytes:
    import json

    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "url", ["https://example.org/a.png", "file:///etc/passwd", "data:image/png;base64,%%%", "data:,x"]
)
def test_no_url_is_fetched(client: openai.OpenAI, url: str) -> None:
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError, match=r"not fetched|no base64"):
        asked(client, content)


def test_two_pictures_in_one_message_are_refused(client: openai.OpenAI, photo: Image.Image) -> None:
    with pytest.raises(openai.BadRequestError, match="2 pictures"):
        asked(client, with_picture(photo) * 2)


def test_text_that_may_become_a_stop_or_a_name_is_held_back(session: Session) -> None:
    written = Written(session, 9, ("END", "<x>"))
    for text, news in (
        ("a red E", "a red"),
        ("a red EN", ""),
        ("a red EAR <b", " EAR"),
        ("a red EAR <b \ufffd", " <b"),
    ):
        written.text = text
        assert written.news() == news
    written.text, written.reason = "a red EAR <b c", "stop"
    assert written.news() == " c"
