"""Weights, concept files, states and indices that used to be taken as they are, or ended in an error of another
kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sync_r1.files import MANIFEST, manifest_problems
from sync_r1.models.concept_tokens import add_concept, load_concept, save_concept
from sync_r1.models.loading import load_model
from sync_r1.models.weight_files import WeightFiles
from sync_r1.rl.trainer_state import STATE_FILE, SyncState
from sync_r1.scorers.chat.cache import ReplyCache
from tests.helpers import tiny_model


@pytest.mark.parametrize("place", ["model.safetensors", "magvit/model.safetensors"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda value: value.fill_(float("nan")), "NaN or infinite"),
        (lambda value: value.to(torch.int32), "numbers of torch.int32"),
    ],
)
def test_weights_must_be_finite_floats(tmp_path: Path, place: str, broken, message: str) -> None:
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / place)
    name = next(name for name in weights if name.endswith("weight"))
    save_file({**weights, name: broken(weights[name].clone())}, tmp_path / place)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("config.json", "[]"),
        ("config.json", '{"model_type": "showo", "hidden_size": "32"}'),
        ("config.json", '{"model_type": "showo", "concepts": [3]}'),
        ("tokenizer.json", '{"model": 3}'),
        ("magvit/config.json", '{"channels": 1e400}'),
    ],
)
def test_a_broken_file_beside_the_weights_is_named(tmp_path: Path, place: str, text: str) -> None:
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / place).write_text(text)
    with pytest.raises(ValueError, match=place):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "details", [{"tokens": "["}, {"tokens": '["<|endoftext|>"]'}, {"read": "x"}, {"read": "-1"}, {"draw": "9"}]
)
def test_details_of_a_concept_file_are_checked(tmp_path: Path, details: dict[str, str]) -> None:
    model, path = tiny_model(), tmp_path / "bo.safetensors"
    add_concept(model, "bo", "robot", num_tokens=1)
    save_concept(model, "bo", path)
    save_file(load_file(path), path, metadata={"name": "bo", "tokens": '["<token_0>"]', **details})
    with pytest.raises(ValueError, match=r"bo\.safetensors: "):
        load_concept(tiny_model(), path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", 3, None, ["x"]])
def test_an_index_names_files_beside_it(tmp_path: Path, name: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ValueError, match="is no index of shards"):
        WeightFiles(tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", '{"seed": "1"}', '{"seed": 1, "step": -1}', "[" * 50_000, '{"seed": 1, "scaling": 3}']
)
def test_a_state_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(ValueError, match="is no checkpoint of this trainer"):
        SyncState.load(tmp_path)


def test_a_manifest_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    for name in ("../secret", str(tmp_path / "secret")):
        (folder / MANIFEST).write_text(json.dumps({"files": {name: {"sha256": "0", "bytes": 1}}}))
        assert manifest_problems(folder)[0].endswith("lies outside the folder")


def test_a_pipe_in_the_cache_counts_as_absent(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    cache.path("abc").parent.mkdir()
    os.mkfifo(cache.path("abc"))
    assert cache.get("abc") is None
