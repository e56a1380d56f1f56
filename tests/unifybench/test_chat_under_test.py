"""An external chat model, and a judge, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sync_r1.commands.unifybench import app
from sync_r1.config import JudgeConfig
from sync_r1.data import Concept
from sync_r1.unifybench.judges import build_judges
from sync_r1.unifybench.metrics import BenchmarkJudges
from sync_r1.unifybench.models_under_test import base_model, chat_model
from sync_r1.unifybench.prediction_store import PredictionStore
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.run import BenchmarkPlan, predict_all
from sync_r1.unifybench.score import Outage
from sync_r1.unifybench.score_files import score_task
from tests.helpers import tiny_model

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


# its URL, what it was asked (and the key it was given), and which requests fail
Endpoint = tuple[str, list[Any], list[range]]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A chat endpoint that answers "yes"."""
    asked: list[Any] = []
    outage = [range(10, 21)]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({**body, "key": self.headers["Authorization"]})
            broken = len(asked) in outage[0]
            reply = json.dumps(
                {"choices": [{"message": {"role": "assistant", "content": " yes "}, "finish_reason": "stop"}]}
            ).encode()
            self.send_response(500 if broken else 200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, outage
    server.shutdown()


def test_a_chat_model_over_http(endpoint: Endpoint, concept: Concept, root: Path, tmp_path: Path) -> None:
    url, asked, _ = endpoint
    model = chat_model(JudgeConfig(url=url, model="big", max_retries=0, concurrency=1), SMALL, photo=True)
    plan = BenchmarkPlan(root=root, concepts=["bo"], protocol=SMALL, max_items=4, batch_size=4)
    failed = predict_all(plan, [model], tmp_path)
    assert 0 < failed <= 11  # the outage; everything else is there
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("*_*.json"))]
    lost = [record for record in records if record["prediction"] is None]
    assert len(lost) == failed and all("gave no reply" in record["metadata"]["failure"] for record in lost)
    task = Counter(record["item_id"].rsplit("_", 1)[0] for record in lost).most_common(1)[0]
    place, judges = PredictionStore(out=tmp_path, concept="bo"), BenchmarkJudges()
    half = score_task(place, task[0], concept, SMALL, judges, Outage())
    assert half["progress"] == {"completed": 4 - task[1], "total": 4} and not half["complete"]
    assert predict_all(plan, [model], tmp_path) == 0
    assert score_task(place, task[0], concept, SMALL, judges, Outage())["complete"]
    folder = tmp_path / "artifacts" / "understanding"
    assert sorted(path.name for path in folder.iterdir()) == ["dense_rea", "qa", "rea", "rec", "vqa"]
    assert {json.loads(path.read_text())["prediction"] for path in folder.rglob("*_*.json")} == {"yes"}
    first = asked[0]["messages"][0]["content"]
    # the photo, then the picture, then the question
    assert [part["type"] for part in first] == ["text", "image_url"] * 2 + ["text"]
    assert first[-1]["text"].startswith("name: bo\ninfo: <bo> is") and "ASSISTANT" not in first[-1]["text"]
    with pytest.raises(ValueError, match="cannot do task pure_gen; it can do rec"):
        predict_all(replace(plan, tasks=["pure_gen"]), [model], tmp_path)


def test_the_chat_models_key_is_its_own(
    endpoint: Endpoint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, outage = endpoint
    monkeypatch.setenv("SYNC_R1_JUDGE_KEY", "judges-key")
    monkeypatch.setenv("SYNC_R1_CHAT_KEY", "chats-key")
    monkeypatch.setenv("OTHER", "others-key")
    words = [
        "--chat",
        url,
        "--chat-model",
        "m",
        "--concept",
        "bo",
        "--max-items",
        "1",
        "--tasks",
        "rec",
        "--data",
        str(root),
    ]
    cache = ["--chat-cache", str(tmp_path / "cache")]

    def call(out: str, *more: str) -> int:
        outage[0] = range(0)
        return (
            CliRunner()
            .invoke(app, ["run", *words, "--out", str(tmp_path / out), *more], catch_exceptions=False)
            .exit_code
        )

    assert call("a", *cache) == 0 and [body["key"] for body in asked] == ["Bearer chats-key"]
    assert call("b", *cache) == 0 and len(asked) == 1  # from the cache
    assert call("c", "--chat-key-env", "OTHER") == 0 and asked[-1]["key"] == "Bearer others-key"


def test_a_dead_chat_model_leaves_its_items_open(tmp_path: Path, root: Path) -> None:
    """One failure stops neither the others nor the scoring."""
    words = [
        "--concept",
        "bo",
        "--max-items",
        "2",
        "--tasks",
        "rec,vqa",
        "--data",
        str(root),
        "--judge",
        "none",
        "--chat-timeout",
        "1",
    ]
    result = CliRunner().invoke(
        app, ["run", "--chat", "http://127.0.0.1:9/v1", "--chat-model", "m", "--out", str(tmp_path), *words]
    )
    assert result.exit_code == 1 and "4 items got no answer and stay open" in result.output
    assert (
        "go on with: the same command, which asks the model again" in result.output
        and "bench score" not in result.output
    )
    assert "rec.weight lacks 2 of 2 scores" in result.output and (tmp_path / "scores" / "_aggregates").is_dir()


def test_a_remote_judge_under_both_readings(endpoint: Endpoint, concept: Concept, root: Path, tmp_path: Path) -> None:
    """The endpoint answers "yes", which holds no number, and is down for a while."""
    url, asked, outage = endpoint
    outage[0] = range(3, 1000)
    options = [
        f"eval.judge.url={url}",
        "eval.judge.model=m",
        "eval.judge.max_retries=0",
        "eval.judge.concurrency=1",
        "eval.clip=''",
    ]
    plan = BenchmarkPlan(root=root, concepts=["bo"], tasks=["dense_rea"], protocol=SMALL, max_items=14, batch_size=14)
    tiny = tmp_path / "model"
    tiny_model(max_text_tokens=120).save_pretrained(tiny)
    predict_all(plan, [base_model(str(tiny), "tokens", SMALL, device="cpu")], tmp_path / "out")
    store = PredictionStore(out=tmp_path / "out", concept="bo")
    zero = replace(SMALL, unparsable="zero")

    def scored(protocol: Protocol) -> dict[str, Any]:
        return score_task(store, "dense_rea", concept, protocol, build_judges(protocol, options), Outage())

    with pytest.warns(UserWarning):
        first = scored(zero)
    answered = first["summary"]["gpt_n"]
    assert (
        0 < answered < 14
        and first["summary"]["gpt"] == 0.0
        and not first["complete"]
        and first["judge"].startswith("m at 127.0.0.1")
    )
    known = {row["item_id"] for row in first["items"] if row["metrics"]["gpt"] is not None}
    outage[0], before = range(0), len(asked)
    with pytest.warns(UserWarning, match="holds no number; by the published rule it scores 0"):
        second = scored(zero)
    assert second["complete"] and known and 0 < len(asked) - before <= 14 - answered  # equal questions are asked once
    with pytest.warns(UserWarning, match="the judge left"):
        assert scored(SMALL)["summary"]["gpt"] is None
