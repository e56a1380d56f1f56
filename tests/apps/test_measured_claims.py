"""Every measurement of a claim gives the values that are declared, with the shipped model in place of a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_r1.apps.facts import ProposedFact
from sync_r1.session import Session
from tests.helpers import benchmark

STUDY = Path(__file__).parents[2] / "studies" / "applications.yaml"
FEW = {"pictures": 1, "tries": 1, "stories": 1, "pages": 3, "prompts": 1, "questions": 1, "rounds": 1, "repeats": 1}
SHORT = {"short_s": 1, "long_s": 1, "practice_s": 1}


def module(name: str) -> Any:
    return benchmark(f"application_claims.{name}")


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.open(concept="ivo", device="cpu")


@pytest.fixture(scope="module")
def pair() -> Session:
    return Session.open(concepts=["ivo", "rex"], device="cpu")


@pytest.fixture
def little(session: Session, pair: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trainings, and as little of everything as gives a value."""
    given = module("given").Given
    for name in ("trained", "looked", "untrained"):
        monkeypatch.setattr(given, name, lambda self: session)
    monkeypatch.setattr(given, "words_right", lambda self, training="trained": [1.0, 0.0])
    monkeypatch.setattr(module("story"), "TRIES", 1)
    facts_of = module("lesson_pictures").facts_of
    monkeypatch.setattr(module("lesson_pictures"), "facts_of", lambda concept: facts_of(concept)[:1])
    monkeypatch.setattr(module("lesson_pictures"), "reads_its_photos", lambda session: True)
    monkeypatch.setattr(module("together"), "open_together", lambda runs, device: pair)
    monkeypatch.setattr(module("seconds"), "feedback_round", lambda *arguments: None)
    monkeypatch.setattr(module("seconds"), "why_page", lambda *arguments: None)
    monkeypatch.setattr(
        module("feedback"), "scores", lambda session: {"words": [0.5], "photos": [1.0], "drawing": [1.0]}
    )
    monkeypatch.setattr(module("feedback"), "push_labels", lambda *arguments: None)
    monkeypatch.setattr(module("feedback"), "learn", lambda *arguments, **options: None)
    monkeypatch.setattr(module("feedback"), "undo", lambda *arguments: None)
    monkeypatch.setattr(module("wishes"), "learn", lambda *arguments, **options: None)
    monkeypatch.setattr(module("wishes"), "undo", lambda *arguments: None)


SOMETIMES = {"wrong of those that are shown", "wrong of those that pass the check"}  # the shipped model draws no ivo
CLAIMS = [claim for claim in benchmark("applications").load(STUDY).claims if claim.id not in ("A8", "A13")]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.id}-{claim.measure}")
def test_what_is_declared_is_measured(claim: Any, little: None) -> None:
    given = module("given").Given(
        concept="ivo", seed=0, counts={**claim.counts, **FEW, **SHORT}, runs=Path("none"), partner="rex"
    )
    values = module(claim.measure).measure(given)
    declared = {bar.measure for bar in claim.bars}
    assert declared - SOMETIMES <= set(values) <= declared
    assert all(isinstance(value, float) for row in values.values() for value in row)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_timed(little: None) -> None:
    given = module("given").Given(concept="ivo", seed=0, counts={"repeats": 1, "practice_s": 1}, runs=Path("none"))
    values = module("seconds").measure(given)
    assert list(values) == [
        "an edit",
        "a chat answer with its sources",
        "a page about why",
        "a round of feedback with 1 s of practice",
    ]
    assert all(len(row) == 1 and row[0] >= 0 for row in values.values())


def test_a_pair_needs_a_second_concept() -> None:
    given = module("given").Given(concept="ivo", seed=0, counts=FEW, runs=Path("none"))
    assert module("together").measure(given) == {}


def test_what_an_owner_confirms_is_what_is_true_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = module("fact_pictures")
    persona = module("given").personas()["ivo"]
    proposed = [persona.sentences[0].replace("<ivo>", "<new-thing>"), "<new-thing> wears nothing."]
    monkeypatch.setattr(pictures, "unknown_thing", lambda kind, device: None)

    monkeypatch.setattr(
        pictures, "read_facts", lambda session, image: [ProposedFact(one, "question", 1.0) for one in proposed]
    )
    assert pictures.confirmed_facts(persona) == persona.sentences[:1]
