"""The model's own drawings become questions, answered by its drawing half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sync_r1.config import EvalConfig
from sync_r1.models.showo.model import Showo
from sync_r1.session import Session
from sync_r1.training.own_drawings import LABELS, own_drawings
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture
def session(tmp_path: Path) -> Session:
    from sync_r1.data import load_concept

    export_world(tmp_path / "data", ["bo"])
    options = EvalConfig(generation_timesteps=2, batch_size=4)
    concept = load_concept(tmp_path / "data", "bo")
    return Session(model=tiny_model(0, max_text_tokens=64), concept=concept, root=tmp_path / "data", options=options)


def test_sure_drawings_are_asked_about_and_unsure_ones_left_out(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    margins = [0.9, -0.8, 0.05, -0.05, 0.4, -2.0]
    monkeypatch.setattr(Session, "margins", lambda self, images: (margins[: len(images)], 0.1))
    asked = own_drawings(session, tmp_path / "own", 6, seed=3)
    assert [prompt.answer for prompt in asked] == ["yes", "no", "yes", "no"]
    assert [prompt.photo.name for prompt in asked if prompt.photo] == ["0.png", "1.png", "4.png", "5.png"]
    assert all(prompt.options == ("yes", "no") and "<bo>" in prompt.prompt for prompt in asked)
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == sorted(
        ["0.png", "1.png", "4.png", "5.png", LABELS]
    )


def test_the_prompts_take_turns_between_the_name_a_part_of_it_and_the_class(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    generate = Showo.generate_image

    def watched(self: Showo, prompts: list[str], *arguments: object, **options: object) -> object:
        drawn.extend(prompts)
        return generate(self, prompts, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Showo, "generate_image", watched)
    monkeypatch.setattr(Session, "margins", lambda self, images: ([1.0] * len(images), 0.1))
    own_drawings(session, tmp_path / "own", 9, seed=0)
    tokens = session.tokens.drawing_tokens
    for number, text in enumerate(drawn):
        held = [token for token in tokens if token in text]
        if number % 3 == 2:
            assert text == f"a photo of a {session.concept.class_noun}"
        else:
            assert text.endswith("<bo>") and (held == list(tokens)) == (number % 3 == 0)


def test_a_complete_folder_is_read_and_an_incomplete_one_drawn_anew(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "7.png")
    (folder / LABELS).write_text(json.dumps({"7.png": "no"}))
    assert [(prompt.answer, prompt.photo) for prompt in own_drawings(session, folder, 6, 0)] == [
        ("no", folder / "7.png")
    ]
    (folder / LABELS).unlink()
    first = own_drawings(session, folder, 6, 0)
    assert first == own_drawings(session, folder, 6, 0) and all(prompt.photo != folder / "7.png" for prompt in first)
