"""Look-alikes are asked about where the option says so, in words and by drawing, and beside the published tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sync_r1.config import EvalConfig
from sync_r1.data import load_concept, load_image
from sync_r1.session import Session
from sync_r1.unifybench.adapters import TokensAdapter
from sync_r1.unifybench.compare import compare
from sync_r1.unifybench.evaluate import evaluate
from sync_r1.unifybench.protocol import Protocol, load_protocol
from sync_r1.unifybench.results import LOOKALIKES, UNDERSTANDING
from sync_r1.unifybench.tasks import build_items
from sync_r1.world.export import OTHER_PICTURES, SAME_PICTURES, export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    export_world(folder, ["bo"], lookalikes=True)
    return folder


def session(root: Path, **options: object) -> Session:
    concept = load_concept(root, "bo")
    settings = EvalConfig(generation_timesteps=2, batch_size=8, max_completion_length=4, **options)  # type: ignore[arg-type]
    return Session(model=tiny_model(0, max_text_tokens=64), concept=concept, root=root, options=settings)


def test_the_world_has_enough_of_both_and_none_that_training_shows(root: Path) -> None:
    concept = load_concept(root, "bo")
    items = build_items(concept, root=root, protocol=Protocol(lookalikes=True))
    asked = [item for item in items if item.task == "lookalikes"]
    assert [item.truth for item in asked] == ["Yes."] * SAME_PICTURES + ["No."] * OTHER_PICTURES
    assert SAME_PICTURES >= 40 and OTHER_PICTURES >= 60
    known = {np.array(load_image(path)).tobytes() for path in (*concept.train_images, *concept.test_images)}
    shown = [np.array(load_image(item.image)).tobytes() for item in asked if item.image is not None]
    assert known.isdisjoint(shown) and len(set(shown[:SAME_PICTURES])) == SAME_PICTURES
    assert {item.task for item in build_items(concept, root=root)}.isdisjoint(LOOKALIKES), "off unless asked for"


def test_without_such_pictures_it_is_said_where_they_belong(tmp_path: Path) -> None:
    export_world(tmp_path, ["bo"])
    with pytest.raises(ValueError, match=r"concept/test/bo/lookalikes/same and /other; add some"):
        build_items(load_concept(tmp_path, "bo"), root=tmp_path, protocol=Protocol(lookalikes=True))


def test_the_published_protocol_leaves_them_out_and_the_option_makes_nothing_stale() -> None:
    published = load_protocol("unifybenchpp-2026")
    assert not published.lookalikes
    more = load_protocol("unifybenchpp-2026", ["lookalikes=true"])
    assert more.scoring_options() == published.scoring_options()
    assert more.prediction_options() == published.prediction_options()


def test_an_evaluation_scores_both_ways_and_halves_stay_as_published(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokensAdapter, "answers", answers_of_a_drawer)
    asked = session(root, lookalikes=True, tasks=["rec", *LOOKALIKES], max_items=10)
    before, after = (evaluate(asked, tmp_path / "eval", phase) for phase in ("before", "after"))
    assert list(after.tasks) == ["rec", *LOOKALIKES]
    assert after.tasks["lookalikes"]["recall"] == 1.0 and after.tasks["lookalikes"]["no_recall"] == 0.0
    assert after.tasks["lookalikes_drawn"]["mean"] == 1.0
    found = compare(before, after)
    assert found["understanding"]["n"] == len([item for item in after.items if item.task in UNDERSTANDING])
    assert set(found["tasks"]) == {"rec", *LOOKALIKES}
    kept = json.loads((tmp_path / "eval" / "after.json").read_text())
    assert kept["protocol"]["lookalikes"] is True


def answers_of_a_drawer(self: TokensAdapter, requests: list) -> list[str]:  # type: ignore[type-arg]
    """Yes to everything in words; by drawing always right."""
    return [row.item.truth if row.item.task == "lookalikes_drawn" else "yes" for row in requests]


def test_the_drawing_decides_by_its_margin(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = TokensAdapter(session(root), Protocol(lookalikes=True))
    items = build_items(adapter.concept, root=root, protocol=adapter.protocol)
    requests = [adapter.request(item) for item in items if item.task == "lookalikes_drawn"][:3]
    monkeypatch.setattr(Session, "margins", lambda self, images: ([0.4, -0.1, 0.0][: len(images)], 0.2))
    assert adapter.answers(requests) == ["yes", "no", "no"]
