"""What the chat client endures: errors that pass or last, redirects, slow and dead endpoints, broken bodies."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from sync_r1.scorers.chat.client import ChatError
from sync_r1.scorers.chat.endpoint import ChatFailure
from tests.scorers.fake_endpoint import KEY, Body, Response, client, echo, endpoint, said


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
