"""Credit of words and soft tokens by hand, the film strip, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sync_r1.apps.why_page import explain, overlay, place_of, render_why
from sync_r1.apps.why_picture import drawn_at, film_strip, split_words, sureness, token_credit, word_credit
from sync_r1.cli import app
from sync_r1.config import EvalConfig, ModelConfig
from sync_r1.data import load_concept
from sync_r1.data.prompts import drawing_prompt
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model

PROMPT = "a photo of <bo> wearing a cap, in the <snow>".replace("<snow>", "snow")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("world")
    export_world(root, ["bo"])
    options = EvalConfig(batch_size=4, generation_timesteps=4, max_completion_length=6)
    settings, model = ModelConfig(num_tokens=2), tiny_model(max_text_tokens=120)
    return Session(model=model, concept=load_concept(root, "bo"), root=root, options=options, settings=settings)


def test_a_prompt_falls_into_words_with_their_little_ones() -> None:
    pieces = ["a photo", "of <bo>", "wearing a cap,", "in the snow"]
    assert split_words(PROMPT) == pieces and " ".join(pieces) == PROMPT
    assert split_words("a king of the") == ["a king", "of the"]


def test_credit_is_what_a_token_loses_without_the_word(session: Session) -> None:
    drawing = session.draw_traced(PROMPT, seed=3)[0]
    credits = word_credit(session, drawing)
    assert [one.words for one in credits] == ["a photo", "of <bo>", "wearing a cap", "in the snow"]
    tokens = session.tokens.drawing_tokens

    def logps(text: str) -> torch.Tensor:
        prompt = drawing_prompt("bo", text, tokens)
        with torch.no_grad():
            return session.model.image_logps([prompt], drawing.trace, drawing.sampling, range(4))[0][0]

    assert torch.allclose(logps(PROMPT), drawing.trace.logps[0], atol=1e-4)  # the replay is the drawing
    without = PROMPT.replace(" in the snow", "")
    assert np.allclose(credits[3].cells, (logps(PROMPT) - logps(without)).numpy(), atol=1e-4)
    everywhere = np.ones(16, dtype=bool)
    assert credits[3].share(everywhere) == pytest.approx(1) and credits[3].share(~everywhere) == 0


def test_soft_tokens_get_credit_where_the_concept_is_named(session: Session) -> None:
    drawing = session.draw_traced(PROMPT)[0]
    assert [one.token for one in token_credit(session, drawing)] == session.tokens.drawing_tokens
    with pytest.warns(UserWarning, match="does not mention"):
        other = session.draw_traced("a photo of a cat")[0]
    assert token_credit(session, other) == []


def test_the_strip_ends_in_the_picture(session: Session) -> None:
    drawing = session.draw_traced(PROMPT)[0]
    strip = film_strip(session, drawing.trace)
    assert len(strip) == 5 and strip[-1].tobytes() == drawing.image.tobytes()
    assert strip[0].tobytes() != strip[-1].tobytes()
    assert set(drawn_at(drawing)) <= set(range(4)) and (sureness(drawing) <= 0).all()


def test_too_few_or_many_words_are_said(session: Session) -> None:
    drawing = session.draw_traced("a photo of bo " + "snow " * 30)[0]
    with pytest.raises(ValueError, match="has 32 words to take away; it must have 2 to 24"):
        word_credit(session, drawing)
    notes = explain(session, "a photo of bo " + "snow " * 30).notes
    assert any(note.startswith("words: ") for note in notes) and any(note.startswith("self-check: ") for note in notes)


def test_a_map_is_bright_where_it_should_be(session: Session) -> None:
    cells = np.zeros(16)
    cells[6] = 2.0
    assert place_of(cells) == "Strongest in the top middle, row 2, column 3 of 4."
    picture = session.draw_traced(PROMPT)[0].image
    pixels = np.asarray(overlay(picture, cells, 2.0).convert("L")).astype(int)
    inside = np.zeros((16, 16), dtype=bool)
    inside[4:8, 8:12] = True
    assert pixels[inside].mean() > pixels[~inside].mean() + 20


def test_the_page_stands_alone_and_escapes(session: Session) -> None:
    html = render_why(explain(session, 'a photo of bo with a <b x>"cap"</b x>', rewrite=False), session)
    assert "<b x>" not in html and "&lt;b x&gt;" in html
    assert not re.search(r'(src|href)="(?!data:)', html) and "<script" not in html
    images = re.findall(r"<img [^>]*>", html)
    assert len(images) >= 3 + 5 and all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert "What was known before every step" in html and "Left out" in html


def test_rewards_of_a_run_are_shown(session: Session, tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    row = {"step": 4, "prompt_index": 0, "kept": True, "prompt": "with its joy", "completion": "a <cap>", "image": None}
    row |= {"preview": None, "rewards/likeness": 0.25, "text_advantage": -0.5, "image_advantage": None}
    parquet.write_table(arrow.Table.from_pylist([row, {**row, "kept": False}]), tmp_path / "step_00004.parquet")
    explanation = explain(session, PROMPT, trajectories=tmp_path)
    html = render_why(explanation, session)
    assert len(explanation.rewards) == 1 and "a &lt;cap&gt;" in html and "likeness" in html and "-0.50" in html
    empty = explain(session, PROMPT, trajectories=tmp_path / "none")
    assert any("holds no trajectories" in note for note in empty.notes)


def test_the_command_on_the_shipped_model(tmp_path: Path) -> None:
    """The hat's word is strongest in the top, and the page says what was read."""
    given = ["why", "a photo of bo wearing a crown", "--concept", "bo", "--out", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == f"page  {tmp_path}/why.html"
    html = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert re.search(r"Credit of “wearing a crown”: \+[0-9.]+ nats in all\. Strongest in the top", html)
    assert "What the model reads in its own picture" in html and "a crown" in html
