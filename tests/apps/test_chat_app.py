"""A conversation: what an answer came from, thumbs, several things, and ways to leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.apps.chat import Chat
from sync_r1.apps.feedback import Store
from sync_r1.cli import app
from sync_r1.config import EvalConfig, ModelConfig
from sync_r1.data import load_concept
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    """Two things of one random model."""
    root = tmp_path_factory.mktemp("world")
    export_world(root, ["bo", "ana"])
    model, options = tiny_model(max_text_tokens=120), EvalConfig(batch_size=16, max_completion_length=6)
    settings = ModelConfig(num_tokens=1)
    return {
        name: Session(model=model, concept=load_concept(root, name), root=root, options=options, settings=settings)
        for name in ("bo", "ana")
    }


@pytest.fixture
def chat(things: dict[str, Session], tmp_path: Path) -> Chat:
    return Chat(things, tmp_path / "feedback", tmp_path / "drawings")


def test_the_mentioned_thing_answers_and_stays_the_topic(chat: Chat) -> None:
    with pytest.raises(ValueError, match="which thing is meant\\? name one of bo, ana"):
        chat.ask("What colour is it?")
    first = chat.ask("What colour is Ana?")
    assert first.thing == "ana" and first.asked == "What colour is <ana>?" and first.route == "info"
    assert chat.ask("What pattern is it?").thing == "ana"
    assert chat.ask("And bo?").thing == "bo"
    with pytest.raises(ValueError, match="unknown thing 'zed'; known here are bo, ana"):
        chat.ask("What is <zed>?")
    assert chat.say("/thing ana") == "talking about ana"
    with pytest.raises(ValueError, match="unknown thing 'zed'"):
        chat.say("/thing zed")


def test_every_route_says_what_it_used(chat: Chat, things: dict[str, Session]) -> None:
    reply = chat.ask("What does bo carry?")  # a word of a fact: the facts are in view
    assert reply.route == "facts" and [one.fact for one in reply.credits] == things["bo"].concept.facts
    photo = things["bo"].concept.test_images[0]
    assert chat.say(f"/picture {photo}") == f"looking at {photo}"
    seen = chat.ask("What does bo carry?")
    assert seen.route == "picture" and seen.credits[-1].fact == "the picture"
    assert chat.say("/picture") == "no picture" and chat.picture is None
    line = chat.say("/rewrite a photo of bo with its joy")
    assert chat.last is not None and chat.last.route == "rewrite" and "\n" not in line
    assert line.endswith("]") and ("used: " in line or "used nothing" in line)
    assert all(one.fact in chat.why() for one in chat.last.credits)


def test_thumbs_land_in_the_store_of_the_thing(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was answered yet"):
        chat.say("/good")
    chat.ask("What colour is ana?")
    if not chat.last or not chat.last.text.strip():
        pytest.skip("the random model wrote nothing")
    assert chat.say("/good") == f"noted in {tmp_path}/feedback/ana.jsonl"
    chat.say("/bad purple")
    good, bad, right = Store.of("ana", tmp_path / "feedback").events()
    assert (good.good, bad.good, right.good) == (True, False, True)
    assert right.output == "purple" and right.what == "answer" and right.prompt == "What colour is <ana>?"


def test_drawing_writes_a_picture(chat: Chat, tmp_path: Path) -> None:
    line = chat.say("/draw a photo of bo")
    assert chat.last is not None and chat.last.picture is not None and chat.last.picture.is_file()
    assert line.startswith(str(tmp_path / "drawings"))
    with pytest.raises(ValueError, match="say /bad alone"):
        chat.say("/bad a cat")


def test_bad_input(chat: Chat, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for line, said in {
        "": "the message is empty",
        "/nosuch": "unknown command /nosuch; there are /help, /picture",
        f"/picture {broken}": "broken.png",
        f"/picture {tmp_path}/none.png": "none.png",
        "bo? " * 2000: "at most 4000 are read",
    }.items():
        with pytest.raises((ValueError, OSError), match=said):
            chat.say(line)
    assert chat.picture is None
    with pytest.raises(ValueError, match="nothing to talk about"):
        Chat({}, tmp_path)


def test_one_line_in_one_line_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped model in a pipe: answers, an error, a thumb, the end of the input."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("black.png")
    lines = ["What colour is bo?", "/why", "What is <zed>?", "", "/good", "/picture black.png", "/quit", "never read"]
    given = ["chat", "--concept", "bo", "--concept", "ana", "--device", "cpu"]
    result = CliRunner().invoke(app, given, input="\n".join(lines), catch_exceptions=False)
    said = result.stdout.splitlines()
    assert result.exit_code == 0 and len(said) == len(lines) - 1
    assert said[0].startswith("red  [used: <bo> is a red") and "+" in said[1]
    assert said[2] == "error: unknown thing 'zed'; known here are bo, ana" and said[3].startswith("error: the message")
    assert said[4] == "noted in feedback/bo.jsonl" and said[5:] == ["looking at black.png", "bye"]
    assert Store.of("bo").events()[0].output == "red"


def test_an_unknown_thing_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="zed"):
        CliRunner().invoke(app, ["chat", "--concept", "zed"], catch_exceptions=False)
    with pytest.raises(ValueError, match="each run talks about what it learned"):
        CliRunner().invoke(app, ["chat", "--run", "a", "--run", "b", "--concept", "bo"], catch_exceptions=False)
