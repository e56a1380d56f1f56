"""The chat client against real HTTP servers: what it sends, what it costs, and how it reads replies."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sync_r1.scorers.chat.client import find_object, image_part
from sync_r1.scorers.chat.endpoint import ChatFailure, base_url
from tests.scorers.fake_endpoint import Body, Number, Response, client, echo, endpoint, said


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4"),
    ],
)
def test_base_url_with_or_without_its_path(given: str, full: str) -> None:
    assert base_url(given) == full


@pytest.mark.parametrize(
    "wrong",
    ["localhost:8000", "ftp://h/v1", "", "http://", "http://user:pw@h/v1", "https://h/v1?key=abc", "http://[::"],
)
def test_a_url_that_cannot_work_is_refused_without_repeating_secrets(wrong: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        base_url(wrong)
    assert "pw" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_batch_keeps_its_order_its_limit_and_asks_equal_requests_once() -> None:
    def slow(body: Body, number: int) -> Response:
        return Response(echo(body, number), delay_s=0.05)

    with endpoint(slow) as server:
        chat = client(server, concurrency=3)
        asked = [str(index % 9) for index in range(18)]
        assert chat.complete_many([said(text) for text in asked]) == [f"you said {text}" for text in asked]
        assert len(server.bodies) == 9 and server.most_busy == 3
        assert set(server.paths) == {"/v1/chat/completions"}
        assert chat.usage.requests == 9 and chat.usage.cache_hits == 9 and chat.usage.failures == 0


def test_cost_is_tokens_times_prices_and_cached_replies_are_free() -> None:
    with endpoint(echo) as server:
        chat = client(server, price_in=2.0, price_out=5.0)
        for _ in range(3):
            chat.complete(said("hello"))
        usage = chat.usage
    assert (usage.requests, usage.cache_hits, usage.prompt_tokens, usage.completion_tokens) == (1, 2, 100, 10)
    assert usage.cost == pytest.approx((100 * 2 + 10 * 5) / 1e6)


@pytest.mark.parametrize("usage", [None, "many", {"prompt_tokens": "7", "completion_tokens": -4}])
def test_wrong_usage_counts_nothing(usage: Any) -> None:
    raw = json.dumps(
        {"choices": [{"message": {"content": [{"type": "text", "text": "in parts"}]}}], "usage": usage}
    ).encode()
    with endpoint(lambda *_: Response(raw=raw)) as server:
        chat = client(server)
        assert chat.complete(said("x")) == "in parts"
        assert chat.usage.prompt_tokens == chat.usage.completion_tokens == 0


def test_requests_share_connections() -> None:
    with endpoint(lambda body, number: Response(echo(body, number), delay_s=0.02)) as server:
        chat = client(server, concurrency=2)
        chat.complete_many([said(str(index)) for index in range(8)])
        chat.complete(said("later"))
        assert len(server.peers) <= 2


def test_a_schema_is_sent_and_where_it_is_not_accepted_written_out() -> None:
    def strict(body: Body, number: int) -> Response:
        return (
            Response("response_format is unknown", status=400)
            if "response_format" in body
            else Response('{"value": 3}')
        )

    with endpoint(strict) as server:
        chat = client(server)
        messages = [{"role": "system", "content": "count"}, *said("x")]
        assert chat.complete(messages, schema=Number) == Number(value=3)
        assert chat.complete([messages[0], *said("y")], schema=Number) == Number(value=3)
        first, second, third = server.bodies
    assert (
        first["response_format"]["json_schema"]["schema"] == Number.model_json_schema()
        and first["messages"] == messages
    )
    for plain in (second, third):  # what is not accepted is remembered
        assert plain["messages"][0]["content"].startswith("count\n\n") and '"value"' in plain["messages"][0]["content"]
        assert len(plain["messages"]) == 2


def test_newer_endpoints_parameters_are_found_out() -> None:
    def picky(body: Body, number: int) -> Response:
        if "max_tokens" in body:
            return Response("use 'max_completion_tokens' instead of max_tokens", status=400)
        if "temperature" in body:
            return Response("'temperature' does not support 0.0 with this model", status=400)
        return Response("fine")

    with endpoint(picky) as server:
        chat = client(server)
        assert chat.complete(said("x"), max_tokens=9) == "fine"
        chat.complete(said("y"))
    assert len(server.bodies) == 4 and server.bodies[2]["max_completion_tokens"] == 9


@pytest.mark.parametrize("content", ["look", [{"type": "text", "text": "look"}]])
@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "complaint", ["System role not supported", "Conversation roles must alternate user/assistant", "no system message"]
)
def test_a_model_without_a_system_role_gets_the_instruction_from_the_user(
    content: Any, status: int, complaint: str
) -> None:
    def simple(body: Body, number: int) -> Response:
        return Response(complaint, status=status) if body["messages"][0]["role"] == "system" else Response("fine")

    with endpoint(simple) as server:
        chat = client(server, max_retries=0)
        for text in ("grade", "judge"):
            messages = [{"role": "system", "content": text}, {"role": "user", "content": content}]
            assert chat.complete(messages) == "fine"
        assert len(server.bodies) == 3, "that it takes no system role is remembered"
        (only,) = server.bodies[2]["messages"]
        assert only["role"] == "user"
        parts = [only["content"]] if isinstance(content, str) else [part["text"] for part in only["content"]]
        assert "\n\n".join(parts) == "judge\n\nlook"


@pytest.mark.parametrize(
    "text",
    [
        '{"value": 7}',
        '{"value": 7}\n\n```json\n{"value": 7}\n```',
        'not {"value": 1}, rather\n</think>\n{"value": 7}',
        '<thinking>{"value": 1}?</thinking>{"value": 7}',
        '<seed:think>{"value": 1}?</seed:think>{"value": 7}',
        '[THINK]{"value": 1}?[/THINK]{"value": 7}',
        'Sure!\n```json\n{"value": 7}\n```',
        '<think>{"value": 1}?</think>{"value": 7}',
        'It {is} {"other": 1} and {"value": 7}.',
        '{"why": "one\nor\tmore", "value": 7}',
        '{"value": 7,}',
        '{"why": ["a,]", ",}",\n], "value": 7, }',
        '{"value": 7}\n</think>',
        '{"value": 7,}</think>',
        '<|channel|>analysis<|message|>{"value": 1}?<|end|><|start|>assistant<|channel|>final<|message|>{"value": 7}',
        '<|channel|>final <|constrain|>json<|message|>{"value": 7}<|return|>',
    ],
)
def test_the_object_is_found_in_what_surrounds_it(text: str) -> None:
    assert find_object(text, Number) == Number(value=7)


@pytest.mark.parametrize(
    "text",
    [
        "seven",
        "",
        '<think>is it {"value": 1}',
        'it is {"value": 1}\n</think>',
        '{"value": 1} or {"value": 1}\n</think>',
        '<think>{"value": 1}</think>',
        '<|channel|>analysis<|message|>{"value": 1}?<|end|>',
        '<|channel|>final<|message|>{"value": 1} or {"value": 2}<|return|>',
        '{"value": ,}',
        '{"value": "seven"}',
        '{"value": 1} {"value": 2}',
        '{"value": NaN}',
        '{"a":' * 5000,
        "[7]",
    ],
)
def test_other_replies_are_invalid_and_never_cached(text: str, tmp_path: Path) -> None:
    with endpoint(lambda *_: text) as server:
        chat = client(server, cache=str(tmp_path))
        for _ in range(2):
            (failure,) = chat.complete_many([said("x")], schema=Number)
            assert isinstance(failure, ChatFailure) and failure.kind == "invalid"
    assert len(server.bodies) == 2 and not list(tmp_path.rglob("*.json"))


def test_a_text_comes_without_the_thoughts_before_it() -> None:
    with endpoint(lambda body, _: body["messages"][-1]["content"]) as server:
        chat = client(server)
        assert chat.complete(said("<think>blue? no</think>\n\nred")) == "\n\nred"
        assert chat.complete(said("<think>is it blue")) == ""


def test_a_cut_text_is_a_failure_where_the_whole_is_asked_for() -> None:
    choice = {"message": {"content": "half of"}, "finish_reason": "length"}
    with endpoint(lambda *_: Response(raw=json.dumps({"choices": [choice]}).encode())) as server:
        assert client(server).complete_many([said("x")]) == ["half of"]
        (failure,) = client(server).complete_many([said("x")], whole=True)
    assert isinstance(failure, ChatFailure) and "judge.max_tokens" in failure.message


def test_a_reply_may_begin_with_a_byte_order_mark() -> None:
    raw = b"\xef\xbb\xbf" + Response("fine").body()
    with endpoint(lambda *_: Response(raw=raw)) as server:
        assert client(server).complete(said("x")) == "fine"


def test_an_empty_text_is_an_answer_but_not_kept(tmp_path: Path) -> None:
    with endpoint(lambda *_: Response(None)) as server:
        chat = client(server, cache=str(tmp_path))
        assert chat.complete(said("x")) == chat.complete(said("x")) == "" and len(server.bodies) == 2


@pytest.mark.parametrize(
    "response",
    [
        Response(None, message={"refusal": "no faces"}),
        Response("I'm sorry, but I can't help with identifying people."),
        Response(
            raw=json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}).encode()
        ),
    ],
)
def test_refusals_are_told_apart(response: Response) -> None:
    with endpoint(lambda *_: response) as server:
        (failure,) = client(server).complete_many([said("x")], schema=Number)
    assert isinstance(failure, ChatFailure) and failure.kind == "refused"


def test_pictures_are_sent_small_and_without_their_metadata() -> None:
    image = Image.new("RGBA", (800, 400), (255, 0, 0, 255))
    image.info["Comment"] = "at home, 52.1 N"
    raw = base64.b64decode(image_part(image, 200)["image_url"]["url"].partition(",")[2])
    sent = Image.open(io.BytesIO(raw))
    assert sent.size == (200, 100) and sent.mode == "RGB" and not sent.info and b"home" not in raw
