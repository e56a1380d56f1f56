"""Predictions on disk: layout, going on after an interruption, and what is never reused."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor

from sync_r1.data import Concept
from sync_r1.distributed import launched_processes
from sync_r1.session import Session
from sync_r1.unifybench.adapters import Request, TokensAdapter
from sync_r1.unifybench.fingerprint import model_fingerprint
from sync_r1.unifybench.metrics import BenchmarkJudges
from sync_r1.unifybench.predict import predict
from sync_r1.unifybench.prediction_store import PredictionStore, content_hash, read_task, records_of
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import TASKS
from sync_r1.unifybench.score import Outage
from sync_r1.unifybench.score_files import score_path, score_task
from sync_r1.unifybench.tasks import build_items
from tests.unifybench.conftest import CountingJudge, tiny_session

SMALL = Protocol(generation_timesteps=2, max_completion_length=4)


class Deadly(CountingJudge):
    """Kills its own process when it is asked about texts or whole pictures.

    Of drawings the clauses are scored by then.
    """

    def __call__(self, images: Tensor, texts: Sequence[str]) -> list[float | None]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    def score_text_answer(
        self, questions: Sequence[str], references: Sequence[str], answers: Sequence[str]
    ) -> list[float | None]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    def score_prompt_similarity(self, references: Sequence[str], rewrites: Sequence[str]) -> list[float | None]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


class Watched(TokensAdapter):
    """Counts what the model is asked."""

    asked = 0

    def answers(self, requests: Sequence[Request]) -> list[str]:
        self.asked += len(requests)
        return super().answers(requests)

    def pictures(self, requests: Sequence[Request]) -> list:  # type: ignore[type-arg]
        self.asked += len(requests)
        return super().pictures(requests)


def run(
    session: Session,
    out: Path,
    tasks: Sequence[str] = (),
    protocol: Protocol = SMALL,
    max_items: int = 2,
    adapter: type[Watched] = Watched,
) -> int:
    """Predict with a fresh adapter; how many items the model was asked."""
    watched = adapter(session, protocol)
    items = build_items(session.concept, root=session.root, tasks=tasks, max_items=max_items, protocol=protocol)
    assert predict(watched, items, PredictionStore(out=out, concept="bo"), launched_processes(), batch_size=2) == 0
    return watched.asked


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_layout_and_manifest_keys(session: Session, tmp_path: Path) -> None:
    assert run(session, tmp_path) == 18
    reading = tmp_path / "artifacts/understanding/rec/bo/token_epoch_0/model_epoch_0"
    drawing = tmp_path / "artifacts/generation/rea_gen/bo/token_epoch_0/model_epoch_0"
    manifest, drawn = (json.loads((folder / "manifest.json").read_text()) for folder in (reading, drawing))
    common = {"task", "family", "concept", "token_epoch", "model_epoch", "adapter"}
    assert common <= manifest.keys() and common <= drawn.keys() and manifest["protocol"]["name"] == "world"
    shared = {
        "source_prompt",
        "baseline_prompt",
        "tp_prefix_text",
        "conditioning_text",
        "reference_image_paths",
        "metadata",
    }
    assert {
        "item_id",
        "model_prompt",
        "scoring_query",
        "ground_truth",
        "image_path",
        "prediction",
        "prepend_system_prompt",
    } | shared <= set(manifest["items"][0])
    assert {"prompt_id", "generation_prompt", "scoring_prompt", "image_files"} | shared <= set(
        drawn["prompt_artifacts"][0]
    )
    assert all((reading / f"{item['item_id']}.json").is_file() for item in manifest["items"])
    first = drawn["prompt_artifacts"][0]
    assert (drawing / first["prompt_id"] / first["image_files"][0]).is_file() and first["image_files"] == [
        "image_000.png"
    ]
    rewrites = {
        item["source_prompt"]: item["prediction"]
        for item in records_of(read_task(PredictionStore(out=tmp_path, concept="bo"), "rea"))
    }
    assert first["metadata"]["upstream_prediction"] == rewrites[first["source_prompt"]]
    stored = first["metadata"]["clip_i_reference_image_paths"][0]  # by the way from the manifest's folder
    assert not Path(stored).is_absolute() and (drawing / stored).samefile(session.concept.test_images[0])
    assert (reading / manifest["items"][0]["image_path"]).is_file()


def test_nothing_is_done_twice_but_stale_things_are(
    session: Session, root: Path, concept: Concept, tmp_path: Path
) -> None:
    run(session, tmp_path, ["vqa", "rea", "rea_gen"])
    before = files(tmp_path)
    assert run(session, tmp_path, ["vqa", "rea", "rea_gen"]) == 0 and files(tmp_path) == before
    described = replace(session.concept, info="<bo> is blue.")
    session.concept = described  # every reading prompt changes, and so does what rea_gen draws if the rewrite does
    assert run(session, tmp_path, ["vqa", "rea"]) == 4
    assert run(session, tmp_path, ["vqa"], replace(SMALL, max_completion_length=3)) == 2
    with torch.no_grad():
        session.model.get_output_embeddings().weight[0, 0] += 1.0  # type: ignore[operator, union-attr, index]
    assert run(session, tmp_path, ["vqa"], replace(SMALL, max_completion_length=3)) == 2


def test_predictions_follow_pictures_vocabulary_and_configuration(
    session: Session, concept: Concept, tmp_path: Path
) -> None:
    """A photo that was shown but not asked about, a merge of the tokenizer, and a number of the configuration."""
    photo, item = tmp_path / "0.png", build_items(concept, tasks=["qa"], max_items=1)[0]
    Image.new("RGB", (8, 8), "red").save(photo)
    adapter = TokensAdapter(session, SMALL)
    request = replace(adapter.request(item), photos=(photo,))
    first = content_hash(request, adapter)
    Image.new("RGB", (8, 8), "blue").save(photo)
    assert content_hash(request, adapter) != first
    prints = [model_fingerprint(session.model)]
    session.model.tokenizer("a", padding="max_length", max_length=9, truncation=True)
    assert model_fingerprint(session.model) == prints[0]  # the last call leaves its padding behind
    session.model.tokenizer.add_tokens(["<more>"])
    prints.append(model_fingerprint(session.model))
    session.model.config = replace(session.model.config, max_text_tokens=12)  # type: ignore[attr-defined]
    prints.append(model_fingerprint(session.model))
    assert len(set(prints)) == 3


def test_damaged_files_are_made_again(session: Session, tmp_path: Path) -> None:
    run(session, tmp_path, ["pure_gen", "qa"])
    before = files(tmp_path)
    picture = sorted(tmp_path.rglob("image_000.png"))[0]
    picture.write_bytes(picture.read_bytes()[:40])
    sorted(tmp_path.rglob("qa_*.json"))[0].write_text('{"item_id": "qa')
    picture.with_name(".image_000.png.1.tmp").write_bytes(b"half")
    assert run(session, tmp_path, ["pure_gen", "qa"]) == 4 and files(tmp_path) == before  # both batches, whole


def test_rea_gen_needs_the_rewrites_of_the_same_model(session: Session, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"rea/bo/token_epoch_0/model_epoch_0/manifest.json is missing.*--tasks rea first"
    ):
        run(session, tmp_path, ["rea_gen"])
    truth = replace(SMALL, gen_input="truth")
    assert run(session, tmp_path / "truth", ["rea_gen"], truth) == 2
    run(session, tmp_path, ["rea"])
    with pytest.raises(ValueError, match=r"has no rewrite of .*with the same items"):
        run(session, tmp_path, ["rea_gen"], max_items=3)
    with pytest.raises(ValueError, match=r"were made under another max_completion_length"):
        run(session, tmp_path, ["rea_gen"], replace(SMALL, max_completion_length=3))
    session.concept = replace(session.concept, facts=["<bo> sings."])
    with pytest.raises(ValueError, match=r"holds rewrites of another prompt than .*predict task rea again first"):
        run(session, tmp_path, ["rea_gen"])
    with torch.no_grad():
        session.model.get_output_embeddings().weight[0, 0] += 1.0  # type: ignore[operator, union-attr, index]
    with pytest.raises(ValueError, match="are of other weights"):
        run(session, tmp_path, ["rea_gen"])


def test_duplicate_prompts_keep_their_own_truth(session: Session, tmp_path: Path) -> None:
    conditions = session.concept.conditions
    twice = replace(
        conditions, implicit=["<bo> with its joy"] * 2, explicit=["<bo> wearing a hat", "<bo> holding a key"]
    )
    session.concept = replace(session.concept, conditions=twice, num_testing_info=2)
    with pytest.warns(UserWarning, match="asks 1 prompts more than once, first '<bo> with its joy'"):
        run(session, tmp_path, ["rea", "rea_gen"])
    store = PredictionStore(out=tmp_path, concept="bo")
    assert [row["reference"] for row in records_of(read_task(store, "rea"))] == twice.explicit
    assert [row["scoring_prompt"] for row in records_of(read_task(store, "rea_gen"))] == twice.explicit


def test_lost_words_are_noted(session: Session, tmp_path: Path) -> None:
    session.model.config = replace(session.model.config, max_text_tokens=12)  # type: ignore[attr-defined]
    run(session, tmp_path, ["dense_gen"])
    notes = read_task(PredictionStore(out=tmp_path, concept="bo"), "dense_gen")["notes"]
    assert len(notes) == 2 and all("lost:" in note for note in notes)


class Broken(Watched):
    """Cannot go on."""

    def answers(self, requests: Sequence[Request]) -> list[str]:
        raise OSError("no space left")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_make_the_same_files(
    root: Path, concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real processes over gloo share the batches; when one fails the other does not wait for it."""
    torch.set_num_threads(1)
    run(tiny_session(root, concept), tmp_path / "one", max_items=3)
    here = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "ACCELERATE_USE_CPU": "true",
    }
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(100)  # ends a process that waits for ever
                (tmp_path / f"said_{rank}.json").write_text(json.dumps(half(root, concept, tmp_path, rank)))
            finally:
                os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    said = [json.loads((tmp_path / f"said_{rank}.json").read_text()) for rank in (0, 1)]
    assert files(tmp_path / "one") == files(tmp_path / "two")
    # of three items one process gets two
    assert said[0] == [
        18,
        "RuntimeError: process 1 failed: OSError: no space left",
    ]
    assert said[1] == [9, "OSError: no space left"]


