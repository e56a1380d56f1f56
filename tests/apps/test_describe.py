"""What a thing looks like, told by the drawing half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps import describe
from sync_r1.apps.describe import Description, describe_photos
from sync_r1.apps.facts import unknown_thing
from sync_r1.cli import app
from sync_r1.session import Session
from sync_r1.world.concepts import personas
from sync_r1.world.grammar import describe as spelled
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    return Session.open(concept="rex", device="cpu").concept.train_images


@pytest.fixture(scope="module")
def unknown() -> Session:
    return unknown_thing("creature", device="cpu")  # no kind of the world, so that the kind is found as well


def test_the_look_of_photos_is_found(unknown: Session, photos: list[Path]) -> None:
    found = describe_photos(unknown, photos)
    assert found[0].text == spelled(personas()["rex"].identity)
    assert [one.nats for one in found] == sorted((one.nats for one in found), reverse=True)
    assert len({one.text for one in found}) == len(found) > 20


def test_other_models_choose_among_what_they_write(
    unknown: Session, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text once, by the mean log-probability of a photo; nothing is a text."""
    session = Session(model=tiny_model(max_text_tokens=60), concept=unknown.concept)
    monkeypatch.setattr(Session, "answers", lambda self, contexts: ["a cat", " ", "a dog", "a cat"])
    asked: list[str] = []

    def token_logps(model: object, prompt: str, codes: torch.Tensor, size: int) -> torch.Tensor:
        asked.append(prompt)
        return torch.full((4, 2), -1.0 if "dog" in prompt else -2.0)

    monkeypatch.setattr(describe, "token_logps", token_logps)
    assert describe_photos(session, photos[:4]) == [Description("a dog", -2.0), Description("a cat", -4.0)]
    assert asked == ["a photo of a cat", "a photo of a dog"]
    monkeypatch.setattr(Session, "answers", lambda self, contexts: [""])
    with pytest.raises(ValueError, match="writes nothing about any of 1 photos; describe it yourself"):
        describe_photos(session, photos[:1])
    with pytest.raises(ValueError, match="there is no photo to describe"):
        describe_photos(session, [])


def test_command(photos: list[Path], tmp_path: Path) -> None:
    given = ["concept", "describe", *map(str, photos), "--class", "bear", "--device", "cpu"]
    shown = CliRunner().invoke(app, given, catch_exceptions=False).stdout.splitlines()
    assert len(shown) == 5 and shown[0] == f"  0.00  {spelled(personas()['rex'].identity)}"
    said = json.loads(CliRunner().invoke(app, [*given, "--json"], catch_exceptions=False).stdout)
    assert said[0]["text"] == spelled(personas()["rex"].identity) and said[0]["nats"] < 0
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    Image.new("RGB", (32, 32)).save(tmp_path / "fine.png")
    refused = CliRunner().invoke(
        app, ["concept", "describe", str(tmp_path / "fine.png"), str(broken), "--class", "bear"]
    )
    assert "broken.png" in str(refused.exception)
