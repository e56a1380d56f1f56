"""Baselines, an external chat model over real HTTP, checkpoints, the world's judge, and the commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sync_r1.bench.artifacts import Place
from sync_r1.bench.baselines import ImagePrompt, TextPrompt, name_in_words
from sync_r1.bench.candidates import base_model, chat_model, checkpoints
from sync_r1.bench.notebook import open_notebook, read_notebook
from sync_r1.bench.protocol import Protocol, load_protocol
from sync_r1.bench.run import Plan, choose_concepts, predict_all
from sync_r1.bench.scores import Outage, score_task
from sync_r1.bench.setup import build_judges
from sync_r1.bench.tasks import build_items
from sync_r1.commands.bench import app
from sync_r1.config import Config, JudgeConfig, save_config
from sync_r1.data import Concept, Conditions
from sync_r1.manifest import write_manifest
from sync_r1.session import Session
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.judge import WorldJudge
from sync_r1.world.render import Thing, render_image
from tests.helpers import tiny_model

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


def items(concept: Concept, root: Path) -> dict[str, Any]:
    return {item.task: item for item in build_items(concept, root=root, max_items=1)}


def test_told_in_words(concept: Concept, root: Path) -> None:
    some = items(concept, root)
    told = TextPrompt(tiny_model(max_text_tokens=120), concept, SMALL)
    asked = told.request(some["qa"])
    assert "<kip>" in asked.text and "name: kip" in asked.text and "bo" not in asked.text and concept.facts[0] not in asked.text
    rewriting = told.request(some["rea"])
    assert concept.facts[0].replace("<bo>", "<kip>") in rewriting.text and "<kip>" in rewriting.reference
    description = concept.info.removeprefix("<bo> is ").rstrip(".")
    assert told.request(replace(some["pure_gen"], prompt="a photo of <bo> at sea")).text == f"a photo of {description} at sea"
    assert told.request(some["rea_gen"], "a photo of <kip>, at sea").text == f"a photo of {description}, at sea"
    assert told.request(some["rea_gen"], "a photo of nobody").text == "a photo of nobody"
    assert told.request(some["rea_gen"], "x").item.truth == some["rea_gen"].truth
    published = TextPrompt(tiny_model(name_pool=[]), concept, load_protocol("unifybenchpp-2026"))
    text = published.request(replace(some["pure_gen"], prompt="a <bo> at sea")).text
    assert text == f"name: dog\ninfo: the dog is {description}.\na dog at sea"
    assert len(told.model.concepts) == 0


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


Endpoint = tuple[str, list[Any], list[range]]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A chat endpoint that answers "yes" and keeps what it was asked; the third value says which questions fail."""
    asked: list[Any] = []
    outage = [range(10, 21)]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            broken = len(asked) in outage[0]
            body = json.dumps({"choices": [{"message": {"role": "assistant", "content": " yes "}, "finish_reason": "stop"}]}).encode()
            self.send_response(500 if broken else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, outage
    server.shutdown()


def test_a_chat_model_over_http(endpoint: Endpoint, concept: Concept, root: Path, tmp_path: Path) -> None:
    url, asked, _ = endpoint
    candidate = chat_model(JudgeConfig(url=url, model="big", max_retries=0, concurrency=1), SMALL, photo=True)
    plan = Plan(root=root, concepts=["bo"], protocol=SMALL, max_items=4, batch_size=4)
    failed = predict_all(plan, [candidate], tmp_path)
    assert 0 < failed <= 11  # the outage; everything else is there
    assert predict_all(plan, [candidate], tmp_path) == 0
    folder = tmp_path / "artifacts" / "understanding"
    assert sorted(path.name for path in folder.iterdir()) == ["dense_rea", "qa", "rea", "rec", "vqa"]
    assert {json.loads(path.read_text())["prediction"] for path in folder.rglob("*_*.json")} == {"yes"}
    first = asked[0]["messages"][0]["content"]
    assert [part["type"] for part in first] == ["text", "image_url"] * 2 + ["text"]  # the photo, then the picture, then the question
    assert first[-1]["text"].startswith("name: bo\ninfo: <bo> is") and "ASSISTANT" not in first[-1]["text"]
    with pytest.raises(ValueError, match="cannot do task pure_gen; it can do rec"):
        predict_all(replace(plan, tasks=["pure_gen"]), [candidate], tmp_path)


def test_a_remote_judge_under_both_readings(endpoint: Endpoint, concept: Concept, root: Path, tmp_path: Path) -> None:
    """The endpoint answers "yes", which holds no number, and is down for a while."""
    url, asked, outage = endpoint
    outage[0] = range(3, 1000)
    options = [f"eval.judge.url={url}", "eval.judge.model=m", "eval.judge.max_retries=0", "eval.judge.concurrency=1", "eval.clip=''"]
    plan = Plan(root=root, concepts=["bo"], tasks=["dense_rea"], protocol=SMALL, max_items=14, batch_size=14)
    tiny = tmp_path / "model"
    tiny_model(max_text_tokens=120).save_pretrained(tiny)
    predict_all(plan, [base_model(str(tiny), "tokens", SMALL, device="cpu")], tmp_path / "out")
    place = Place(out=tmp_path / "out", concept="bo")
    zero = replace(SMALL, unparsable="zero")

    def scored(protocol: Protocol) -> dict[str, Any]:
        return score_task(place, "dense_rea", concept, protocol, build_judges(protocol, options), Outage())

    with pytest.warns(UserWarning):
        first = scored(zero)
    answered = first["summary"]["gpt_n"]
    assert 0 < answered < 14 and first["summary"]["gpt"] == 0.0 and not first["complete"] and first["judge"].startswith("m at 127.0.0.1")
    known = {row["item_id"] for row in first["items"] if row["metrics"]["gpt"] is not None}
    outage[0], before = range(0), len(asked)
    with pytest.warns(UserWarning, match="holds no number; by the published rule it scores 0"):
        second = scored(zero)
    assert second["complete"] and known and 0 < len(asked) - before <= 14 - answered  # equal questions are asked once
    with pytest.warns(UserWarning, match="the judge left"):
        assert scored(SMALL)["summary"]["gpt"] is None


def test_judges_follow_the_protocol() -> None:
    legacy = build_judges(load_protocol("legacy"), [])
    assert legacy.clip is not None and legacy.clip.preprocessing == "legacy" and legacy.judge_name and legacy.clip_name == "world"
    nobody = build_judges(SMALL, ["eval.clip=''", "eval.judge.url=''"])
    assert nobody.judge is None and nobody.clip is None and nobody.judge_name == ""
    with pytest.raises(ValueError, match="reads the embedded world's 32-pixel pictures only"):
        build_judges(SMALL, [], model="somewhere/else")


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


def test_old_archives_are_refused_for_new_tasks(concept: Concept, root: Path) -> None:
    old = replace(concept, conditions=Conditions(plain=["A photo of <bo>."], legacy=True), num_testing_info=0)
    plan = Plan(root=root, concepts=["bo"], protocol=SMALL)
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
    plan = Plan(root=root, concepts=["bo"], protocol=SMALL)
    candidate = chat_model(JudgeConfig(url="http://localhost:1/v1", model="m"), SMALL)
    open_notebook(tmp_path, plan, [candidate])
    open_notebook(tmp_path, replace(plan, concepts=["ana"]), [candidate])
    assert read_notebook(tmp_path)[0].concepts == ["bo", "ana"] and read_notebook(tmp_path)[1] == {0: "m"}
    with pytest.raises(ValueError, match="which differs in eval_flip; choose another --out"):
        open_notebook(tmp_path, replace(plan, protocol=replace(SMALL, eval_flip=True)), [candidate])
    with pytest.raises(ValueError, match="holds 'm' as model epoch 0, now it is 'n'"):
        open_notebook(tmp_path, plan, [replace(candidate, label="n")])
    with pytest.raises(ValueError, match=r"bench.json is missing; benchmark folders are written by"):
        read_notebook(tmp_path / "none")


def test_the_worlds_judge_of_texts_and_clauses() -> None:
    judge = WorldJudge(load_evaluator_reader())
    answers = ["It is red", "a red dog", "a blue dog", "", "nothing", "a hat"]
    assert judge.score_text_answer(["?"] * 6, ["red", "a red cat", "a red cat", "red", "nothing", "nothing"], answers) == [
        1,
        0.5,
        0,
        0,
        1,
        0,
    ]
    wanted = "a photo of <bo> wearing a crown at the beach"
    rewrites = [wanted, "<bo> at the beach, wearing a crown", "a dog wearing a crown at the beach", "<bo> wearing a crown", "<bo>"]
    assert judge.score_prompt_similarity([wanted] * 5, rewrites) == [1, 1, 0.5, 0.5, 0]
    thing = Thing(kind="dog", colour="red", pattern="plain", mark="star", hat="crown", item="apple", scene="beach", flip=False, decor=0)
    picture = torch.from_numpy(np.array(render_image(thing))).permute(2, 0, 1)[None]
    prompts = ["a photo of <bo>, wearing a crown, at the beach", "a photo of <bo>, wearing a beanie, at the beach", "a photo of <bo>"]
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
    assert set(json.loads(call("compare", out, tmp_path / "shown", "--json"))["columns"]) >= {"rec.weight", "rea.bleu", "rea_gen.clip_t"}
    assert call("score", out, "--set", "recognition=substring").count("rec.weight") == 1
    assert "pure_name" in call("protocols")
    away = ["score", str(out), "--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "eval.judge.max_retries=0"]
    result = runner.invoke(app, away)
    assert (
        result.exit_code == 1
        and "rea_gen.judge lacks 1 of 1 scores" in result.output
        and "go on with: sync-r1 bench score" in result.output
    )
