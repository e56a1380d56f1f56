"""Recognition by drawing: the weights, the threshold and the votes by hand; both families; the session and command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sync_r1.cli import app
from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.data.warm_up_items import negative_images
from sync_r1.recognition import (
    HOW,
    UNSURE,
    calibrate,
    combine,
    recognised,
    token_evidence,
    token_logps,
    token_weights,
)
from sync_r1.session import Session
from sync_r1.types import Sampling
from sync_r1.world.export import export_world
from tests.helpers import benchmark, tiny_model
from tests.models.janus_toys import tiny_janus


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


def make(root: Path, model: object = None) -> Session:
    options = EvalConfig(batch_size=7, max_completion_length=5)
    model = model or tiny_model(max_text_tokens=60)
    return Session(model=model, concept=load_concept(root, "bo"), root=root, options=options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def session(root: Path) -> Session:
    return make(root)


def test_weights_by_hand() -> None:
    """Gains of 2, 0 (never negative) and 1; the photos' spread is 0, 0 and 0.5: 2/0.5, 0, 1/1 → 0.8, 0, 0.2."""
    photos = torch.tensor([[-1.0, -5.0, -1.0], [-1.0, -5.0, -2.0]])
    pool = torch.tensor([[-2.0, -2.0, -2.0], [-4.0, -2.0, -3.0]])
    torch.testing.assert_close(token_weights(photos, pool), torch.tensor([0.8, 0.0, 0.2]))
    assert (token_weights(pool - 5, pool) == 0).all()  # nothing tells them apart
    named, plain = torch.tensor([[-1.0, -9.0]]), torch.tensor([[-2.0, -4.0]])
    torch.testing.assert_close(token_evidence(named, plain), torch.tensor([[0.4, -6.2]]))  # −1 + 0.7·2, −9 + 0.7·4


def test_margins_are_measured_in_photos() -> None:
    """Token 0 tells them apart, token 1 does not. Photos score 3 and 5, others −1 and −3: 1 lies in the middle."""
    photos, pool = torch.tensor([[3.0, 1.0], [5.0, 1.0]]), torch.tensor([[-1.0, 1.0], [-3.0, 1.0]])
    learned = calibrate(photos, pool)
    assert learned.weights.tolist() == [1.0, 0.0] and learned.threshold == 1.0 and learned.scale == 3.0
    assert learned.margins(photos).mean().item() == pytest.approx(1.0)
    assert learned.margins(pool).tolist() == pytest.approx([-2 / 3, -4 / 3])
    near = calibrate(photos, torch.tensor([[8.0, 1.0], [-9.0, 1.0]]))  # one other picture scores above all photos
    assert near.threshold == 5.5 and near.scale == pytest.approx(0.45)  # a tenth of the distance of the means, 4.5
    assert near.unsure == pytest.approx(2.5 / 0.45) and learned.unsure == UNSURE
    assert calibrate(pool, photos).margins(photos).tolist() == [0.0, 0.0]  # it cannot draw the concept: no vote
    with pytest.raises(ValueError, match="1 photos of the concept to learn from; it needs at least 2"):
        calibrate(photos[:1], pool)
    with pytest.raises(ValueError, match="0 other pictures to learn from"):
        calibrate(photos, pool[:0])


def test_votes() -> None:
    assert combine(False, 0.4, 0.3) and not combine(True, -0.4, 0.3)  # the drawing is sure
    assert combine(True, -0.2, 0.3) and not combine(False, 0.2, 0.3)  # it is not
    assert recognised("yes", -0.2, unsure=0.3).present and not recognised("yes", -0.2, unsure=0.1).present
    assert recognised("Yes.", None).present and recognised("Yes.", None).margin is None
    assert not recognised("a dog", None).present and not recognised("yes and no", None).words
    assert recognised(None, 0.2).present and recognised(None, 0.2).answer == "by drawing yes, margin +0.20"
    both = recognised("no", 2.0)
    assert both.present and both.words is False and both.answer == "no; by drawing yes, margin +2.00"


