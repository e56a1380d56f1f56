"""Who may open the studio, and that nothing outside its folder can be had through it."""

from __future__ import annotations

import base64
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from sync_r1.apps.studio import StudioFolder
from tests.serve.serving import running

pytest.importorskip("gradio", reason='the studio is not installed: pip install "sync-r1[studio]"')

PASSWORD = "a long password"


def studio_at(folder: Path, users: Any = None) -> Any:
    from sync_r1.app.server import create_studio, options_of

    place = StudioFolder(folder / "studio", folder / "runs")
    options = options_of("127.0.0.1", 0, [], users, 60.0, place.feedback)
    return running(create_studio(place, options, users), options)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with studio_at(tmp_path_factory.mktemp("open")) as server:
        yield server.url


def test_every_screen_has_an_address_and_careful_headers(address: str) -> None:
    from sync_r1.app.parts import PAGES

    for path, _ in PAGES.values():
        reply = httpx2.get(f"{address}{path}", timeout=60)
        assert reply.status_code == 200 and "text/html" in reply.headers["content-type"], path
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
        assert reply.headers["x-frame-options"] == "DENY" and reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
    assert httpx2.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{address}/v1/models").json() == {"object": "list", "data": []}


def test_pages_of_other_sites_and_other_hosts_are_refused(address: str) -> None:
    assert httpx2.get(address, headers={"Host": "evil.example"}).status_code == 400
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        reply = httpx2.post(f"{address}/gradio_api/upload", files={"files": b"x"}, headers=headers)
        assert reply.status_code == 403 and "access-control-allow-origin" not in reply.headers, headers
    assert "access-control-allow-origin" not in httpx2.get(address, headers={"Origin": "https://evil.example"}).headers


def test_no_file_outside_is_given_away(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cr3t words")
    for name in (
        "/etc/passwd",
        str(secret),
        f"{Path.cwd()}/pyproject.toml",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
    ):
        reply = httpx2.get(f"{address}/gradio_api/file={name}", timeout=60)
        assert 400 <= reply.status_code < 500, (name, reply.status_code)
        assert "s3cr3t" not in reply.text and "root:" not in reply.text


def test_uploads_are_bounded(address: str) -> None:
    reply = httpx2.post(f"{address}/gradio_api/upload", files={"files": b"x" * (21 << 20)}, timeout=60)
    assert reply.status_code in (400, 413)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    reply = httpx2.post(f"{address}/gradio_api/upload", files={"files": ("a.png", picture.getvalue())}, timeout=60)
    assert reply.status_code == 200 and "temporary" in reply.json()[0], "uploads lie in the studio's folder"


def test_a_body_that_is_no_text_is_refused(address: str) -> None:
    for path in ("cancel", "queue/join", "run/predict", "component_server", "upload"):
        for kind in ("multipart/form-data; boundary=mark", "application/json"):
            content = b"--mark\r\n" + bytes(range(256))
            reply = httpx2.post(
                f"{address}/gradio_api/{path}", content=content, headers={"Content-Type": kind}, timeout=60
            )
            assert 400 <= reply.status_code < 500, (path, kind, reply.text)


def test_calls_that_no_page_makes_are_refused(address: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"fn_index": -1, "data": [], "session_hash": "a"},
        {"fn_index": 10**6, "data": [], "session_hash": "a"},
        {"fn_index": 0, "data": [{"path": "/etc/passwd"}] * 9, "session_hash": ""},
        {"fn_index": 3, "data": ["x"], "session_hash": "../x", "event_data": {"index": 10**9}},
        {"data": [], "session_hash": "a"},
    ]
    for path in ("queue/join", "run/predict", "call/x", "api/predict"):
        for body in bodies:
            reply = httpx2.post(f"{address}/gradio_api/{path}", json=body, timeout=60)
            assert reply.status_code < 500, (path, body, reply.text)
            assert path == "queue/join" or reply.status_code == 404


def test_handlers_cannot_be_called_by_name(address: str) -> None:
    shown = httpx2.get(f"{address}/gradio_api/info", timeout=60)
    assert shown.status_code in (404, 403) or shown.json()["named_endpoints"] == {}


def test_beyond_this_machine_users_are_needed(tmp_path: Path) -> None:
    from sync_r1.app.server import options_of
    from sync_r1.app.users import Users, add_user

    with pytest.raises(ValueError, match="lets other machines see your things"):
        options_of("0.0.0.0", 0, [], None, 60.0, tmp_path)
    file = tmp_path / "users.json"
    with pytest.raises(ValueError, match="no such file"):
        Users(file)
    with pytest.raises(ValueError, match="at least 10"):
        add_user(file, "mia", "short")
    with pytest.raises(ValueError, match="the user name is"):
        add_user(file, "mia:x", PASSWORD)
    add_user(file, "mia", PASSWORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and PASSWORD not in file.read_text()
    assert options_of("0.0.0.0", 0, [], Users(file), 60.0, tmp_path).protected
    os.chmod(file, 0o644)
    with pytest.raises(ValueError, match="can be read by others"):
        Users(file)


def test_with_users_nothing_is_open_without_a_password(tmp_path: Path) -> None:
    from sync_r1.app.users import Users, add_user

    file = tmp_path / "users.json"
    add_user(file, "mia", PASSWORD)
    with studio_at(tmp_path, Users(file)) as server:
        right = base64.b64encode(f"mia:{PASSWORD}".encode()).decode()
        wrong = base64.b64encode(b"mia:wrong password").decode()
        for header in ("", f"Basic {wrong}", "Basic !", f"Bearer {right}", "Basic " + base64.b64encode(b"x").decode()):
            for path in ("/", "/train", "/v1/models", "/gradio_api/info", "/config", "/theme.css"):
                reply = httpx2.get(f"{server.url}{path}", headers={"Authorization": header} if header else {})
                assert reply.status_code == 401 and "Basic" in reply.headers["www-authenticate"], (header, path)
        assert httpx2.get(server.url, headers={"Authorization": f"Basic {right}"}).status_code == 200
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
