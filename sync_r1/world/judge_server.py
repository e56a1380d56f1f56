"""The embedded world's judge as an OpenAI-compatible endpoint: what `RemoteJudge` sends to a vision-language model,
answered by program.

For rehearsing a run without such a model: every byte goes over HTTP, and failures, delays and wrong replies can be
ordered.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sync_r1.scorers.base import Score
from sync_r1.scorers.chat.endpoint import Message
from sync_r1.scorers.judge_prompts import read_data
from sync_r1.world.judge import WorldJudge
from sync_r1.world.render import SIZE

MODEL = "world"
MAX_BODY_BYTES = 64 << 20
# of the usage that it reports: a rough guess that lets the cost counter be tried
TOKENS_PER_PICTURE, LETTERS_PER_TOKEN = 85, 4


@dataclass(frozen=True)
class Rehearsal:
    """Trouble to order, as shares of requests: failures (503), replies of a wrong form.

    And seconds to wait before each reply.
    """

    fail_rate: float = 0.0
    lie_rate: float = 0.0
    delay_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("fail_rate", "lie_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a share from 0 to 1")
        if self.delay_s < 0:
            raise ValueError(f"delay_s is {self.delay_s}; it must be at least 0")


def answer(judge: WorldJudge, messages: Sequence[Message]) -> str:
    """The reply to a conversation that `RemoteJudge` made: JSON in the form it asks for.

    The world's words say all about a subject, so that identity and faithfulness are the same grade and reference photos
    are not looked at.

    Raises:
        ValueError: another conversation, or a picture that cannot be read.
    """
    data, parts = read_data(messages)
    pictures = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    try:
        if data["task"] == "pictures":
            texts = [row["wanted"] for row in data["pictures"]]
            scores = judge(read_pictures(pictures[data["reference_photos"] :]), texts)
            return json.dumps({"pictures": [_grades(index, score) for index, score in enumerate(scores, 1)]})
        score = _grade(judge, data, pictures)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"the request's data or pictures are not as RemoteJudge sends them ({error!r})") from error
    return json.dumps({"score": score})


def _grade(judge: WorldJudge, data: Mapping[str, Any], pictures: Sequence[str]) -> Score:
    if data["task"] == "answer":
        return judge.score_text_answer([data["question"]], [data["reference"]], [data["answer"]])[0]
    if data["task"] == "rewrite":
        return judge.score_prompt_similarity([data["reference"]], [data["rewrite"]])[0]
    if data["task"] == "clause":
        return judge.score_clauses(read_pictures(pictures), [data["clause"]])[0]
    raise ValueError(f"task is {data['task']!r}; this judge knows pictures, answer, rewrite and clause")


def _grades(index: int, score: Score) -> dict[str, float | None]:
    if score is None:
        grade = None
    else:
        grade = 100 * score
    return {"index": index, "identity": grade, "faithfulness": grade}


def read_pictures(urls: Sequence[str]) -> Tensor:
    """data: URLs → uint8 [B, 3, 32, 32]; other sizes are scaled to the world's."""
    return torch.stack([torch.from_numpy(np.array(_picture(url))).permute(2, 0, 1) for url in urls])


def _picture(url: str) -> Image.Image:
    try:
        raw = base64.b64decode(url.partition(";base64,")[2], validate=True)
        image = Image.open(io.BytesIO(raw), formats=("PNG", "JPEG", "WEBP")).convert("RGB")
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture cannot be read ({error})") from error
    if image.size == (SIZE, SIZE):
        return image
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def lies(pictures: int) -> list[str]:
    """Replies of a wrong form to a request about `pictures` pictures, as judges really give them."""
    rows = [{"index": index, "identity": 100, "faithfulness": 100} for index in range(1, pictures + 1)]
    return [
        "These pictures are wonderful, all of them deserve the best grade.",
        json.dumps({"pictures": [{**row, "identity": float("nan")} for row in rows], "score": float("nan")}),
        json.dumps({"pictures": [{**row, "faithfulness": 1000} for row in rows], "score": 1000}),
        json.dumps({"pictures": [{**rows[0], "index": index} for index in range(1, 201)], "scores": [1] * 200}),
        json.dumps({"pictures": [rows[0]] * len(rows) if len(rows) > 1 else []}),
        json.dumps({"pictures": rows[1:]}),
    ]


class JudgeServer(ThreadingHTTPServer):
    """Serves `judge` below /v1 until it is shut down.

    Args:
        port: 0 takes a free one.
        say: called with one line per request.
    Raises:
        ValueError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        judge: WorldJudge,
        port: int = 0,
        host: str = "127.0.0.1",
        rehearsal: Rehearsal = Rehearsal(),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.judge, self.rehearsal, self.say = judge, rehearsal, say
        self.lock = threading.Lock()
        self.random = random.Random(rehearsal.seed)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ValueError(f"{host}:{port} cannot be served ({error}); choose another --port") from error

    @property
    def url(self) -> str:
        """What clients take as base URL."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/v1"

    def reply(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON for a request's body."""
        with self.lock:
            fails, lying, lie = (self.random.random() for _ in range(3))
        time.sleep(self.rehearsal.delay_s)
        if fails < self.rehearsal.fail_rate:
            return 503, _error("a failure as ordered")
        try:
            messages = json.loads(body)["messages"]
            with self.lock:  # the reader's threads would only take turns on the same cores
                text = answer(self.judge, messages)
            if lying < self.rehearsal.lie_rate:
                kinds = lies(max(len(json.loads(text).get("pictures", [])), 1))
                text = kinds[int(lie * len(kinds))]
            return 200, _completion(messages, text)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return 400, _error(
                f"the request is not of the form of a chat ({error!r})"
                if not isinstance(error, ValueError)
                else str(error)
            )


@contextmanager
def serving(server: JudgeServer) -> Iterator[JudgeServer]:
    """Run the server in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60
    server: JudgeServer

    def do_GET(self) -> None:
        known = self.path.rstrip("/").endswith("/models")
        self._write(
            *(
                (200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
                if known
                else (404, _error("no such page"))
            )
        )

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > MAX_BODY_BYTES:
            self.close_connection = True  # the body stays unread
            return self._write(413, _error(f"a request needs a Content-Length of at most {MAX_BODY_BYTES} bytes"))
        body = self.rfile.read(int(size))
        known = self.path.rstrip("/").endswith("/chat/completions")
        return self._write(
            *(self.server.reply(body) if known else (404, _error("no such page; POST to /v1/chat/completions")))
        )

    def _write(self, status: int, value: dict[str, Any]) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.say is not None:
            self.server.say(format % args)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}


def _completion(messages: Sequence[Message], text: str) -> dict[str, Any]:
    parts = [
        part
        for message in messages
        for part in (message["content"] if isinstance(message["content"], list) else [message])
    ]
    letters = sum(
        len(str(part.get("text", part.get("content", "")))) for part in parts if part.get("type") != "image_url"
    )
    pictures = sum(part.get("type") == "image_url" for part in parts)
    read, written = letters // LETTERS_PER_TOKEN + TOKENS_PER_PICTURE * pictures, len(text) // LETTERS_PER_TOKEN
    return {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
