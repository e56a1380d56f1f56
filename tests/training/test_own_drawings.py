"""The image part as teacher: of the model's own drawings, of its look-alikes, and of the pictures given to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from sync_r1.config import EvalConfig, load_config
from sync_r1.distributed import Processes
from sync_r1.models.showo.model import Showo
from sync_r1.session import Session
from sync_r1.training.lookalike_prompts import described_prompts, one_word_changed
from sync_r1.training.own_drawings import LABELS, asked_after_warm_up, own_drawings
from sync_r1.training.prompts import session_prompts
from sync_r1.types import TextContext
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


@pytest.fixture()
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that are drawn; the image part is sure that every drawing shows the concept."""
    prompts_drawn: list[str] = []
    generate = Showo.generate_image

    def watched(self: Showo, prompts: list[str], *arguments: object, **options: object) -> object:
        prompts_drawn.extend(prompts)
        return generate(self, prompts, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Showo, "generate_image", watched)
    monkeypatch.setattr(Session, "margins", lambda self, images: ([1.0] * len(images), 0.1))
    return prompts_drawn


def test_the_prompts_take_turns_between_the_name_a_part_of_it_and_the_class(
    session: Session, tmp_path: Path, drawn: list[str]
) -> None:
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


def says(monkeypatch: pytest.MonkeyPatch, photos: str, others: str) -> None:
    """The session answers recognition so: about the concept's ten photos, then about other pictures."""

    def answers(self: Session, contexts: Sequence[TextContext]) -> list[str]:
        return [photos if len(contexts) == 10 else others] * len(contexts)

    monkeypatch.setattr(Session, "answers", answers)


def test_lookalikes_are_what_the_model_sees_with_one_word_of_another_picture(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, "a red dog with a star. yes", "an orange dog with a moon. no")
    prompts = described_prompts(session, 40, seed=0)
    assert prompts[::4] == ["a photo of a red dog with a star"] * 10
    assert set(prompts) - {prompts[0]} == {"a photo of an orange dog with a star", "a photo of a red dog with a moon"}
    assert prompts == described_prompts(session, 40, seed=0) != described_prompts(session, 40, seed=1)


def test_a_word_is_changed_only_where_another_text_has_one_in_its_place() -> None:
    text = "a red striped dog with a star"
    assert one_word_changed(text, ["a blue dotted mug"]) == [
        "a blue striped dog with a star",
        "a red dotted dog with a star",
        "a red striped mug with a star",
    ]
    assert one_word_changed(text, [text, "a red striped dog", ""]) == []
    assert one_word_changed("a red dog", ["an orange dog"]) == ["an orange dog"]


@pytest.mark.parametrize("answer", ["yes", "", "a red dog"])
def test_a_model_that_does_not_say_what_it_sees_draws_as_before(
    session: Session, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    says(monkeypatch, answer, answer)
    assert described_prompts(session, 6, seed=0) == []


def test_own_drawings_hold_lookalikes_of_a_model_that_looks(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[str]
) -> None:
    says(monkeypatch, "a red dog with a star. yes", "a red dog with a moon. no")
    own_drawings(session, tmp_path / "own", 12, seed=0)
    assert [session.concept.placeholder in text for text in drawn[:2]] == [True, True]
    seen, changed = "a photo of a red dog with a star", "a photo of a red dog with a moon"
    assert drawn[2:] == ([seen, changed, changed, changed] * 3)[:10]


def test_the_image_part_answers_in_place_of_the_data(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos and other pictures alike; where it is unsure, nothing is asked. Other prompts stay as they are."""
    given = session_prompts(session)
    closed = [prompt for prompt in given if prompt.options]
    margins = [-2.0, 2.0, 0.05] + [1.0] * (len(closed) - 3)
    monkeypatch.setattr(Session, "margins", lambda self, images: (margins[: len(images)], 0.1))
    options = ["rl.closed_loss=log", f"run.output_dir={tmp_path}"]
    same = asked_after_warm_up(session, load_config(None, options), given, Processes())
    assert same == given
    taught = load_config(None, [*options, "rl.closed_labels=drawing"])
    asked = asked_after_warm_up(session, taught, given, Processes())
    assert [prompt for prompt in asked if not prompt.options] == [prompt for prompt in given if not prompt.options]
    assert [prompt.answer for prompt in asked if prompt.options] == ["no", "yes"] + ["yes"] * (len(closed) - 3)
    assert [prompt.photo for prompt in asked if prompt.options] == [one.photo for one in closed if one is not closed[2]]
    assert [prompt.answer for prompt in closed] == ["yes"] * 10 + ["no"] * 10  # what the data say is not changed


def test_an_image_part_that_knows_no_concept_is_no_teacher(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "margins", lambda self, images: ([-1.0] * len(images), 0.1))
    config = load_config(None, ["rl.closed_loss=log", "rl.closed_labels=drawing", f"run.output_dir={tmp_path}"])
    with pytest.raises(ValueError, match="of 20 pictures the image part is sure of 20, and none of them is a yes"):
        asked_after_warm_up(session, config, session_prompts(session), Processes())
