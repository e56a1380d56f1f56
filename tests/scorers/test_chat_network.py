"""Certificates and proxies that the environment names, in front of real HTTP and HTTPS servers."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from sync_r1.scorers.chat.client import ChatClient
from sync_r1.scorers.chat.endpoint import ChatFailure
from tests.scorers.fake_endpoint import config, endpoint
from tests.scorers.test_chat import echo, said

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def authority(tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """The file of a private certificate authority, and the context of a server on this machine that it vouches for."""
    private = trustme.CA()
    private.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return str(tmp_path / "authority.pem"), context


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_private_authority_is_trusted_on_this_machine_and_its_proxy_is_not_used(
    host: str, authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", DEAD)
    with endpoint(echo, certificate=authority[1]) as server:
        url = server.url.replace("127.0.0.1", host)
        (failure,) = ChatClient(config(url, max_retries=0)).complete_many([said("x")])
        assert isinstance(failure, ChatFailure) and "certificate verify failed" in failure.message
        assert "name that one's PEM file in SSL_CERT_FILE" in failure.message
        monkeypatch.setenv("SSL_CERT_FILE", authority[0])
        assert ChatClient(config(url)).complete(said("x")) == "you said x"


def test_other_machines_are_asked_through_the_proxy_also_with_a_private_authority(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority[0])
    with endpoint(echo) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        assert ChatClient(config("http://judge.example:81/v1")).complete(said("x")) == "you said x"
        assert proxy.paths == ["http://judge.example:81/v1/chat/completions"]


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("none.pem", "empty.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        with pytest.raises(ValueError, match=f"SSL_CERT_FILE is .*{name}"):
            ChatClient(config("https://judge.example/v1"))
