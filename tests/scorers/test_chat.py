"""The chat client against real HTTP servers: what it sends, what it endures, what it never gives away."""

from __future__ import annotations

import base64
import io
import json
import logging
import multiprocessing
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.client import ChatClient, ChatError, find_object, image_part
from sync_r1.scorers.chat.endpoint import ChatFailure, base_url
from tests.scorers.fake_endpoint import Body, FakeEndpoint, Response, config, endpoint

KEY = "sk-very-secret-0123456789"


class Number(BaseModel):
    value: int


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def client(server: FakeEndpoint | str, **changes: Any) -> ChatClient:
    return ChatClient(config(server, **changes))


def echo(body: Body, _: int) -> str:
    return f"you said {body['messages'][-1]['content']}"


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


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_passing_trouble_is_retried(status: int) -> None:
    with endpoint(lambda body, number: Response(status=status) if number < 3 else Response("at last")) as server:
        chat = client(server)
        assert chat.complete(said("x")) == "at last"
    assert chat.usage.retries == 3 and chat.usage.requests == 4


def test_a_lost_connection_is_retried_after_a_growing_wait() -> None:
    times: list[float] = []

    def drops(body: Body, number: int) -> Response:
        times.append(time.monotonic())
        return Response(hang_up=True) if number < 2 else Response("at last")

    with endpoint(drops) as server:
        chat = client(server)
        assert chat.complete(said("x")) == "at last" and chat.usage.retries == 2
    assert times[1] - times[0] > 0.3 and times[2] - times[1] > 0.7


@pytest.mark.parametrize("header", [{"Retry-After": "0.3"}, {"Retry-After-Ms": "300"}])
def test_the_server_says_how_long_to_wait(header: dict[str, str]) -> None:
    with endpoint(lambda body, number: Response(status=429, headers=header) if number < 1 else Response("x")) as server:
        started = time.monotonic()
        client(server).complete(said("x"))
        assert 0.3 <= time.monotonic() - started < 2


