"""Several concepts in one model: each mentioned, each with the tokens of its own run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps.asked import asked_things
from sync_r1.apps.chat import Chat
from sync_r1.apps.together import add, open_together
from sync_r1.cli import app
from sync_r1.config import Config, EvalConfig, save_config
from sync_r1.data import Concept, load_concept
from sync_r1.data.prompts import look_of, with_looks
from sync_r1.files import write_manifest
from sync_r1.models.concept_tokens import concept_row_ids, copy_concept
from sync_r1.run_folder import record_data
from sync_r1.serve.catalogue import sources_of
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model

FAST = EvalConfig(batch_size=3, generation_timesteps=2, max_completion_length=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["rex", "cleo"])
    return folder


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each concept, whose soft tokens have numbers of their own: all 1 for rex, all 2 for cleo."""
    found = {}
    for number, name in enumerate(("rex", "cleo"), 1):
        folder = tmp_path_factory.mktemp("runs") / name
        checkpoint = folder / "checkpoints" / "step_00001"
        config = Config()
        config.data.root, config.data.concepts = str(root), [name]
        config.model.num_tokens, config.eval = 2, FAST
        session = Session(model=tiny_model(max_text_tokens=60), concept=concept(root, name), settings=config.model)
        ids = concept_row_ids(session.model, name).tolist()
        rows = session.model.read_rows(ids)
        rows.embed[1:] = float(number)
        session.model.write_rows(ids, rows)
        session.model.save_pretrained(checkpoint)
        save_config(config, checkpoint / "config.yaml")
        write_manifest(checkpoint)
        record_data(folder, root)
        found[name] = folder
    return found


def concept(root: Path, name: str) -> Concept:
    return load_concept(root, name, allow_empty_facts=True)


def test_a_prompt_may_mention_both(root: Path) -> None:
    session = Session(
        model=tiny_model(max_text_tokens=60), concept=concept(root, "rex"), others=[concept(root, "cleo")], options=FAST
    )
    text = session.mention("a photo of Rex and cleo at the beach")
    assert text == "a photo of <rex> and <cleo> at the beach"
    first, second = (tokens.drawing_tokens for tokens in session.model.concepts)
    assert session.with_tokens(text) == f"a photo of {''.join(first)}<rex> and {''.join(second)}<cleo> at the beach"
    assert not set(first) & set(second)
    (drawn,) = session.draw("rex and cleo", seed=3)
    assert drawn.info["prompt"] == "<rex> and <cleo>"
    assert drawn.info["concept"] == "rex+cleo"
    with pytest.warns(UserWarning, match="does not mention <cleo>"):
        session.draw("rex in the snow")


def test_every_concept_brings_the_tokens_of_its_run(root: Path, runs: dict[str, Path]) -> None:
    session = open_together(runs=list(runs.values()), device="cpu")
    assert [tokens.name for tokens in session.model.concepts] == ["rex", "cleo"]
    for number, name in enumerate(runs, 1):
        rows = session.model.read_rows(concept_row_ids(session.model, name).tolist())
        assert torch.all(rows.embed[1:] == number), name
    assert session.model.concepts[0].pool_name != session.model.concepts[1].pool_name
    names = [session.model.read_rows(concept_row_ids(session.model, name)[:1].tolist()).embed for name in runs]
    assert not torch.equal(*names), "both took the same name of the pool in their own runs"
    alone = Session.open(checkpoint=runs["rex"], device="cpu")
    prompt = ["a photo of <rex>"]
    assert torch.equal(session.pictures(prompt, [4]), alone.pictures(prompt, [4])), "the first is as it is alone"


def test_concepts_of_the_data_start_as_new_tokens(root: Path) -> None:
    session = Session.open(data=root, concepts=["rex", "cleo"], device="cpu", options=FAST)
    assert session.concept.name == "rex" and [other.name for other in session.others] == ["cleo"]
    assert {tokens.name for tokens in session.model.concepts} == {"rex", "cleo"}
    assert open_together(["cleo"], data=root, device="cpu").concept.name == "cleo"


