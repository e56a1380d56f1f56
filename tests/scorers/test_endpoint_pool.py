"""Several judges over real HTTP: dealt in turn, and none of them needed."""

from __future__ import annotations

from typing import Any

import pytest

from sync_r1.scorers.chat.client import ChatClient
from sync_r1.scorers.chat.endpoint import ChatFailure
from sync_r1.scorers.judge import RemoteJudge
from tests.scorers.fake_endpoint import Response, config, endpoint
from tests.scorers.test_chat import echo, said

DEAD = "http://127.0.0.1:9/v1"


def client(*urls: str, **changes: Any) -> ChatClient:
    return ChatClient(config(" , ".join(urls), **changes))


def test_requests_are_dealt_in_turn_and_each_server_has_its_own_limit() -> None:
    slow = Response("fine", delay_s=0.1)
    with endpoint(lambda *_: slow) as first, endpoint(lambda *_: slow) as second:
        chat = client(first.url, second.url, concurrency=2)
        assert chat.complete_many([said(str(number)) for number in range(8)]) == ["fine"] * 8
        assert len(first.bodies) == len(second.bodies) == 4
        assert first.most_busy == second.most_busy == 2
        assert chat.usage.requests == 8 and chat.usage.completion_tokens == 80


def test_processes_of_a_launch_begin_with_different_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(echo) as first, endpoint(echo) as second:
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            client(first.url, second.url).complete(said(rank))
        assert len(first.bodies) == len(second.bodies) == 1


@pytest.mark.parametrize(
    "failure", [Response("overloaded", status=503), Response(hang_up=True), Response("no such model", status=404), None]
)
def test_one_that_fails_hands_its_requests_on_without_waiting_and_rests(failure: Response | None) -> None:
    with endpoint(lambda *_: failure or Response()) as broken, endpoint(echo) as works:
        chat = client(broken.url if failure else DEAD, works.url, concurrency=1)
        answers = chat.complete_many([said(str(number)) for number in range(6)])
        assert all(isinstance(answer, str) for answer in answers) and chat.usage.retries == 0
        assert len(works.bodies) == 6 and len(broken.bodies) <= 2, (
            "asked by the two requests in flight, then left alone"
        )


def test_when_all_fail_one_is_asked_again_with_backoff() -> None:
    with endpoint(
        lambda body, number: Response("busy", status=429) if number < 2 else Response(echo(body, number))
    ) as busy:
        chat = client(busy.url, DEAD)
        assert isinstance(chat.complete(said("a")), str)
        assert chat.usage.retries == 1
    chat = client(DEAD, "http://127.0.0.1:19/v1", max_retries=0)
    (answer,) = chat.complete_many([said("b")])
    assert isinstance(answer, ChatFailure) and answer.kind == "unavailable"


def test_a_request_that_is_not_accepted_is_not_tried_elsewhere() -> None:
    with endpoint(lambda *_: Response("too long", status=413)) as first, endpoint(echo) as second:
        (answer,) = client(first.url, second.url).complete_many([said("a")])
        assert isinstance(answer, ChatFailure) and answer.kind == "rejected" and not second.bodies


def test_names_and_mistakes() -> None:
    assert RemoteJudge(config("http://a:1/v1,http://b:1/v1,http://a:2/v1")).name.startswith("eyes-1 at a + b ")
    with pytest.raises(ValueError, match="listed twice"):
        client(DEAD, DEAD)
    with pytest.raises(ValueError, match="write it like"):
        client(DEAD, "localhost:8000")
