"""What the chat client keeps of replies, and how it keeps its key."""

from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path

import pytest
from PIL import Image

from sync_r1.config import JudgeConfig
from sync_r1.scorers.chat.client import ChatClient, image_part
from tests.scorers.fake_endpoint import KEY, Body, Number, Response, client, config, echo, endpoint, said


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
