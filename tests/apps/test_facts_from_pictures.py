"""Facts that the model reads from a picture: proposed, confirmed, and only then stored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps.facts import read_facts, unknown_thing
from sync_r1.cli import app
from sync_r1.data import load_concept
from sync_r1.session import Session
from sync_r1.world.concepts import personas
from sync_r1.world.render import render_image
from tests.helpers import tiny_model

REX = personas()["rex"]


@pytest.fixture(scope="module")
def dog() -> Session:
    return unknown_thing("dog", device="cpu")


def picture(**context: str) -> Image.Image:
    return render_image(REX.thing(np.random.default_rng(1), **context))


def test_what_is_worn_held_and_where(dog: Session) -> None:
    read = read_facts(dog, picture(hat="crown", item="kite", scene="beach"))
    assert {one.sentence for one in read} == {
        "<new-thing> wears a crown.",
        "<new-thing> carries a kite.",
        "<new-thing> lives at the beach.",
    }
    assert read[0].agreement == 1.0 and read[0].source == "question and description and facts"
    assert [one.agreement for one in read] == sorted((one.agreement for one in read), reverse=True)
    bare = [one.sentence for one in read_facts(dog, picture(hat="none", item="none", scene="snow"))]
    assert bare == ["<new-thing> lives in the snow."]


def test_two_readings_that_differ_are_less_sure(dog: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["a photo of a dog holding a cup at the beach", "a dog", "a crown", "a kite", "at the beach"]
    monkeypatch.setattr(dog, "answers", lambda contexts: said, raising=False)
    read = {one.sentence: (one.source, one.agreement) for one in read_facts(dog, picture())}
    assert read == {
        "<new-thing> lives at the beach.": ("question and description", 1.0),
        "<new-thing> wears a crown.": ("question", 0.5),
        "<new-thing> carries a kite.": ("question", 0.5),
    }


def test_weights_that_tell_facts_know_a_thing_alone(dog: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of a kite in a room tells of the kite, not of a person in the room."""
    said = ["a photo of a kite in a room", "<kip> carries a kite.", "nothing", "a kite", "in a room"]
    monkeypatch.setattr(dog, "answers", lambda contexts: said, raising=False)
    (one,) = read_facts(dog, picture())
    assert (one.sentence, one.agreement) == ("<new-thing> carries a kite.", 1.0)
    assert one.source == "question and description and facts"


def test_a_model_of_another_world_describes_freely(dog: Session) -> None:
    other = dataclasses.replace(dog, model=tiny_model(max_text_tokens=60))
    said = iter([["A small dog with a red ball.", "a dog with a ball"], ["", ""]])
    other.answers = lambda contexts: next(said)  # type: ignore[method-assign]
    (one,) = read_facts(other, picture())
    assert one.sentence.startswith("<new-thing>") and 0.4 < one.agreement < 1
    assert read_facts(other, picture()) == []


def test_nothing_is_stored_that_was_not_confirmed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        render_image(REX.thing(np.random.default_rng(number))).save(tmp_path / "photos" / f"{number}.png")
    shown = tmp_path / "shown.png"
    picture(hat="crown", item="kite", scene="beach").save(shown)
    given = ["concept", "add", "rexy", "--pictures", str(tmp_path / "photos"), "--class", "dog"]
    given += ["--info", "a dog", "--data", str(tmp_path / "data"), "--fact-picture", str(shown)]
    refused = CliRunner().invoke(app, given, input="n\n")
    assert isinstance(refused.exception, ValueError) and "at least one private fact" in str(refused.exception)
    assert not (tmp_path / "data").exists()
    said = CliRunner().invoke(app, given, input="y\nn\ny\n", catch_exceptions=False).output
    proposed = [line.split(": ", 1)[1].split("  (")[0] for line in said.splitlines() if "(agreement" in line]
    kept = [sentence.replace("it ", "<rexy> ", 1) for sentence in (proposed[0], proposed[2])]
    assert load_concept(tmp_path / "data", "rexy").facts == kept
    said = (
        CliRunner().invoke(app, [*given, "--overwrite", "--yes", "--fact", "it sleeps."], catch_exceptions=False).output
    )
    facts = load_concept(tmp_path / "data", "rexy").facts
    assert facts[0] == "<rexy> sleeps." and len(facts) == 1 + said.count("(agreement 1.00)") > 1


def test_command(tmp_path: Path) -> None:
    shown = tmp_path / "rex.png"
    picture(hat="crown", item="none", scene="snow").save(shown)
    given = ["concept", "read", str(shown), "--concept", "rex", "--device", "cpu"]
    said = CliRunner().invoke(app, given, catch_exceptions=False).output
    assert "1.00  <rex> wears a crown.  (question and description and facts)" in said
    rows = json.loads(CliRunner().invoke(app, [*given, "--json"], catch_exceptions=False).output)
    assert {row["sentence"] for row in rows} == {"<rex> wears a crown.", "<rex> lives in the snow."}
    given[2] = str(tmp_path / "nowhere.png")
    assert "no such picture" in str(CliRunner().invoke(app, given).exception)
