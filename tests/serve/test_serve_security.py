"""Who may ask, and that no body whatever makes the server fail."""

from __future__ import annotations

import http.client
import io
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from PIL import Image

from sync_r1.apps.feedback import Store
from sync_r1.serve import security
from sync_r1.serve.app import Server
from sync_r1.serve.options import MAX_BODY_BYTES, ServeOptions
from sync_r1.session import Session
from tests.helpers import benchmark
from tests.serve.serving import Fixed, client_of, serving

KEY = "0123456789abcdef0123"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "What is bo?"}], "max_tokens": 1}


def chat(server: Server, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/chat/completions", json=BODY, headers=headers, timeout=60)


def test_only_names_of_this_machine_are_answered(served: tuple[Server, FastAPI]) -> None:
    server, _ = served
    port = server.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert httpx2.get(f"{server.url}/v1/models", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "localhost.evil.example", ""):
        assert httpx2.get(f"{server.url}/v1/models", headers={"Host": host}).status_code == 400, host


def test_pages_of_other_sites_are_refused(served: tuple[Server, FastAPI]) -> None:
    server, _ = served
    assert chat(server).status_code == 200
    assert chat(server, **{"Origin": server.url, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    for origin in ("https://evil.example", "null", "http://localhost:1", "file://", "http://[", ""):
        reply = chat(server, Origin=origin)
        assert reply.status_code == 403 and reply.json()["error"]["code"] == "cross_site", origin
    assert chat(server, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert "access-control-allow-origin" not in chat(server).headers


def test_every_reply_tells_browsers_to_be_careful(served: tuple[Server, FastAPI]) -> None:
    for path in ("/healthz", "/v1/models", "/nosuch"):
        headers = httpx2.get(f"{served[0].url}{path}").headers
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert (
            headers["referrer-policy"] == "no-referrer" and "default-src 'none'" in headers["content-security-policy"]
        )


def test_a_key_is_asked_for_everywhere_but_health(session: Session) -> None:
    with serving(Fixed(tiny=session), key=KEY) as (server, _):
        assert client_of(server, key=KEY).models.list().data[0].id == "tiny"
        for key in ("none", KEY[:-1], KEY + "0"):
            with pytest.raises(openai.AuthenticationError, match="key is missing or wrong"):
                client_of(server, key=key).models.list()
        assert httpx2.get(f"{server.url}/healthz").json() == {"status": "ok"}
        for path in ("/metrics", "/openapi.json", "/v1/models", "/nosuch"):
            assert httpx2.get(f"{server.url}{path}").status_code == 401, path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_this_machine_a_key_is_needed(host: str) -> None:
    with pytest.raises(ValueError, match="lets other machines in, so a key is needed"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, key=KEY).key == KEY
    with pytest.raises(ValueError, match="at least 16"):
        ServeOptions(host=host, key="short")


def test_hosts_that_are_trusted() -> None:
    assert ServeOptions(host="0.0.0.0", key=KEY).trusted_hosts == ["*"]
    named = ServeOptions(host="0.0.0.0", key=KEY, allowed_hosts=("bo.example",)).trusted_hosts
    assert "bo.example" in named and "*" not in named
    assert "192.168.1.5" in ServeOptions(host="192.168.1.5", key=KEY).trusted_hosts
    assert "*" not in ServeOptions().trusted_hosts


def test_a_body_beyond_the_limit_is_not_read(served: tuple[Server, FastAPI]) -> None:
    server, _ = served
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", str(MAX_BODY_BYTES + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()

    def endless() -> Any:
        yield b'{"model": "'
        for _ in range(MAX_BODY_BYTES // (1 << 20) + 1):
            yield b"a" * (1 << 20)

    for path, kind in (
        ("/v1/chat/completions", "application/json"),
        ("/v1/images/edits", "multipart/form-data; boundary=a"),
    ):
        try:
            reply = httpx2.post(f"{server.url}{path}", content=endless(), headers={"Content-Type": kind}, timeout=60)
            assert reply.status_code in (400, 413), path
        except httpx2.TransportError:  # the server closed the connection while the body was being sent
            pass
    assert chat(server).status_code == 200


def test_a_body_that_comes_too_slowly_is_given_up(
    served: tuple[Server, FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "BODY_SECONDS", 0.3)
    server, _ = served
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"model": ')
    reply = connection.getresponse()
    assert reply.status == 408 and b"did not arrive" in reply.read()
    connection.close()


def test_large_pictures_are_refused_before_they_are_decoded(client: openai.OpenAI) -> None:
    hostile = benchmark("serve_hostile")
    for data, words in (
        (hostile.bomb(10_000, 10_000), "100.0 megapixels; the limit is 50"),
        (hostile.bomb(60_000, 60_000), "megapixels"),
        (b"x" * (20 << 20) + b"y", "20 MiB"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            client.images.edit(model="tiny", prompt="a photo of bo", image=("a.png", data))


def test_hostile_bodies_are_refused_and_the_server_goes_on(served: tuple[Server, FastAPI]) -> None:
    server, app = served
    hostile = benchmark("serve_hostile")
    found: Counter[int] = Counter()
    port = int(server.url.rpartition(":")[2])
    for number in range(350):
        request = hostile.hostile(number, "tiny")
        status = hostile.send("127.0.0.1", port, request)
        found[status] += 1
        assert 400 <= status < 500, (number, request.what, request.path, request.content[:300])
    assert len(found) >= 5, found
    assert chat(server).status_code == 200
    assert app.state.sync_r1.worker.alive


def test_metrics_count_requests_and_batches(served: tuple[Server, FastAPI]) -> None:
    server, _ = served
    chat(server)
    httpx2.get(f"{server.url}/nosuch/{'x' * 50}")
    text = httpx2.get(f"{server.url}/metrics").text
    assert 'sync_r1_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert 'path="other",status="404"' in text and "nosuch" not in text
    assert "sync_r1_batch_rows_bucket" in text and "sync_r1_waiting 0.0" in text


def test_the_description_names_the_routes_and_needs_no_other_host(served: tuple[Server, FastAPI]) -> None:
    server, _ = served
    paths = httpx2.get(f"{server.url}/openapi.json").json()["paths"]
    assert {"/v1/models", "/v1/chat/completions", "/v1/images/edits", "/sync-r1/why"} <= set(paths)
    assert httpx2.get(f"{server.url}/docs").status_code == 404


def test_recognise_rewrite_and_why(client: openai.OpenAI, session: Session, photo: Image.Image) -> None:
    import base64

    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    base = str(client.base_url).removesuffix("/v1/") + "/sync-r1/"

    def post(name: str, **body: Any) -> Any:
        reply = httpx2.post(base + name, json={"model": "tiny", **body}, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()

    wanted = session.recognitions([photo])[0]
    found = post("recognize", image=url)
    assert (found["present"], found["answer"]) == (wanted.present, wanted.answer)
    text = session.rewrite("bo with its treasure")
    assert post("rewrite", prompt="bo with its treasure") == {"text": text}
    credits = post("why", prompt="bo with its treasure", text="<bo> with a red hat")["credits"]
    assert [credit["fact"] for credit in credits] == session.concept.facts
    assert all(isinstance(credit["nats"], float) for credit in credits)
    seen = post("why", question="What is bo?", text="a dog", image=url)["credits"]
    assert seen[-1]["fact"] == "the picture"
    for body in ({"text": "a"}, {"text": "a", "prompt": "b", "question": "c"}, {"text": " ", "prompt": "b"}):
        reply = httpx2.post(base + "why", json={"model": "tiny", **body})
        assert reply.status_code == 400 and ("either prompt" in reply.text or "is empty" in reply.text)


def test_thumbs_are_kept_as_rate_keeps_them(session: Session, tmp_path: Path) -> None:
    with serving(Fixed(tiny=session), feedback=tmp_path) as (server, _):

        def rate(**body: Any) -> httpx2.Response:
            return httpx2.post(f"{server.url}/sync-r1/feedback", json={"model": "tiny", **body}, timeout=60)

        rewrite = {"prompt": "bo with its treasure", "text": "<bo> with a hat"}
        stored = rate(**rewrite, good=False, correction="bo with a flower").json()["stored"]
        assert [(event["text"], event["good"]) for event in stored] == [
            ("<bo> with a hat", False),
            ("<bo> with a flower", True),
        ]
        assert rate(question="What is bo?", text="a dog", good=True).status_code == 200
        events = Store.of("bo", tmp_path).events()
        assert [event.what for event in events] == ["rewrite", "rewrite", "answer"]
        for body, words in (
            ({**rewrite, "good": True, "correction": "a"}, "is not good"),
            ({"question": "a", "text": "b", "good": False, "correction": "a"}, "is not good"),
            ({**rewrite, "good": "perhaps"}, "good"),
            ({**rewrite}, "good"),
        ):
            reply = rate(**body)
            assert reply.status_code == 400 and words in reply.text
        assert len(Store.of("bo", tmp_path).events()) == 3