def half(root: Path, concept: Concept, out: Path, rank: int) -> list[object]:
    """One of the two processes: how many items its model was asked, and how a run ends in which the second one
    breaks."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    PartialState._reset_state()
    PartialState(cpu=True)
    session = tiny_session(root, concept)
    asked = run(session, out / "two", max_items=3)
    try:
        run(session, out / "failed", ["qa"], max_items=3, adapter=Broken if rank else Watched)
    except (OSError, RuntimeError) as error:
        return [asked, f"{type(error).__name__}: {error}"]
    return [asked, "nothing"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_the_scores_are_the_same(
    root: Path, concept: Concept, judges: BenchmarkJudges, tmp_path: Path
) -> None:
    """SIGKILL ten times while predicting; what is there in the end equals an uninterrupted run, byte by byte."""
    torch.set_num_threads(1)
    started = time.monotonic()
    run(tiny_session(root, concept), tmp_path / "whole", max_items=4)
    needed, moments = time.monotonic() - started, random.Random(0)
    session, interrupted = tiny_session(root, concept), []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            try:
                run(session, tmp_path / "torn", max_items=4)
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.05, 0.35) * needed)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        interrupted.append(os.WIFSIGNALED(status))
    asked = run(session, tmp_path / "torn", max_items=4)
    assert any(interrupted) and asked < 36
    assert files(tmp_path / "torn") == files(tmp_path / "whole")  # no half-written file is left either
    judges.judge, torn = Deadly(), PredictionStore(out=tmp_path / "torn", concept="bo")
    killed = 0
    for task in TASKS:
        child = os.fork()
        if child == 0:
            try:
                score_task(torn, task, concept, SMALL, judges, Outage())
            finally:
                os._exit(0)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert not score_path(torn, task).is_file() or json.loads(score_path(torn, task).read_text())["task"] == task
    assert killed == 7  # of the nine tasks, those that ask a judge
    assert json.loads(score_path(torn, "dense_gen").read_text())["summary"]["gpt_n"] == 4
    for task in TASKS:
        judges.judge = CountingJudge()
        found = [
            score_task(PredictionStore(out=tmp_path / name, concept="bo"), task, concept, SMALL, judges, Outage())
            for name in ("whole", "torn")
        ]
        items = [[row["metrics"] for row in one.get("items") or one["prompt_results"]] for one in found]
        assert found[0]["summary"] == found[1]["summary"] and items[0] == items[1] and found[0]["complete"]
    assert not list(tmp_path.rglob("*.tmp"))