@pytest.mark.parametrize("wait", ["121", "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_too_long_a_wait_is_a_failure(wait: str) -> None:
    with endpoint(lambda *_: Response(status=429, headers={"Retry-After": wait})) as server:
        (failure,) = client(server).complete_many([said("x")])
    assert isinstance(failure, ChatFailure) and failure.kind == "unavailable" and len(server.bodies) == 1
    assert f"1 try, and asks to wait ({wait})" in failure.message


@pytest.mark.parametrize("status", [307, 308])
def test_a_request_follows_a_server_that_moved_but_its_key_stays_at_home(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_R1_JUDGE_KEY", KEY)

    def moved_within(body: Body, number: int) -> Response:
        return Response(status=status, headers={"Location": "/v2/chat"}) if number < 1 else Response(echo(body, 0))

    with endpoint(moved_within) as server:
        assert client(server).complete(said("x")) == "you said x"
        assert server.paths == ["/v1/chat/completions", "/v2/chat"] and server.bodies[0] == server.bodies[1]
        assert server.headers[1]["Authorization"] == f"Bearer {KEY}"
    with (
        endpoint(echo) as new,
        endpoint(lambda *_: Response(status=status, headers={"Location": f"{new.url}/chat/completions"})) as old,
    ):
        assert client(old).complete(said("x")) == "you said x"
        assert "Authorization" in old.headers[0] and "Authorization" not in new.headers[0]


def test_redirects_that_never_end_or_drop_the_request_are_not_followed() -> None:
    with endpoint(lambda *_: Response(status=308, headers={"Location": "/again"})) as server:
        (failure,) = client(server).complete_many([said("x")])
        assert isinstance(failure, ChatFailure) and failure.kind == "rejected" and len(server.bodies) == 6
    with endpoint(lambda *_: Response(status=302, headers={"Location": "https://h/login"})) as server:
        (failure,) = client(server).complete_many([said("x")])
        assert isinstance(failure, ChatFailure) and "it redirects to https://h/login" in failure.message
        assert len(server.bodies) == 1


def test_requests_share_connections() -> None:
    with endpoint(lambda body, number: Response(echo(body, number), delay_s=0.02)) as server:
        chat = client(server, concurrency=2)
        chat.complete_many([said(str(index)) for index in range(8)])
        chat.complete(said("later"))
        assert len(server.peers) <= 2


def test_retries_end(tmp_path: Path) -> None:
    with endpoint(lambda *_: Response("overloaded", status=503)) as server:
        chat = client(server, max_retries=2, cache=str(tmp_path))
        with pytest.raises(ChatError, match="no reply in 3 tries: 503 overloaded"):
            chat.complete(said("x"))
    assert len(server.bodies) == 3 and chat.usage.failures == 1 and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "denied"), (403, "denied"), (404, "denied"), (413, "rejected"), (400, "rejected")]
)
def test_lasting_trouble_is_never_retried(status: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(lambda *_: Response(status=status)) as server:
        chat = client(server)
        (failure,) = chat.complete_many([said("x")])
    assert isinstance(failure, ChatFailure) and failure.kind == kind and len(server.bodies) == 1
    if status == 404:
        assert server.url in failure.message and "eyes-1" in failure.message
    if status in (401, 403):
        assert "SYNC_R1_JUDGE_KEY is not set" in failure.message


def test_failures_are_values_and_the_rest_of_the_batch_is_answered() -> None:
    def moody(body: Body, number: int) -> Response:
        text = body["messages"][-1]["content"]
        return Response(status=400) if text == "bad" else Response(text)

    with endpoint(moody) as server:
        answers = client(server).complete_many([said(text) for text in ("a", "bad", "c")])
    assert [answer if isinstance(answer, str) else answer.kind for answer in answers] == ["a", "rejected", "c"]  # type: ignore[union-attr]


def test_thirty_percent_failures_cost_retries_not_answers() -> None:
    seen: Counter[str] = Counter()

    def flaky(body: Body, number: int) -> Response:
        text = body["messages"][-1]["content"]
        seen[text] += 1
        broken = hash((int(text) * 7919 + seen[text] * 104729) % 1009) % 10 < 3
        return Response(status=503) if broken else Response(text)

    with endpoint(flaky) as server:
        chat = client(server, max_retries=8)
        texts = [str(index) for index in range(100)]
        assert chat.complete_many([said(text) for text in texts]) == texts
        assert 15 < chat.usage.retries < 90 and chat.usage.failures == 0


@pytest.mark.parametrize("drip", [False, True])
def test_a_slow_server_times_out_even_when_it_drips(drip: bool) -> None:
    with endpoint(lambda *_: Response("x" * 500, delay_s=0 if drip else 1.5, drip=drip)) as server:
        chat = client(server, timeout_s=0.3, max_retries=1)
        started = time.monotonic()
        with pytest.raises(ChatError, match=r"2 tries: nothing within 0\.3 s"):
            chat.complete(said("x"))
        assert time.monotonic() - started < 2  # 0.3 s, a wait of 0.5 s at most, 0.3 s


def test_a_dead_endpoint_costs_the_later_requests_one_try_each_until_it_is_back() -> None:
    with endpoint(echo) as gone:
        port = gone.server_address[1]
    chat = client(f"http://127.0.0.1:{port}/v1", max_retries=1, concurrency=1)
    answers = chat.complete_many([said(str(index)) for index in range(10)])
    assert all(isinstance(answer, ChatFailure) and answer.kind == "unavailable" for answer in answers)
    assert chat.usage.requests == 2 + 9
    with endpoint(lambda body, number: Response(hang_up=True) if number == 1 else Response("back"), port):
        assert chat.complete_many([said("a"), said("b")]) == ["back"] * 2 and chat.usage.retries == 1 + 1


def test_a_judge_that_goes_down_in_mid_batch_leaves_what_it_said(tmp_path: Path) -> None:
    with endpoint(
        lambda body, number: Response(echo(body, number)) if number < 4 else Response(hang_up=True)
    ) as server:
        chat = client(server, concurrency=1, max_retries=1, cache=str(tmp_path))
        answers = chat.complete_many([said(str(index)) for index in range(8)])
        assert [isinstance(answer, str) for answer in answers] == [True] * 4 + [False] * 4
        server.reply = echo
        assert chat.complete_many([said(str(index)) for index in range(8)]) == [
            f"you said {index}" for index in range(8)
        ]
        assert chat.usage.cache_hits == 4


@pytest.mark.parametrize(
    "raw", [b"<html>proxy login</html>", b"", b"[]", b'{"choices": []}', b"[" * 100_000, b'{"error": {"code": "x"}}']
)
def test_a_body_that_is_no_completion_is_retried_then_given_up(raw: bytes) -> None:
    with endpoint(lambda *_: Response(raw=raw)) as server:
        chat = client(server, max_retries=1)
        (failure,) = chat.complete_many([said("x")])
    assert isinstance(failure, ChatFailure) and failure.kind == "unavailable" and len(server.bodies) == 2


def test_an_endless_body_is_cut_off() -> None:
    with endpoint(lambda *_: Response(raw=b"x" * (5 << 20))) as server:
        (failure,) = client(server).complete_many([said("x")])
    assert isinstance(failure, ChatFailure) and "4 MiB" in failure.message


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


def test_the_cache_is_keyed_by_content_not_by_url(tmp_path: Path) -> None:
    picture = [image_part(Image.new("RGB", (4, 4), color)) for color in ("red", "blue")]
    with endpoint(echo) as first, endpoint(echo) as second:
        client(first, cache=str(tmp_path)).complete(said("x"))
        other = client(second, cache=str(tmp_path))
        other.complete(said("x"))
        assert other.usage.requests == 0 and other.usage.cache_hits == 1
        changed = [
            lambda: client(second, cache=str(tmp_path), model="eyes-2").complete(said("x")),
            lambda: client(second, cache=str(tmp_path), temperature=1.0).complete(said("x")),
            lambda: ChatClient(config(second, cache=str(tmp_path)), version="2").complete(said("x")),
            lambda: other.complete(said("x"), max_tokens=5),
            lambda: other.complete([{"role": "user", "content": [picture[0]]}]),
            lambda: other.complete([{"role": "user", "content": [picture[1]]}]),
        ]
        for number, ask in enumerate(changed, 1):
            ask()
            assert len(second.bodies) == number


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"key": "other", "reply": "x"}', b"\xff\xfe", b'{"reply": 5}'])
def test_a_damaged_entry_is_redone(damage: bytes, tmp_path: Path) -> None:
    with endpoint(lambda *_: '{"value": 1}') as server:
        client(server, cache=str(tmp_path)).complete(said("x"), schema=Number)
        (entry,) = tmp_path.rglob("*.json")
        entry.write_bytes(damage)
        for requests in (1, 0):
            chat = client(server, cache=str(tmp_path))
            assert chat.complete(said("x"), schema=Number) == Number(value=1) and chat.usage.requests == requests


