"""The model reads its own picture: ticks, crosses, and a repair that touches nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps.asked import asked_things
from sync_r1.apps.check import check, in_words, repair
from sync_r1.cli import app
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.concepts import personas
from sync_r1.world.render import make_pair, render_image
from tests.helpers import tiny_model

BO = personas()["bo"]
SAID = f"a photo of <bo>, {grammar.describe(BO.identity)}"


@pytest.fixture(scope="module")
def world() -> Session:
    return Session.open(concept="bo", device="cpu")


@pytest.fixture(scope="module")
def both() -> Session:
    return Session.open(concepts=["cleo", "ana"], device="cpu")


def picture(hat: str = "none", scene: str = "beach") -> Image.Image:
    return render_image(BO.thing(np.random.default_rng(0), hat=hat, item="none", scene=scene))


def test_what_a_prompt_asks_for(world: Session) -> None:
    (asked,) = asked_things(world, "a photo of bo wearing a crown at the beach")
    assert asked.values == {**BO.identity, "hat": "crown", "scene": "beach"} and (asked.side, asked.noun) == ("", "dog")
    assert asked_things(world, "a blue bo")[0].values["colour"] == "blue"  # what is said wins
    assert asked_things(world, "a cat in the snow")[0].values == {"kind": "cat", "scene": "snow"}


def test_what_a_prompt_asks_for_of_two(world: Session, both: Session) -> None:
    """Of concepts what their info lines say; of others what the prompt says; the place once, of both."""
    prompt = "a photo of cleo wearing a cap and a crown and <ana> at the beach"
    left, right, place = asked_things(both, prompt)
    assert left.values == {**personas()["cleo"].identity, "hat": "cap"} and (left.side, left.noun) == ("left", "boy")
    assert right.values == personas()["ana"].identity and (right.side, right.noun) == ("right", "man")
    assert place.values == {"scene": "beach"} and place.word("scene") == "scene"
    left, right = asked_things(world, "a photo of <bo> and a red cat with a star")
    assert left.values == BO.identity and right.values == {"kind": "cat", "colour": "red", "mark": "star"}
    assert (left.word("hat"), right.noun) == ("left hat", "cat")


def test_a_picture_of_two_is_read_and_repaired_half_by_half(both: Session) -> None:
    """The wrong hat is the right one's, so only cells above the right one are drawn again."""
    things = [
        personas()[name].thing(np.random.default_rng(0), hat=hat, item="none", scene="beach")
        for name, hat in (("cleo", "cap"), ("ana", "crown"))
    ]
    given = render_image(make_pair(*things))
    prompt = "a photo of <cleo> wearing a cap and <ana> wearing a cap at the beach"
    mended = repair(both, given, prompt, tries=2)
    (wrong,) = [one for one in mended.before if not one.right]
    assert (wrong.word, wrong.asked, wrong.read) == ("right hat", "a cap", "a crown")
    assert np.flatnonzero(wrong.cells).tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert mended.redrawn and all(one.right for one in mended.after)
    outside = np.ones((32, 32), dtype=bool)
    outside[0:8, 16:32] = False
    assert np.array_equal(np.asarray(given)[outside], np.asarray(mended.image)[outside])
    right = [one for one in check(both, given, "a photo of <cleo> and <ana> in the snow") if one.right]
    assert len(right) == 8, "all of the identities, and not the place"


def test_every_word_is_ticked_or_crossed(world: Session) -> None:
    """A true picture has no cross; one of another hat and place has two, each in its own cells."""
    prompt = f"{SAID} wearing a crown at the beach"
    assert [one.word for one in check(world, picture(hat="crown"), prompt) if not one.right] == []
    wrong = [one for one in check(world, picture(hat="cap", scene="snow"), prompt) if not one.right]
    assert [(one.word, one.asked, one.read) for one in wrong] == [
        ("hat", "a crown", "a cap"),
        ("scene", "at the beach", "in the snow"),
    ]
    assert np.flatnonzero(wrong[0].cells).tolist() == [2, 3, 4, 5, 10, 11, 12, 13]
    other = render_image(dataclasses.replace(BO.thing(np.random.default_rng(0)), kind="robot"))
    (kind,) = [one for one in check(world, other, "a photo of a dog") if one.word == "kind"]
    assert (kind.read, kind.right) == ("a robot", False)


def test_a_repair_draws_the_wrong_word_again_and_nothing_else(world: Session) -> None:
    prompt, before = f"{SAID} wearing a crown at the beach", picture(hat="cap")
    mended = repair(world, before, prompt, tries=2)
    assert mended.redrawn and all(one.right for one in mended.after) and not all(one.right for one in mended.before)
    old, new = np.asarray(before), np.asarray(mended.image)
    outside = np.ones((32, 32), dtype=bool)
    outside[0:8, 8:24] = False
    assert np.array_equal(old[outside], new[outside]) and not np.array_equal(old, new)
    again = repair(world, mended.image, prompt)
    assert not again.redrawn and again.image is mended.image


def test_where_the_name_stands_for_a_wrong_look_words_mend_it(world: Session) -> None:
    """Without training the name says nothing about the mark on the chest; the info line does."""
    thing = BO.thing(np.random.default_rng(0), hat="none", item="none", scene="beach")
    prompt = "a photo of <bo> at the beach"
    mended = repair(world, render_image(dataclasses.replace(thing, mark="heart")), prompt, tries=2)
    assert [one.word for one in mended.before if not one.right] == ["mark"]
    assert mended.drawing is not None and all(one.right for one in mended.after)
    described = f"a photo of {grammar.describe(BO.identity)} at the beach"
    assert mended.drawing.prompt == in_words(world, prompt) == described
    silent = dataclasses.replace(world, concept=dataclasses.replace(world.concept, info="<bo> is a dog."))
    assert in_words(silent, prompt) == prompt, "a dog of any colour is not bo"


def test_mistakes_are_explained(world: Session) -> None:
    with pytest.raises(ValueError, match="the prompt names <ana>; what is open here is <bo>"):
        check(world, picture(), "a photo of bo and <ana>")
    with pytest.raises(ValueError, match="asks for 3 characters"):
        check(world, picture(), "a photo of bo and a cat and a dog")
    with pytest.raises(ValueError, match="asks for nothing that can be checked"):
        check(world, picture(), "a rainbow")
    small = dataclasses.replace(world, model=tiny_model(max_text_tokens=60))
    with pytest.raises(ValueError, match="this model draws 16 × 16 pixels"):
        check(small, picture(), "a photo of bo")
    with pytest.raises(ValueError, match="no such picture"):
        check(world, "nowhere.png", "a photo of bo")


def test_command(world: Session, tmp_path: Path) -> None:
    path = tmp_path / "bo.png"
    picture(hat="cap").save(path)
    given = ["check", str(path), f"{SAID} wearing a crown", "--concept", "bo", "--device", "cpu"]
    shown = CliRunner().invoke(app, given, catch_exceptions=False).stdout.splitlines()
    assert [line for line in shown if line.startswith("✗")] == ["✗  hat     a crown, but reads a cap"]
    mended = [*given, "--repair", "--tries", "2", "--out", str(tmp_path / "out"), "--json"]
    said = json.loads(CliRunner().invoke(app, mended, catch_exceptions=False).stdout)
    assert all(one["right"] for one in said["checks"]) and Path(said["picture"]).parent == tmp_path / "out"
    with Image.open(path) as image:
        assert image.tobytes() == picture(hat="cap").tobytes()  # the file that was given stays