@pytest.mark.parametrize("family", ["showo", "janus"])
def test_every_token_gets_its_log_probability_in_one_pass(family: str, root: Path) -> None:
    """Janus: as when it draws. Show-o: half of them with the other half in view."""
    model = tiny_model(3) if family == "showo" else tiny_janus()
    codes = torch.randint(model.codebook_size, (5, model.num_image_tokens), generator=torch.Generator().manual_seed(0))
    found = token_logps(model, "a red hat", codes, batch_size=2)
    assert found.shape == codes.shape and found.dtype == torch.float32 and (found < 0).all() and not found.requires_grad
    torch.testing.assert_close(token_logps(model, "a red hat", codes[3:4], 64), found[3:4], atol=1e-5, rtol=0)
    if family == "janus":
        drawn = model.generate_image(["a red hat"], Sampling(generation_timesteps=1), [4])
        torch.testing.assert_close(token_logps(model, "a red hat", drawn.tokens, 1), drawn.logps, atol=1e-4, rtol=0)
        return
    trace = model.scoring_trace(codes)
    assert torch.equal(trace.drawn[:5], ~trace.drawn[5:]) and (trace.drawn.sum(1) == model.num_image_tokens // 2).all()
    half = trace.drawn[0]
    changed = codes.clone()
    changed[:, half.nonzero()[0]] ^= 1  # a token is read with the other half in view, never with its own
    again = token_logps(model, "a red hat", changed, 64)
    same = half.clone()
    same[half.nonzero()[0]] = False
    torch.testing.assert_close(again[:, same], found[:, same], atol=1e-5, rtol=0)
    assert not torch.allclose(again[:, ~half], found[:, ~half])


@pytest.mark.parametrize("family", ["showo", "janus"])
def test_a_session_recognises_by_drawing(family: str, root: Path) -> None:
    session = make(root, None if family == "showo" else tiny_janus())
    photos = session.concept.test_images
    words, drawing, both = (session.recognitions(photos, how) for how in HOW)
    for in_words, drawn, joined in zip(words, drawing, both, strict=True):
        assert in_words.margin is None and drawn.words is None
        assert joined.words == in_words.words and joined.margin == pytest.approx(drawn.margin, abs=1e-4)
        assert joined.present == combine(bool(joined.words), joined.margin or 0.0, session.calibration(True).unsure)
        assert drawn.present == ((drawn.margin or 0.0) > 0)
    assert session.recognize(photos[0]) == (words[0].present, words[0].answer)
    assert session.recognize(photos[0], "drawing") == (drawing[0].present, drawing[0].answer)
    assert session.recognitions([], "both") == []


def test_the_calibration_is_learned_once_and_again_after_training(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = Session._evidence
    monkeypatch.setattr(
        Session, "_evidence", lambda self, images, how: (asked.append(len(images)), real(self, images, how))[1]
    )
    assert session.root is not None
    others = len(negative_images(session.root, session.concept))
    first = session.calibration()
    assert session.calibration() is first and asked == [10, others]
    assert session.calibration(described=True) is not first and session.calibration() is first
    del asked[2:]
    with torch.no_grad():
        session.model.get_input_embeddings().weight.mul_(1.01)  # type: ignore[operator, union-attr]
    assert session.calibration() is not first and asked == [10, others] * 2


def test_no_test_picture_is_learned_from(session: Session) -> None:
    assert session.root is not None
    tested = {item.image for item in session.concept.items} | set(session.concept.test_images)
    assert tested.isdisjoint(session.concept.train_images)
    assert tested.isdisjoint(negative_images(session.root, session.concept))


def test_mistakes_are_explained(session: Session) -> None:
    photo = session.concept.test_images[0]
    with pytest.raises(ValueError, match="how is 'guess'; it must be one of words, drawing, both"):
        session.recognize(photo, "guess")  # type: ignore[arg-type]
    rootless = dataclasses.replace(session, root=None)
    with pytest.raises(ValueError, match="0 other pictures to learn from; it needs at least 2"):
        rootless.recognize(photo, "drawing")


def test_the_command(root: Path) -> None:
    photos = [str(path) for path in load_concept(root, "bo").test_images[:2]]
    given = ["recognize", *photos, "--data", str(root), "--device", "cpu"]
    result = CliRunner().invoke(app, [*given, "--how", "both", "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)
    assert [row["image"] for row in rows] == photos and {"present", "answer", "words", "margin"} < set(rows[0])
    shown = CliRunner().invoke(app, [*given, "--how", "drawing"], catch_exceptions=False).stdout.splitlines()
    assert len(shown) == 2 and "by drawing" in shown[0]
    with pytest.raises(ValueError, match="how is 'ear'"):
        CliRunner().invoke(app, [*given, "--how", "ear"], catch_exceptions=False)


def test_the_benchmark_counts_both_sides_alike(session: Session) -> None:
    """Half of the pictures show the concept; the accuracy is the mean of the two sides, its interval around it."""
    script = benchmark("recognition")
    pictures, one = script.lookalikes("bo", 6, seed=0)
    assert len(pictures) == 12 and one.shape == (6,) and len({picture.tobytes() for picture in pictures}) == 12
    rights = script.judge(session, pictures)
    assert set(rights) == {"words", "drawing", "both"} and [len(side) for side in rights["drawing"]] == [6, 6]
    votes = [one.present for one in session.recognitions(pictures, "drawing")]
    assert rights["drawing"][0].tolist() == [float(vote) for vote in votes[:6]]
    assert rights["drawing"][1].tolist() == [float(not vote) for vote in votes[6:]]
    sure = {how: [np.ones(6), np.zeros(6)] for how in rights}
    found = script.summary({"bo": sure, "rex": sure})["both"]
    assert found == {"value": 0.5, "ci95": (0.5, 0.5), "n": 24, "n_concepts": 2}
    sides = {key: script.row([np.ones(6), np.zeros(6)])[key] for key in ("value", "recognised", "rejected")}
    assert sides == {"value": 0.5, "recognised": 1.0, "rejected": 0.0}  # yes to everything