def test_a_concept_may_be_named_as_its_owner_writes_it(root: Path, tmp_path: Path) -> None:
    """In any letter case and by its id as well, for a picture of one thing and of several."""
    data = tmp_path / "data"
    shutil.copytree(root, data)
    for name, called in (("rex", "猫咪"), ("cleo", "New York")):
        info = data / "concept" / "train" / name / "info.json"
        info.write_text(json.dumps({**json.loads(info.read_text(encoding="utf-8")), "display_name": called}))
    assert open_together(["猫咪"], data=data, device="cpu").concept.name == "rex"
    session = open_together(["new  york", "rex"], data=data, device="cpu")
    assert [session.concept.name, session.others[0].name] == ["cleo", "rex"]
    assert session.mention("New York and 猫咪 at the beach") == "<cleo> and <rex> at the beach"
    with pytest.raises(ValueError, match="the concepts are 猫咪, rex; name every concept once"):
        open_together(["猫咪", "rex"], data=data, device="cpu")
    talk = Chat({"cleo": session}, tmp_path)
    assert talk.say("/thing New York") == "talking about cleo"
    assert [source.concept for source in sources_of([], data=str(data), concepts=["new york"])] == ["cleo"]


def test_mistakes_are_explained(root: Path, runs: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="the concepts are rex, rex; name every concept once"):
        open_together(["rex", "rex"], data=root, device="cpu")
    with pytest.raises(ValueError, match="rex is here already"):
        open_together(runs=[runs["rex"], runs["rex"]], device="cpu")
    with pytest.raises(ValueError, match="no run learned bo; the runs learned cleo, rex"):
        open_together(["bo", "rex"], runs=list(runs.values()), device="cpu")
    session = Session.open(checkpoint=runs["rex"], device="cpu")
    with pytest.raises(ValueError, match="the model has no concept 'cleo'"):
        add(session, concept(root, "cleo"), tiny_model())
    wide = tiny_model(hidden_size=64)
    Session(model=wide, concept=concept(root, "cleo"))
    with pytest.raises(ValueError, match="this model needs"):
        copy_concept(session.model, wide, "cleo")


def test_command(root: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    given = ["draw", "rex and cleo at the beach", "--out", str(tmp_path), "--device", "cpu"]
    for run in runs.values():
        given += ["--run", str(run)]
    said = CliRunner().invoke(app, given, catch_exceptions=False).stdout.split()
    with Image.open(said[-1]) as image:
        assert image.info["prompt"] == "<rex> and <cleo> at the beach"
    refused = CliRunner().invoke(app, [*given, "--rewrite"])
    assert "spells out the facts of one concept" in str(refused.exception)


def test_two_are_drawn_with_their_looks(root: Path) -> None:
    """What a name was taught alone does not keep two apart: a prompt of several says how each looks, where it fits."""
    concepts = [
        dataclasses.replace(concept(root, name), info=f"<{name}> is {look}. It sleeps.")
        for name, look in (("rex", "a brown bear"), ("cleo", "a cat"))
    ]
    session = Session(model=tiny_model(max_text_tokens=60), concept=concepts[0], others=concepts[1:], options=FAST)
    first, second = ("".join(tokens.drawing_tokens) for tokens in session.model.concepts)
    assert session.with_tokens("<rex> and <cleo>") == f"{first}<rex>, a brown bear and {second}<cleo>, a cat"
    assert session.with_tokens("<rex> in the snow") == f"{first}<rex> in the snow"
    assert with_looks("a brown bear <rex> and <cleo>, a cat", concepts) == "a brown bear <rex> and <cleo>, a cat"
    long = "<rex> and <cleo> " + "x " * 40
    assert ", a cat" not in session.with_tokens(long), "there is no room for it"
    assert look_of(dataclasses.replace(concepts[0], info="Rex likes honey.")) == ""


def test_two_stand_beside_each_other_and_hold_nothing(root: Path) -> None:
    """Of the shipped model: what no "and" joins would become one, and what is held has no room."""
    session = Session.open(data=root, concepts=["rex", "cleo"], device="cpu")
    for prompt in ("rex with cleo", "rex & cleo", "rex, cleo"):
        with pytest.raises(ValueError, match='the prompt names <rex> and <cleo> without "and" between them'):
            session.draw(prompt)
        with pytest.raises(ValueError, match='without "and" between them'):
            asked_things(session, prompt)
    with pytest.warns(UserWarning, match="in a picture of two nothing is held, so it is drawn without a kite"):
        session.draw("rex holding a kite and cleo")
    chat = Chat({"rex": session, "cleo": dataclasses.replace(session, concept=session.others[0], others=[])}, root)
    with pytest.raises(ValueError, match="the message names rex, cleo; talk about one at a time"):
        chat.say("/draw rex and cleo in the snow")


def test_runs_are_all_on_record(runs: dict[str, Path]) -> None:
    session = open_together(runs=list(runs.values()), device="cpu")
    assert [part.split("/")[-2] for part in session.run.split(", ")] == ["rex", "cleo"]
