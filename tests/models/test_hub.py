"""Downloads from a hub over real HTTP: one copy of the weights, small files only for a tokenizer, one-line errors."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from sync_r1.models.hub import fetch

COMMIT = "b" * 40
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "README.md": b"read me",
    "model.safetensors": b"the weights",
    "pytorch_model.bin": b"the same weights again",
    "pytorch_model.safetensors": b"and again",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a snapshot needs."""

    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "some/show-o" not in path:
            return self.answer(
                b'{"error": "Repository not found"}', status=404, headers={"X-Error-Code": "RepoNotFound"}
            )
        if "/resolve/" in path:
            name = path.rsplit("/", 1)[1]
            if self.command == "GET":
                self.asked.append(name)
            return self.answer(
                FILES[name], headers={"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(FILES[name]).hexdigest()}"'}
            )
        files = [
            {"type": "file", "path": name, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}
            for name, data in FILES.items()
        ]
        siblings = [{"rfilename": name} for name in FILES]
        about = {"id": "some/show-o", "modelId": "some/show-o", "sha": COMMIT, "siblings": siblings, "private": False}
        self.answer(json.dumps(files if "/tree/" in path else about).encode())

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Names of the files that were downloaded."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    Hub.asked.clear()
    yield Hub.asked
    server.shutdown()


def test_one_copy_of_the_weights_is_downloaded(hub: list[str]) -> None:
    folder = fetch("some/show-o")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert sorted(hub) == ["config.json", "model.safetensors", "tokenizer.json"]
    fetch("some/show-o")
    assert len(hub) == 3  # cached


def test_a_tokenizer_brings_no_weights(hub: list[str]) -> None:
    fetch("some/show-o", weights=False)
    assert sorted(hub) == ["config.json", "tokenizer.json"]


def test_an_unknown_repository_is_one_line(hub: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"some/typo is no folder here and could not be fetched .*pass its folder in place of the id"
    ) as caught:
        fetch("some/typo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["./show-o", "../show-o", ".cache/show-o", "/show-o"])
def test_a_path_that_is_missing_is_not_looked_for_on_the_hub(hub: list[str], path: str) -> None:
    with pytest.raises(ValueError, match=f"{path}: no such file or folder"):
        fetch(path)


def test_a_hub_that_is_gone_still_serves_the_cache(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("some/show-o")
    gone = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", gone + "/{repo_id}/resolve/{revision}/{filename}")
    assert fetch("some/show-o") == folder
    with pytest.raises(ValueError, match="could not be fetched"):
        fetch("some/other")


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "show-o").mkdir(parents=True)
    assert fetch("some/show-o") == Path("some/show-o")
