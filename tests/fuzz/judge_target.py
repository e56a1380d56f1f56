"""The judge client against a server that sends whatever bytes an input says, over a real connection."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sync_r1.config import JudgeConfig
from sync_r1.scorers.judge import RemoteJudge
from tests.fuzz.guard import bounded, watched
from tests.fuzz.mutations import BOMB, Random, hostile_value, mutate_bytes, mutate_tree, to_json

TIMEOUT_S = 0.15
LONGEST_REPLY_S = 5.0  # a request, one repair and their pauses on a busy machine
Pieces = list[tuple[bytes, float]]  # bytes, seconds to wait before them
IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


class HostileServer:
    """Sends `pieces` to everyone who asks, then hangs up."""

    def __init__(self) -> None:
        self.pieces: Pieces = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._reply, args=(connection, self.pieces), daemon=True).start()

    def _reply(self, connection: socket.socket, pieces: Pieces) -> None:
        try:
            with connection:
                connection.settimeout(2)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(1 << 16)
                head, _, body = asked.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split()[0])
                while len(body) < length:
                    body += connection.recv(1 << 16)
                for piece, wait in pieces:
                    time.sleep(wait)
                    connection.sendall(piece)
        except OSError:  # the client gave up, as it should
            pass


class JudgeTarget:
    """Pictures and answers are graded; scores are numbers in [0, 1] or None, whatever came back."""

    name = "judge"

    def __init__(self, folder: Path) -> None:
        self.server = HostileServer()
        self.folder = folder

    def close(self) -> None:
        self.server.listener.close()

    def run(self, r: Random) -> bool:
        """One input. Returns whether a score was left open."""
        self.server.pieces = list(reply(r))
        config = JudgeConfig(
            url=f"http://127.0.0.1:{self.server.port}/v1", model="m", timeout_s=TIMEOUT_S, max_retries=0
        )
        started = time.monotonic()
        judge = RemoteJudge(config)
        try:
            with watched([], self.server.port), bounded(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores = (
                    judge(IMAGES, ["a dog", "a cat"])
                    if r.random() < 0.6
                    else judge.score_text_answer(["q"], ["a"], ["b"])
                )
        except ValueError as error:
            assert f":{self.server.port}" in str(error) and len(str(error)) < 1000, str(error)[:300]
            return True
        finally:
            judge.client.close()
            assert time.monotonic() - started < LONGEST_REPLY_S, "went on long past its timeout"
        assert all(score is None or (type(score) is float and 0 <= score <= 1) for score in scores), scores
        return None in scores


def completion(r: Random) -> bytes:
    """A chat completion, valid or with broken grades, fields or types."""
    rows = [{"index": number, "identity": 80.0, "faithfulness": 90.0} for number in (1, 2)]
    inner: Any = r.choice(({"pictures": rows}, {"score": 0.5}))
    if r.random() < 0.6:
        inner = mutate_tree(r, inner)
    text = to_json(inner).decode("utf-8", "surrogatepass")
    text = r.choice(
        (text, text, text, text + text, "```json\n" + text, text[:-3], '{"a":' * 50_000, "I cannot judge that.", "")
    )
    tree: Any = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    tree = mutate_tree(r, tree) if r.random() < 0.3 else tree
    return json.dumps(tree).encode() if r.random() < 0.5 else to_json(tree)


def reply(r: Random) -> Iterator[tuple[bytes, float]]:
    """Status line, headers and body in pieces."""
    body = completion(r)
    action = r.randrange(16)
    if action == 0:
        body = mutate_bytes(r, body)
    elif action == 1:
        body = r.choice(
            (b"<html>proxy login</html>", b"", b"\xff\xfe" * 50, json.dumps({"error": hostile_value(r)}).encode())
        )
    status = (
        r.choice((200, 200, 200, 200, 204, 302, 307, 400, 401, 404, 418, 429, 500, 503, 999))
        if action in (2, 3)
        else 200
    )
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if action == 4:
        headers["Content-Length"] = r.choice(
            ("-1", "0", "x", "1" * 400, str(len(body) + 9), str(max(len(body) - 9, 0)), "3, 4")
        )
    elif action == 5:
        encodings = ("gzip", "deflate", "br", "zstd", "gzip, gzip, gzip", "nonsense")
        headers["Content-Encoding"] = r.choice(encodings)
        body = r.choice((gzip.compress(body), gzip.compress(BOMB), BOMB, body))
        headers["Content-Length"] = str(len(body))
    elif action == 6:
        headers["Location"] = r.choice(
            ("http://127.0.0.1:9/", "file:///etc/passwd", "//x", "", "http://[", "/v1/" + "a" * 5000)
        )
    elif action == 7:
        headers["Retry-After"] = r.choice(("-1", "nan", "1e999", "9" * 500, "soon", "Mon, 99 Jan 2026 00:00:00 GMT"))
    head = f"HTTP/1.1 {status} X\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n"
    if action == 8:
        head = r.choice(
            (
                mutate_bytes(r, head),
                b"HTTP/9.9 x\r\n\r\n",
                b"",
                b"220 smtp\r\n",
                b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
            )
        )
    yield from pieces(r, action, head, body)


def pieces(r: Random, action: int, head: bytes, body: bytes) -> Iterator[tuple[bytes, float]]:
    """The reply as it is sent: bytes, and seconds to wait after them."""
    whole = head + body
    if action == 9:
        yield whole[: r.randrange(len(whole))], 0
    elif action == 10 and r.random() < 0.4:  # slow drips: of headers, interim replies, chunk sizes or the body
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        start, drip = r.choice(
            ((b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (head[:17], b"a"), (chunked, b"0"), (head[:-2] + b"\r\n", b" "))
        )
        yield start, 0
        for _ in range(60):
            yield drip, 0.04
    elif action == 11:
        chunks = r.choice(
            (
                b"ffffffffffffffff\r\n",
                b"-1\r\n",
                b"zz\r\n",
                b"4\r\nab",
                b"0\r\n" + b"x: y\r\n" * 9000,
                b"2\r\n{}\r\n0\r\n\r\n",
            )
        )
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, 0
    elif action == 12 and r.random() < 0.2:  # a body beyond every limit
        yield b"HTTP/1.1 200 OK\r\n\r\n", 0
        for _ in range(8):
            yield b" " * (1 << 20), 0
    else:
        yield whole, 0
