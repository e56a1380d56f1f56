"""Replies and manifests that used to end in an error of another kind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sync_r1.files import MANIFEST, manifest_problems
from sync_r1.scorers.chat.client import ChatClient
from sync_r1.scorers.chat.endpoint import ChatFailure
from tests.fuzz.judge_target import HostileServer
from tests.scorers.fake_endpoint import Response, config, endpoint


@pytest.mark.parametrize("header", ["²", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "9" * 400])
def test_an_odd_retry_after_is_a_failure_not_a_crash(header: str) -> None:
    odd = {"Retry-After": header}
    with endpoint(lambda body, number: Response("busy", status=503, headers=odd)) as server:
        client = ChatClient(config(server, max_retries=0))
        (answer,) = client.complete_many([[{"role": "user", "content": "hi"}]])
    assert getattr(answer, "kind", None) == "unavailable"


@pytest.mark.parametrize("tokens", [10**400, True, -1, "9"])
def test_odd_token_counts_are_not_charged(tokens: Any) -> None:
    raw = json.dumps({"choices": [{"message": {"content": "fine"}}], "usage": {"prompt_tokens": tokens}}).encode()
    with endpoint(lambda body, number: Response(raw=raw)) as server:
        client = ChatClient(config(server, price_in=1.0))
        assert client.complete([{"role": "user", "content": "hi"}]) == "fine"
    assert client.usage.prompt_tokens == 0 and client.usage.cost == 0


@pytest.mark.parametrize(
    "text", ['{"files": {"a": {"sha256": "x"}}}', "[" * 50_000, '{"files": {"a": {"sha256": "x", "bytes": "1"}}}']
)
def test_a_manifest_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").touch()
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is not a manifest"):
        manifest_problems(tmp_path)


def test_a_manifest_may_list_names_that_no_file_has(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {"a" * 3000: {"sha256": "x", "bytes": 1}}}))
    assert manifest_problems(tmp_path)[0].endswith("is missing")


@pytest.mark.parametrize("drip", [b"HTTP/1.1 100 Continue\r\n\r\n", b"a"])
def test_drips_do_not_outlast_the_timeout(tmp_path: Path, drip: bytes) -> None:
    server = HostileServer()
    server.pieces = [(b"" if drip[:1] == b"H" else b"HTTP/1.1 200 OK\r\n", 0), *[(drip, 0.05)] * 200]
    client = ChatClient(config(f"http://127.0.0.1:{server.port}/v1", max_retries=0, timeout_s=0.3))
    started = time.monotonic()
    (answer,) = client.complete_many([[{"role": "user", "content": "hi"}]])
    server.listener.close()
    assert isinstance(answer, ChatFailure) and "nothing within 0.3 s" in answer.message
    assert time.monotonic() - started < 5  # the drips take ten seconds


def test_an_encoded_reply_is_not_expanded() -> None:
    with endpoint(lambda body, number: Response("hi", headers={"Content-Encoding": "gzip, gzip"})) as server:
        client = ChatClient(config(server, max_retries=0))
        (answer,) = client.complete_many([[{"role": "user", "content": "hi"}]])
        assert server.headers[0]["Accept-Encoding"] == "identity"
    assert isinstance(answer, ChatFailure) and "its reply is encoded (gzip, gzip)" in answer.message
