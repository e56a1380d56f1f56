"""Of a picture of two, the half that a question is about."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps.chat import Chat
from sync_r1.apps.closer import closer, closer_all, half, the_one_meant
from sync_r1.apps.studio.talk import is_it
from sync_r1.cli import app
from sync_r1.serve.texts import Ask, contexts_of
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.concepts import personas
from sync_r1.world.render import IDENTITY, Pair, make_pair, render_image
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def ana() -> Session:
    return Session.open(concept="ana", device="cpu")


def pair(first: str, second: str) -> Pair:
    rng = np.random.default_rng(0)
    things = (personas()[name].thing(rng, hat=hat) for name, hat in ((first, "cap"), (second, "crown")))
    return make_pair(*things)


def test_a_half_stands_in_the_middle_of_a_square() -> None:
    """Its outer columns go on beside it; of a wide picture only the square that a model sees is halved."""
    columns = np.arange(8, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(columns[None, :, None], (8, 8, 3)).copy())
    assert np.asarray(half(image, "left"))[0, :, 0].tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    assert np.asarray(half(image, "right"))[5, :, 2].tolist() == [4, 4, 4, 5, 6, 7, 7, 7]
    wide = Image.new("RGB", (16, 8), (9, 9, 9))
    wide.paste(image, (4, 0))
    assert half(wide, "right").tobytes() == half(image, "right").tobytes()


@pytest.mark.parametrize(("first", "second", "side"), [("ana", "bo", "left"), ("bo", "ana", "right")])
def test_a_question_is_asked_about_the_one_that_is_meant(ana: Session, first: str, second: str, side: str) -> None:
    picture = pair(first, second)
    image = render_image(picture)
    seen = closer(ana, "What is ana wearing?", image)
    assert isinstance(seen, Image.Image) and seen.tobytes() == half(image, side).tobytes()
    thing = getattr(picture, side)
    for attribute in (*IDENTITY, "hat"):
        question = grammar.QUESTIONS[attribute].format(name="<ana>")
        truth = grammar.answer(attribute, getattr(thing, attribute))
        assert ana.ask(question, closer(ana, question, image)) == truth, question


def test_other_questions_are_about_the_whole_picture(ana: Session) -> None:
    two, alone = render_image(pair("ana", "bo")), render_image(personas()["ana"].thing(np.random.default_rng(0)))
    for question in (
        "Is ana in the picture",
        "which side is ana on?",
        "What is in the picture?",
        "Is ana beside <bo>?",
    ):
        assert closer(ana, question, two) is two, question
    assert closer(ana, "What is ana wearing?", alone) is alone
    several = closer_all(ana, ["What is ana wearing?", "Is ana in this picture?", "What is ana?"], [two, two, alone])
    assert isinstance(several[0], Image.Image) and several[0].tobytes() == half(two, "left").tobytes()
    assert several[1] is two and several[2] is alone
    small = dataclasses.replace(ana, model=tiny_model(max_text_tokens=60))
    assert closer(small, "What is ana wearing?", two) is two, "a model of other pictures is not asked how many it sees"


def test_a_server_looks_closer(ana: Session) -> None:
    """Each of a batch at its own picture; a question without one has none."""
    two = render_image(pair("bo", "ana"))
    asked = [
        Ask("ana", question, picture, (0,), 0.0, None, (), False)
        for question, picture in (("What is ana wearing?", two), ("What is ana?", None), ("Who is here?", two))
    ]
    worn, kind, who = contexts_of(ana, asked)
    assert kind.image is None and worn.image is not None and who.image is not None
    assert torch.equal(worn.image, ana.encode([half(two, "right")])[0])
    assert torch.equal(who.image, ana.encode([two])[0])


def test_it_is_recognised_beside_another(ana: Session, tmp_path: Path) -> None:
    """By drawing, a picture of two is no picture of one: the half that is more like it counts."""
    paths = [tmp_path / "both.png", tmp_path / "others.png"]
    for path, first in zip(paths, ("ana", "chai"), strict=True):
        render_image(pair("bo", first)).save(path)
    assert [one.present for one in ana.recognitions(paths, "drawing")] == [False, False]
    nearer = the_one_meant(ana, paths)
    assert [one.present for one in ana.recognitions(nearer, "drawing")] == [True, False]
    assert the_one_meant(ana, []) == []
    given = ["recognize", *map(str, paths), "--how", "both", "--concept", "ana", "--device", "cpu", "--json"]
    said = json.loads(CliRunner().invoke(app, given, catch_exceptions=False).stdout)
    assert [one["present"] for one in said] == [True, False]
    assert is_it(ana, paths[0]).found.present


def test_a_chat_looks_closer(ana: Session, tmp_path: Path) -> None:
    path = tmp_path / "both.png"
    render_image(pair("bo", "ana")).save(path)
    chat = Chat({"ana": ana}, tmp_path)
    chat.say(f"/picture {path}")
    assert chat.ask("What is ana wearing?").text == "a crown"
    assert chat.last is not None and chat.last.picture == path
