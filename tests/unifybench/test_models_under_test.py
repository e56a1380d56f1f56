"""Models under test: checkpoints of a run, fresh tokens, and what a benchmark's folder holds."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sync_r1.config import Config, JudgeConfig, ModelConfig, save_config
from sync_r1.data import Concept, Conditions
from sync_r1.files import write_manifest
from sync_r1.session import Session
from sync_r1.unifybench.metrics import BenchmarkJudges
from sync_r1.unifybench.models_under_test import base_model, chat_model, checkpoints
from sync_r1.unifybench.protocol import Protocol, load_protocol
from sync_r1.unifybench.run import BenchmarkPlan, choose_concepts, predict_all, score_all
from sync_r1.unifybench.run_manifest import open_run_manifest, read_run_manifest
from tests.helpers import tiny_model
from tests.unifybench.conftest import CountingJudge, one_of_each

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


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
    some = one_of_each(concept, root)
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
        read_run_manifest(out)[0], [0], out, BenchmarkJudges()
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
    # the same places
    open_run_manifest(
        Path(os.path.relpath(tmp_path)), replace(plan, root=Path(os.path.relpath(plan.root))), [candidate]
    )
    assert read_run_manifest(Path(os.path.relpath(tmp_path)))[0].root.resolve() == plan.root.resolve()
    beside = moved / "out" / os.path.relpath(plan.root, tmp_path.parent)
    assert read_run_manifest(moved / "out" / "x")[0].root.resolve() == beside.resolve()  # data that moved along
    with pytest.raises(ValueError, match="which differs in eval_flip; choose another --out"):
        open_run_manifest(tmp_path, replace(plan, protocol=replace(SMALL, eval_flip=True)), [candidate])
    with pytest.raises(ValueError, match="holds 'm' as model epoch 0, now it is 'n'"):
        open_run_manifest(tmp_path, plan, [replace(candidate, label="n")])
    with pytest.raises(ValueError, match=r"bench.json is missing; benchmark folders are written by"):
        read_run_manifest(tmp_path / "none")


def test_rewrites_that_were_not_asked_for_are_predicted_and_it_is_said(
    tmp_path: Path, root: Path, concept: Concept
) -> None:
    tiny_model(max_text_tokens=120).save_pretrained(tmp_path / "model")
    plan = BenchmarkPlan(root=root, concepts=["bo"], tasks=["rea_gen"], protocol=SMALL, max_items=1)
    out, judges = tmp_path / "out", BenchmarkJudges(judge=CountingJudge())
    candidate = base_model(str(tmp_path / "model"), "tokens", SMALL, device="cpu")
    with pytest.warns(UserWarning, match="rea_gen draws the model's own rewrites, so task rea is predicted too"):
        predict_all(plan, [candidate], out)
    assert {column.split(".")[0] for column in score_all(plan, [0], out, judges)[0]} == {"rea_gen"}
    truth = replace(SMALL, gen_input="truth")
    candidate = base_model(str(tmp_path / "model"), "tokens", truth, device="cpu")
    predict_all(replace(plan, protocol=truth), [candidate], tmp_path / "truth")
    assert [path.name for path in (tmp_path / "truth" / "artifacts").iterdir()] == ["generation"]
