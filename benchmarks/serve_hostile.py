"""Requests that a server must refuse: every one of them is wrong in a way that must give 4xx, and none may give 5xx."""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

JSON_PATHS = (
    "/v1/chat/completions",
    "/v1/images/generations",
    "/sync-r1/recognize",
    "/sync-r1/rewrite",
    "/sync-r1/why",
)
FORM_PATHS = ("/v1/images/edits", "/v1/images/variations")
QUESTION = {"role": "user", "content": "What is it?"}


@dataclass
class Hostile:
    """One request."""

    what: str
    path: str
    method: str = "POST"
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def png(width: int = 32, height: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int, text: bytes = b"") -> bytes:
    """A PNG of few bytes that claims a size, with rows of zeros, or with a text that grows when it is read."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    notes = chunk(b"zTXt", b"note\0\0" + zlib.compress(text)) if text else b""
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
    return b"\x89PNG\r\n\x1a\n" + head + notes + rows + chunk(b"IEND", b"")


def bad_pictures(rng: random.Random) -> bytes:
    """The bytes of something that is no usable picture."""
    whole = png(64, 64)
    return rng.choice(
        [
            b"",
            b"GIF89a" + rng.randbytes(40),
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            whole[: rng.randrange(8, len(whole) - 20)],
            bomb(10_000, 10_000),
            bomb(60_000, 60_000),
            bomb(2**31 - 1, 2**31 - 1),
            bomb(0, 5),
            bomb(64, 64, b"a" * 5_000_000),
            png(8, 8),
            rng.randbytes(rng.randrange(1, 300)),
            b"\xff\xd8\xff" + rng.randbytes(60),
            b"RIFF" + rng.randbytes(4) + b"WEBP" + rng.randbytes(40),
        ]
    )


def bad_value(rng: random.Random) -> Any:
    """What no text or list of messages may be."""
    return rng.choice(
        [
            None,
            -1,
            1e308,
            True,
            [],
            {},
            "",
            "   ",
            "\ud800",
            "x" * 1_000_000,
            [None],
            [[[]]],
            {"role": "user"},
            [{"role": "user", "content": "\udfff"}],
            [{"role": "root", "content": "a"}],
            [{"role": "user", "content": [{"type": "video"}]}],
        ]
    )


def bad_number(rng: random.Random) -> Any:
    return rng.choice([-1, 0.5, 10**30, float("nan"), float("inf"), "many", [], {}, -(2**63)])


def body_of(path: str, model: str) -> dict[str, Any]:
    """A body that would be fine."""
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [QUESTION]},
        "/v1/images/generations": {"prompt": "a photo"},
        "/sync-r1/recognize": {"image": url},
        "/sync-r1/rewrite": {"prompt": "a photo"},
        "/sync-r1/why": {"prompt": "a photo", "text": "a photo"},
    }
    return {"model": model, **bodies[path]}


def wrong_field(rng: random.Random, model: str) -> Hostile:
    """A good body with a required field that is wrong."""
    path = rng.choice(JSON_PATHS)
    body = body_of(path, model)
    name = rng.choice(list(body))
    body[name] = bad_value(rng)
    if name in ("prompt", "image") and path == "/sync-r1/why" and body[name] is None:
        body.pop("text")
    return as_json(f"wrong {name}", path, body)


def wrong_number(rng: random.Random, model: str) -> Hostile:
    """A good body with a number out of range."""
    path = rng.choice(JSON_PATHS[:2])
    names = {
        JSON_PATHS[0]: ["n", "max_tokens", "seed", "temperature"],
        JSON_PATHS[1]: ["n", "seed", "steps", "guidance"],
    }
    name = rng.choice(names[path])
    value = bad_number(rng)
    if name in ("temperature", "guidance") and value == 0.5:
        value = -0.5
    if name == "max_tokens" and value == 10**30:
        value = 0
    return as_json(f"wrong {name}", path, {**body_of(path, model), name: value})


def junk(rng: random.Random, model: str) -> Hostile:
    """What is no JSON object at all."""
    content = rng.choice(
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"a"',
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'{"model": "' + b"\xff" * 50 + b'"}',
            rng.randbytes(rng.randrange(1, 500)),
            json.dumps({"model": model}).encode(),
            b"\xef\xbb\xbf{}",
            b"1" * 5_000,
        ]
    )
    kind = rng.choice(["application/json", "text/plain", "application/xml", "", "application/json; charset=utf-7"])
    return Hostile("no JSON", rng.choice(JSON_PATHS), content=content, headers={"Content-Type": kind})


def foreign_picture(rng: random.Random, model: str) -> Hostile:
    """A picture that would have to be fetched, or that is none."""
    data = base64.b64encode(bad_pictures(rng)).decode()
    url = rng.choice(
        [
            "http://127.0.0.1:22/",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "ftp://example.org/a.png",
            "data:text/html;base64,PGI+",
            "data:image/svg+xml;base64,PHN2Zy8+",
            "data:image/png;base64,!!!!",
            "data:image/png;base64,é",
            f"data:image/png;base64,{data}",
            f"data:image/webp;base64,{data}",
        ]
    )
    if rng.random() < 0.5:
        return as_json("a picture", "/sync-r1/recognize", {"model": model, "image": url})
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return as_json("a picture", JSON_PATHS[0], {"model": model, "messages": [{"role": "user", "content": parts}]})


def broken_form(rng: random.Random, model: str) -> Hostile:
    """A form that is torn, overfull, or without what it needs."""
    path, mark = rng.choice(FORM_PATHS), "mark"
    good, mask = png(), png()  # the mask has nothing transparent
    parts = rng.choice(
        [
            [],
            [field_part("model", model)],
            [field_part("model", model), field_part("prompt", "a photo"), file_part("image", bad_pictures(rng))],
            [field_part("model", model), field_part("prompt", "a"), *[file_part("image", good)] * rng.randrange(2, 9)],
            [field_part("prompt", "a photo"), file_part("image", good)],
            [field_part("model", model), field_part("prompt", "a"), file_part("../../etc/passwd", good)],
            [field_part(f"f{number}", "1") for number in range(rng.randrange(41, 300))],
            [field_part("model", model), field_part("prompt", "x" * 1_100_000), file_part("image", good)],
            [field_part("model", model), field_part("n", "1000"), field_part("prompt", "a"), file_part("image", good)],
            [field_part("model", "../../x"), field_part("prompt", "a"), file_part("image", good)],
        ]
    )
    if path == FORM_PATHS[0] and rng.random() < 0.3:
        parts = [
            field_part("model", model),
            field_part("prompt", "a"),
            file_part("image", good),
            file_part("mask", mask),
        ]
    content = b"".join(b"--mark\r\n" + part for part in parts) + b"--mark--\r\n"
    kind = f"multipart/form-data; boundary={mark}"
    if rng.random() < 0.2:
        content, kind = content[: len(content) // 2], "multipart/form-data"
    elif rng.random() < 0.2:
        content = content.replace(b"--mark", b"--other")
    elif rng.random() < 0.1:
        kind += "; charset=nosuch"
        content = b"--mark\r\n" + field_part("model", "nosuch") + content
    return Hostile("a form", path, content=content, headers={"Content-Type": kind})


def field_part(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def file_part(name: str, data: bytes) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="../../a.png"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + data + b"\r\n"


def wrong_place(rng: random.Random, model: str) -> Hostile:
    """A path or a method that is not there."""
    path = rng.choice(
        [
            "/",
            "/v1/../../etc/passwd",
            "/v1/models/..%2f..%2fetc%2fpasswd",
            "/v1/models/%00",
            "/v1/models/" + "x" * 3000,
            "/v1/completions",
            "/v1/embeddings",
            "/docs",
            "/sync-r1/",
            "/sync-r1/feedback/%ff",
        ]
    )
    method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "POST"])
    return Hostile("a place", path, method)


def wrong_sender(rng: random.Random, model: str) -> Hostile:
    """A good request from a page of another site, or to another name."""
    headers = rng.choice(
        [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": ""},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Content-Length": "999999999999"},
        ]
    )
    path = rng.choice(JSON_PATHS)
    made = as_json("a sender", path, body_of(path, model))
    made.headers.update(headers)
    return made


def as_json(what: str, path: str, body: Any) -> Hostile:
    return Hostile(what, path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


KINDS: list[Callable[[random.Random, str], Hostile]] = [
    wrong_field,
    wrong_number,
    junk,
    foreign_picture,
    broken_form,
    wrong_place,
    wrong_sender,
]


def hostile(number: int, model: str, seed: int = 0) -> Hostile:
    """Request `number` of a repeatable sequence."""
    rng = random.Random(f"{seed} {number}")
    return KINDS[number % len(KINDS)](rng, model)


def send(host: str, port: int, request: Hostile, seconds: float = 60.0) -> int:
    """The status of the reply. The headers are sent as they are, true or not."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        headers = {"Host": f"{host}:{port}", "Content-Length": str(len(request.content)), **request.headers}
        for name, value in headers.items():
            connection.putheader(name, value)
        with suppress(ConnectionError):  # the server may have answered and closed before it read everything
            connection.endheaders(request.content)
        return connection.getresponse().status
    finally:
        connection.close()
