"""Baselines, an external chat model over real HTTP, checkpoints, the world's judge, and the commands."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sync_r1.commands.unifybench import app
from sync_r1.config import Config, JudgeConfig, ModelConfig, save_config
from sync_r1.data import Concept, Conditions
from sync_r1.files import write_manifest
from sync_r1.session import Session
from sync_r1.unifybench.baselines import ImagePrompt, TextPrompt, name_in_words
from sync_r1.unifybench.fingerprint import network_content
from sync_r1.unifybench.judges import build_judges, check_world_judges
from sync_r1.unifybench.metrics import Evaluators
from sync_r1.unifybench.models_under_test import base_model, chat_model, checkpoints
from sync_r1.unifybench.prediction_store import PredictionStore
from sync_r1.unifybench.protocol import Protocol, load_protocol
from sync_r1.unifybench.run import BenchmarkPlan, choose_concepts, predict_all, score_all
from sync_r1.unifybench.run_manifest import open_run_manifest, read_run_manifest
from sync_r1.unifybench.score import Outage
from sync_r1.unifybench.score_files import score_task
from sync_r1.unifybench.tasks import build_items
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.judge import WorldJudge
from sync_r1.world.render import Thing, render_image
from tests.helpers import tiny_model
from tests.unifybench.conftest import CountingJudge

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


def items(concept: Concept, root: Path) -> dict[str, Any]:
    return {item.task: item for item in build_items(concept, root=root, max_items=1)}


def test_told_in_words(concept: Concept, root: Path) -> None:
    some = items(concept, root)
    told = TextPrompt(tiny_model(max_text_tokens=120), concept, SMALL)
    asked = told.request(some["qa"])
    assert (
        "<kip>" in asked.text
        and "name: kip" in asked.text
        and "bo" not in asked.text
        and concept.facts[0] not in asked.text
    )
    rewriting = told.request(some["rea"])
    assert concept.facts[0].replace("<bo>", "<kip>") in rewriting.text and "<kip>" in rewriting.reference
    description = concept.info.removeprefix("<bo> is ").rstrip(".")
    assert (
        told.request(replace(some["pure_gen"], prompt="a photo of <bo> at sea")).text
        == f"a photo of {description} at sea"
    )
    assert told.request(some["rea_gen"], "a photo of <kip>, at sea").text == f"a photo of {description}, at sea"
    assert told.request(some["rea_gen"], "a photo of nobody").text == "a photo of nobody"
    assert told.request(some["rea_gen"], "x").item.truth == some["rea_gen"].truth
    assert len(told.model.concepts) == 0


def test_the_published_text_prompt_keeps_the_name(concept: Concept, root: Path) -> None:
    some, described = items(concept, root), concept.info.removeprefix("<bo> is ").rstrip(".")
    published = TextPrompt(tiny_model(), concept, load_protocol("unifybenchpp-2026"))
    drawing = published.request(replace(some["pure_gen"], prompt="a <bo> at sea"))
    assert drawing.text == f"name: bo\ninfo: {concept.info}\na <bo> at sea" and drawing.words == "a <bo> at sea"
    rewriting = published.request(some["rea"])
    assert "These things are known about <bo>: " in rewriting.text and rewriting.reference == some["rea"].truth
    assert published.request(some["rea_gen"], "<bo> in a tree").words == "<bo> in a tree"
    spoken = TextPrompt(tiny_model(name_pool=[]), concept, load_protocol("unifybenchpp-2026", ["baseline_name=spoken"]))
    text = spoken.request(replace(some["pure_gen"], prompt="a <bo> at sea")).text
    assert text == f"name: dog\ninfo: the dog is {described}.\na dog at sea"
    assert "These things are known about the dog: " in spoken.request(some["rea"]).text


def test_shown_a_photo(concept: Concept, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImagePrompt, "answers", lambda self, requests: ["a small blue cat."] * len(requests))
    shown, some = ImagePrompt(tiny_model(max_text_tokens=120), concept, SMALL), items(concept, root)
    assert shown.spoken.info == "<kip> is a small blue cat." and concept.info[5:] not in shown.request(some["qa"]).text
    assert shown.request(some["qa"]).image == concept.train_images[0] == shown.request(some["rec"]).photos[0]
    assert shown.request(some["rec"]).image == some["rec"].image and shown.request(some["rea"]).image is None
    assert shown.request(replace(some["pure_gen"], prompt="<bo> at sea")).text == "a small blue cat at sea"
    with pytest.raises(ValueError, match="has no training photo to show"):
        ImagePrompt(shown.model, replace(concept, train_images=[]), SMALL)


def test_words_for_the_name() -> None:
    assert name_in_words("a <x> in the snow, <x> asleep", "<x>", "owl") == "an owl in the snow, an owl asleep"
    assert name_in_words("a red <x> and the <x>", "<x>", "owl", "my grey owl") == "a red owl and my grey owl"


Endpoint = tuple[
    str, list[Any], list[range]
]  # its URL, what it was asked (and the key it was given), and which requests fail


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
    candidate = chat_model(JudgeConfig(url=url, model="big", max_retries=0, concurrency=1), SMALL, photo=True)
    plan = BenchmarkPlan(root=root, concepts=["bo"], protocol=SMALL, max_items=4, batch_size=4)
    failed = predict_all(plan, [candidate], tmp_path)
    assert 0 < failed <= 11  # the outage; everything else is there
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("*_*.json"))]
    lost = [record for record in records if record["prediction"] is None]
    assert len(lost) == failed and all("gave no reply" in record["metadata"]["failure"] for record in lost)
    task = Counter(record["item_id"].rsplit("_", 1)[0] for record in lost).most_common(1)[0]
    place, judges = PredictionStore(out=tmp_path, concept="bo"), Evaluators()
    half = score_task(place, task[0], concept, SMALL, judges, Outage())
    assert half["progress"] == {"completed": 4 - task[1], "total": 4} and not half["complete"]
    assert predict_all(plan, [candidate], tmp_path) == 0
    assert score_task(place, task[0], concept, SMALL, judges, Outage())["complete"]
    folder = tmp_path / "artifacts" / "understanding"
    assert sorted(path.name for path in folder.iterdir()) == ["dense_rea", "qa", "rea", "rec", "vqa"]
    assert {json.loads(path.read_text())["prediction"] for path in folder.rglob("*_*.json")} == {"yes"}
    first = asked[0]["messages"][0]["content"]
    assert [part["type"] for part in first] == ["text", "image_url"] * 2 + [
        "text"
    ]  # the photo, then the picture, then the question
    assert first[-1]["text"].startswith("name: bo\ninfo: <bo> is") and "ASSISTANT" not in first[-1]["text"]
    with pytest.raises(ValueError, match="cannot do task pure_gen; it can do rec"):
        predict_all(replace(plan, tasks=["pure_gen"]), [candidate], tmp_path)


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


def test_judges_follow_the_protocol() -> None:
    legacy = build_judges(load_protocol("legacy"), [])
    assert (
        legacy.clip is not None
        and legacy.clip.preprocessing == "legacy"
        and legacy.judge_name
        and legacy.clip_name == "world"
    )
    nobody = build_judges(SMALL, ["eval.clip=''", "eval.judge.url=''"])
    assert nobody.judge is None and nobody.clip is None and nobody.judge_name == ""
    with pytest.raises(ValueError, match="reads the embedded world's 32-pixel pictures only"):
        build_judges(SMALL, [], model="somewhere/else")


def test_the_published_judge_client() -> None:
    """Temperature and timeout of the protocol, in the client, beside the score, and not against an option."""
    remote = ["eval.judge.url=http://localhost:1/v1", "eval.judge.model=m", "eval.clip=''"]
    published = load_protocol("unifybenchpp-2026")
    judges = build_judges(published, remote)
    client = judges.judge.config
    assert (client.temperature, client.timeout_s) == (1e-5, 120.0) and judges.judge_name.endswith("; temperature 1e-05")
    assert build_judges(SMALL, remote).judge.config.temperature == 0.0
    assert (
        build_judges(SMALL, [*remote, "eval.judge.temperature=0.5"]).judge_setting
        != build_judges(SMALL, remote).judge_setting
    )
    with pytest.raises(ValueError, match=r"asks with 1e-05; change it with --set judge_temperature=0.5"):
        build_judges(published, [*remote, "eval.judge.temperature=0.5"])


def test_a_clips_content_is_in_its_setting(tmp_path: Path) -> None:
    """Of a folder every file, its preprocessing included."""
    clip = build_judges(SMALL, []).clip
    assert clip is not None and network_content("hub/id", clip.model) == build_judges(SMALL, []).clip_setting
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    before = network_content(str(tmp_path), clip.model)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1, 1, 1]}')
    assert network_content(str(tmp_path), clip.model) != before


def test_the_worlds_judges_read_the_world_only(concept: Concept, root: Path, tmp_path: Path) -> None:
    real = tmp_path / "concept" / "train" / "bo" / "0.png"
    real.parent.mkdir(parents=True)
    Image.new("RGB", (300, 200)).save(real)
    check_world_judges({"--judge": "world", "--clip": "world"}, root, ["bo"])
    check_world_judges({"--judge": "http://localhost/v1", "--clip": ""}, tmp_path, ["bo"])
    with pytest.raises(
        ValueError,
        match=r"--judge: the default 'world' reads .* but the data is .*; give --judge <URL> or --judge none",
    ):
        check_world_judges({"--judge": "world", "--clip": ""}, tmp_path, ["bo"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rl.max_steps=3"], "'rl.max_steps=3' has no effect on a benchmark; it takes eval.judge"),
        (["eval.guidance_scale=3"], "decoding and seeds with --set"),
        (["model.path=x"], "name the model under test with --model"),
        (["--run", "runs/x", "model.num_tokens=2"], "'model.num_tokens=2' has no effect on --run"),
        (["--chat", "http://localhost:1/v1", "model.num_tokens=2"], "has no effect on --chat"),
        (["--steps", "0,60"], "--steps is '0,60', but only a run has checkpoints; name it with --run"),
        (["--run", "runs/x", "--chat", "http://localhost:1/v1"], "--run and --chat are both given"),
        (["--chat-model", "m"], "--chat and --chat-model go together"),
        (["--run", "no-such-run", "--concept", "bo"], "no-such-run: no such run"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--out", str(tmp_path), *options])
    assert isinstance(result.exception, ValueError) and message in str(result.exception)


def test_checkpoints_by_step(tmp_path: Path, root: Path, concept: Concept) -> None:
    base = tmp_path / "base"
    tiny_model(max_text_tokens=120).save_pretrained(base)
    run = tmp_path / "run-bo"
    for step in (2, 5):
        session = Session.open(model=base, data=root, concept="bo", device="cpu")
        with torch.no_grad():
            session.model.get_output_embeddings().weight += step  # type: ignore[operator, union-attr]
        folder = run / "checkpoints" / f"step_{step:05d}"
        session.model.save_pretrained(folder / "model")
        config = Config()
        config.model.path, config.data.root, config.data.concepts = str(base), str(root), ["bo"]
        save_config(config, folder / "config.yaml")
        write_manifest(folder)
    pattern = str(tmp_path / "run-{concept}")
    found = checkpoints(pattern, [0, 2, 5], ["bo"], SMALL, device="cpu")
    assert [candidate.epoch for candidate in found] == [0, 2, 5]
    weights = {candidate.open(concept, root).fingerprint for candidate in found}
    newest = checkpoints(pattern, None, ["bo"], SMALL, device="cpu")[0]
    assert len(weights) == 3 and newest.epoch == 5 and newest.open(concept, root).fingerprint in weights
    with pytest.raises(ValueError, match=r"no complete checkpoint of step 3; it has 0, 2, 5"):
        checkpoints(pattern, [3], ["bo"], SMALL)
    seeds = str(tmp_path / "r*-{concept}*")
    run.rename(tmp_path / "run-bo-7")
    assert checkpoints(seeds, [5], ["bo"], SMALL, device="cpu")[0].open(concept, root).fingerprint in weights
    with pytest.raises(ValueError, match="fits no folder; it must fit one run of 'ana'"):
        checkpoints(seeds, None, ["bo", "ana"], SMALL)
    (tmp_path / "run-bo-8").mkdir()
    with pytest.raises(ValueError, match=r"run-bo-7, .*run-bo-8; it must fit one run of 'bo'"):
        checkpoints(seeds, None, ["bo"], SMALL)


def test_settings_and_concepts_in_the_models_path(tmp_path: Path, root: Path, concept: Concept) -> None:
    """Fresh tokens as model.* options say; one model folder per concept."""
    tiny_model(max_text_tokens=120).save_pretrained(tmp_path / "for-bo")
    settings = ModelConfig(num_tokens=6, reading_tokens=3, drawing_tokens=5)
    pattern = str(tmp_path / "for-{concept}")
    adapter = base_model(pattern, "tokens", load_protocol("unifybenchpp-2026"), device="cpu", settings=settings).open(
        concept, root
    )
    some = items(concept, root)
    assert "<bo> is <token_0><token_1><token_2>.\n" in adapter.request(some["rec"]).text
    drawn = adapter.request(some["dense_gen"]).text
    assert "<token_4> <bo>" in drawn and "<token_5>" not in drawn
    told = base_model(pattern, "text-prompt", SMALL, device="cpu").open(concept, root)
    assert told.kind == "text-prompt"


def test_the_token_epoch_is_recorded(tmp_path: Path, root: Path, concept: Concept) -> None:
    tiny_model(max_text_tokens=120).save_pretrained(tmp_path / "model")
    plan = BenchmarkPlan(root=root, concepts=["bo"], tasks=["rec"], protocol=SMALL, max_items=1, token_epoch=15)
    candidate, out = base_model(str(tmp_path / "model"), "tokens", SMALL, device="cpu"), tmp_path / "out"
    predict_all(plan, [candidate], out)
    open_run_manifest(out, plan, [candidate])
    assert (out / "artifacts/understanding/rec/bo/token_epoch_15/model_epoch_0/manifest.json").is_file()
    assert read_run_manifest(out)[0].token_epoch == 15 and 0 in score_all(
        read_run_manifest(out)[0], [0], out, Evaluators()
    )
    with pytest.raises(ValueError, match="with token_epoch 15, now it is 0"):
        open_run_manifest(out, replace(plan, token_epoch=0), [candidate])


def test_old_archives_are_refused_for_new_tasks(concept: Concept, root: Path) -> None:
    old = replace(concept, conditions=Conditions(plain=["A photo of <bo>."], legacy=True), num_testing_info=0)
    plan = BenchmarkPlan(root=root, concepts=["bo"], protocol=SMALL)
    with pytest.raises(ValueError, match="has the old list form; tasks that can run are rec, vqa, qa, pure_gen"):
        replace(plan, tasks=["rec", "rea"]).tasks_of(old)
    with pytest.warns(UserWarning, match="rea, dense_rea, dense_gen, rea_gen, dense_rea_gen left out"):
        assert plan.tasks_of(old) == ["rec", "vqa", "qa", "pure_gen"]
    assert replace(plan, protocol=load_protocol("legacy")).tasks_of(old) == ["rec", "vqa", "qa", "pure_gen"]


def test_concepts_are_those_of_the_protocol(root: Path) -> None:
    assert choose_concepts(root, [], SMALL) == choose_concepts(root, ["all"], SMALL) == ["bo"]
    with pytest.raises(ValueError, match=r"lacks concepts fine_woolfhard, butin.*or --concept all"):
        choose_concepts(root, [], load_protocol("unifybenchpp-2026"))


def test_a_folder_holds_one_model_and_protocol(root: Path, tmp_path: Path) -> None:
    plan = BenchmarkPlan(root=root, concepts=["bo"], protocol=SMALL)
    candidate = chat_model(JudgeConfig(url="http://localhost:1/v1", model="m"), SMALL)
    open_run_manifest(tmp_path, plan, [candidate])
    open_run_manifest(tmp_path, replace(plan, concepts=["ana"]), [candidate])
    assert read_run_manifest(tmp_path)[0].concepts == ["bo", "ana"] and read_run_manifest(tmp_path)[1] == {0: "m"}
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved / "out" / "x")
    open_run_manifest(
        Path(os.path.relpath(tmp_path)), replace(plan, root=Path(os.path.relpath(plan.root))), [candidate]
    )  # the same places
    assert read_run_manifest(Path(os.path.relpath(tmp_path)))[0].root.resolve() == plan.root.resolve()
    beside = moved / "out" / os.path.relpath(plan.root, tmp_path.parent)
    assert read_run_manifest(moved / "out" / "x")[0].root.resolve() == beside.resolve()  # data that moved along
    with pytest.raises(ValueError, match="which differs in eval_flip; choose another --out"):
        open_run_manifest(tmp_path, replace(plan, protocol=replace(SMALL, eval_flip=True)), [candidate])
    with pytest.raises(ValueError, match="holds 'm' as model epoch 0, now it is 'n'"):
        open_run_manifest(tmp_path, plan, [replace(candidate, label="n")])
    with pytest.raises(ValueError, match=r"bench.json is missing; benchmark folders are written by"):
        read_run_manifest(tmp_path / "none")


def test_the_worlds_judge_of_texts_and_clauses() -> None:
    judge = WorldJudge(load_evaluator_reader())
    answers = ["It is red", "a red dog", "a blue dog", "", "nothing", "a hat"]
    assert judge.score_text_answer(
        ["?"] * 6, ["red", "a red cat", "a red cat", "red", "nothing", "nothing"], answers
    ) == [
        1,
        0.5,
        0,
        0,
        1,
        0,
    ]
    wanted = "a photo of <bo> wearing a crown at the beach"
    rewrites = [
        wanted,
        "<bo> at the beach, wearing a crown",
        "a dog wearing a crown at the beach",
        "<bo> wearing a crown",
        "<bo>",
    ]
    assert judge.score_prompt_similarity([wanted] * 5, rewrites) == [1, 1, 0.5, 0.5, 0]
    thing = Thing(
        kind="dog",
        colour="red",
        pattern="plain",
        mark="star",
        hat="crown",
        item="apple",
        scene="beach",
        flip=False,
        decor=0,
    )
    picture = torch.from_numpy(np.array(render_image(thing))).permute(2, 0, 1)[None]
    prompts = [
        "a photo of <bo>, wearing a crown, at the beach",
        "a photo of <bo>, wearing a beanie, at the beach",
        "a photo of <bo>",
    ]
    assert judge.score_clauses(picture.repeat(3, 1, 1, 1), prompts) == [1, 0.5, None]


def test_commands_on_the_world(tmp_path: Path) -> None:
    runner, out = CliRunner(), tmp_path / "out"

    def call(*words: object) -> str:
        result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    common = ["--concept", "bo", "--max-items", 1, "--tasks", "rec,rea", "--tasks", "rea_gen"]
    first = call("run", *common, "--out", out)
    assert "rea_gen.clip_i" in first and first.count("| world |") == 1
    assert call("run", *common, "--out", out) == first
    call("run", *common, "--as", "image-prompt", "--out", tmp_path / "shown", "--data", out / "data")
    assert call("table", out, tmp_path / "shown", "--format", "csv").count("rec.weight") == 2
    assert set(json.loads(call("compare", out, tmp_path / "shown", "--json"))["columns"]) >= {
        "rec.weight",
        "rea.bleu",
        "rea_gen.clip_t",
    }
    assert call("score", out, "--set", "recognition=substring").count("rec.weight") == 1
    assert "pure_name" in call("protocols")
    away = ["score", str(out), "--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "eval.judge.max_retries=0"]
    result = runner.invoke(app, away)
    assert (
        result.exit_code == 1
        and "rea_gen.judge lacks 1 of 1 scores" in result.output
        and "go on with: sync-r1 bench score" in result.output
    )


def test_rewrites_that_nobody_asked_for_are_predicted_and_it_is_said(
    tmp_path: Path, root: Path, concept: Concept
) -> None:
    tiny_model(max_text_tokens=120).save_pretrained(tmp_path / "model")
    plan = BenchmarkPlan(root=root, concepts=["bo"], tasks=["rea_gen"], protocol=SMALL, max_items=1)
    out, judges = tmp_path / "out", Evaluators(judge=CountingJudge())
    candidate = base_model(str(tmp_path / "model"), "tokens", SMALL, device="cpu")
    with pytest.warns(UserWarning, match="rea_gen draws the model's own rewrites, so task rea is predicted too"):
        predict_all(plan, [candidate], out)
    assert {column.split(".")[0] for column in score_all(plan, [0], out, judges)[0]} == {"rea_gen"}
    truth = replace(SMALL, gen_input="truth")
    candidate = base_model(str(tmp_path / "model"), "tokens", truth, device="cpu")
    predict_all(replace(plan, protocol=truth), [candidate], tmp_path / "truth")
    assert [path.name for path in (tmp_path / "truth" / "artifacts").iterdir()] == ["generation"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_command_killed_and_run_again_leaves_the_same_files(root: Path, tmp_path: Path) -> None:
    """SIGKILL at three random moments.

    benchmarks/unifybench_kill.py does this with more of everything, from the start of the process.
    """
    torch.set_num_threads(1)
    words = [
        "run",
        "--concept",
        "bo",
        "--data",
        str(root),
        "--max-items",
        "2",
        "--tasks",
        "rec,rea,rea_gen",
        "--batch-size",
        "1",
        "--out",
    ]

    def call(out: Path) -> None:
        assert CliRunner().invoke(app, [*words, str(out)], catch_exceptions=False).exit_code == 0

    def files(out: Path) -> dict[str, str]:
        texts = {path: path.read_bytes().decode("latin1") for path in sorted(out.rglob("*")) if path.is_file()}
        return {
            path.relative_to(out).as_posix(): re.sub('"scored_at": "[^"]*"', "", text) for path, text in texts.items()
        }

    started = time.monotonic()
    call(tmp_path / "whole")
    needed, moments, killed = time.monotonic() - started, random.Random(1), 0
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                call(tmp_path / "torn")
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.3, 0.8) * needed)
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    call(tmp_path / "torn")
    assert killed and files(tmp_path / "torn") == files(tmp_path / "whole") and len(files(tmp_path / "torn")) > 15
