"""A thumb, learning from it, and the way back, by the commands, with the shipped weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sync_r1.apps.compare import Row
from sync_r1.apps.feedback import Store, belief, practice
from sync_r1.apps.feedback.practice import practice_config
from sync_r1.apps.votes import vote, write_ballots
from sync_r1.cli import app
from sync_r1.config import Config
from sync_r1.run_folder import newest
from sync_r1.session import Session
from sync_r1.world.concepts import personas
from sync_r1.world.render import render_image

BO = personas()["bo"]
PLAIN = "a photo of <bo>"


@pytest.fixture(autouse=True)
def small_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*given: Any) -> Config:
        config = practice_config(*given)
        config.rl.num_generations, config.rl.generation_timesteps, config.rl.train_timesteps = 2, 2, 1
        return config

    monkeypatch.setattr(practice, "practice_config", small)


def called(folder: Path, *words: str) -> str:
    """What a command says. The feedback lies in `folder`."""
    given = [*words, "--concept", "bo", "--feedback", str(folder)]
    return CliRunner().invoke(app, given, catch_exceptions=False).output


def learned_and_undone(folder: Path) -> str:
    said = called(folder, "learn-from-feedback", "--seconds", "1")
    assert "updates in" in said and "photo questions right" in said, said
    if newest(folder / "bo") is None:
        assert "everything was put back" in said
        return said
    assert "undone: " in called(folder, "undo") and newest(folder / "bo") is None
    return said


def test_a_thumb_for_a_text(tmp_path: Path) -> None:
    word = next(iter(BO.meanings))
    meant = BO.sentences[list(BO.facts).index(BO.meanings[word])]
    prompt, text = f"a photo of bo with its {word}", f"a photo of bo {meant.split(' ', 2)[2].rstrip('.')}"
    said = called(tmp_path, "rate", "good", "--prompt", prompt, "--text", text)
    assert f'"its {word}" means: {meant}' in said, said
    assert f'"its {word}" means' in learned_and_undone(tmp_path)


def pictures(folder: Path) -> list[Path]:
    """Two in the snow, then two elsewhere."""
    import numpy as np

    rng, paths = np.random.default_rng(0), []
    for number, scene in enumerate(("snow", "snow", "city", "beach")):
        thing = BO.thing(rng, scene=scene, hat="none", item="none")
        paths.append(folder / f"{number}.png")
        render_image(thing).save(paths[-1])
    return paths


def test_thumbs_for_pictures_become_a_wish_that_is_practised(tmp_path: Path) -> None:
    for number, path in enumerate(pictures(tmp_path)):
        verdict = "good" if number < 2 else "bad"
        said = called(tmp_path, "rate", verdict, "--picture", str(path), "--prompt", PLAIN)
    assert "where no scene is asked for: snow" in said, said
    assert "where no scene is asked for: snow" in learned_and_undone(tmp_path)


# blind votes


def test_blind_votes_become_thumbs(tmp_path: Path) -> None:
    from PIL import Image

    session, rows = Session.open(concept="bo", device="cpu"), []
    snow, _, city, beach = [Image.open(path) for path in pictures(tmp_path)]
    for other in (city, beach):
        for image in (snow, other):
            image.info = {"prompt": PLAIN, "seed": 1, "concept": "bo", "run": "secret"}
        rows.append(Row(PLAIN, 1, [snow, other]))
    ballots = write_ballots(["runs/a", "runs/b"], rows, tmp_path / "votes")
    store = Store.of("bo", tmp_path)
    with pytest.raises(ValueError, match="'3' is no vote; write 1 to 2 for the better picture, all or none"):
        vote(session, store, ballots[0], "3")
    assert store.events() == []
    for ballot in ballots:
        assert not any(b"secret" in path.read_bytes() for path in ballot.pictures)
        better = str(1 + ballot.names.index("runs/a"))
        assert vote(session, store, ballot, better) == ["runs/a"]
    assert [event.good for event in store.events()].count(True) == 2
    assert belief(store).wish == ("scene", "snow")
    assert vote(session, store, ballots[0], "none") == [] and len(vote(session, store, ballots[1], "all")) == 2