def _ask_all(url: str, folder: str) -> None:
    chat = ChatClient(config(url, cache=folder))
    assert chat.complete_many([said(str(index)) for index in range(30)]) == [f"you said {index}" for index in range(30)]


def test_processes_share_a_cache(tmp_path: Path) -> None:
    with endpoint(echo) as server:
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_ask_all, args=(server.url, str(tmp_path))) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        chat = client(server, cache=str(tmp_path))
        chat.complete_many([said(str(index)) for index in range(30)])
    assert chat.usage.requests == 0 and len(list(tmp_path.rglob("*"))) - len(list(tmp_path.iterdir())) == 30, (
        "no partial file is left"
    )


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with endpoint(echo) as server:
        chat = client(server, cache=str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="replies are not cached"):
            assert chat.complete(said("x")) == "you said x"


def test_the_key_goes_into_the_header_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    caplog.set_level(logging.DEBUG)

    def leaky(body: Body, number: int) -> Response:
        text = body["messages"][-1]["content"]
        statuses = {"denied": 401, "rejected": 400, "gone": 404, "down": 503}
        return Response(f"your key is {KEY}, you said {text}", status=statuses.get(text, 200))

    with endpoint(leaky) as server:
        chat = client(server, key_env="MY_KEY", cache=str(tmp_path), max_retries=0)
        answers = chat.complete_many([said(text) for text in ("fine", "denied", "rejected", "gone", "down")])
        assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
        assert KEY not in json.dumps(server.bodies)
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert written and "your key is ***" in written
    for text in (repr(answers), written, repr(chat), str(vars(chat)), caplog.text):
        assert KEY not in text
    assert "check the key in MY_KEY" in repr(answers)


def test_what_variables_for_other_services_hold_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_R1_JUDGE_KEY", raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Own: {KEY}")
    with endpoint(echo) as server:
        client(server).complete(said("x"))
        assert KEY not in repr(server.headers)


def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-café secret")
    with pytest.raises(ValueError, match="MY_KEY holds a key with spaces") as caught:
        ChatClient(config("http://h", key_env="MY_KEY"))
    assert "caf" not in str(caught.value)


def test_no_key_sends_no_header_and_no_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_R1_JUDGE_KEY", raising=False)
    with endpoint(echo) as server:
        client(server).complete(said("x \ud800 lone surrogate"))
        assert "Authorization" not in server.headers[0]
    with pytest.raises(ValueError, match=r"judge\.model is empty"):
        ChatClient(JudgeConfig(url="http://h"))


def test_pictures_are_sent_small_and_without_their_metadata() -> None:
    image = Image.new("RGBA", (800, 400), (255, 0, 0, 255))
    image.info["Comment"] = "at home, 52.1 N"
    raw = base64.b64decode(image_part(image, 200)["image_url"]["url"].partition(",")[2])
    sent = Image.open(io.BytesIO(raw))
    assert sent.size == (200, 100) and sent.mode == "RGB" and not sent.info and b"home" not in raw
