from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_r1.scorers.base import is_scored, mean_ignoring_none
from sync_r1.scorers.text import char_bleu, exact, is_negative, recognition, token_f1


@pytest.mark.parametrize(
    ("truth", "prediction", "score"),
    [
        ("The hat is red.", "The hat is red.", 1.0),
        ("The hat is red.", "Red hat", 0.253497),
        ("A photo of <x> running.", "A photo of <x> running on the beach.", 0.626965),
        ("Yes.", "yes", 0.438190),
        ("Yes.", "", 0.0),
        ("", "Yes.", 0.0),
        ("abc", "xyz", 0.0),
    ],
)
def test_char_bleu_pins(truth: str, prediction: str, score: float) -> None:
    assert char_bleu(prediction, truth) == pytest.approx(score, abs=5e-7)


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("Red.", "red", 1),
        ("  a  red hat ", "A red hat.", 1),
        ("red hat", "red", 0),
        ("", "", 1),
        ("<bo>", "bo", 0),
        ("no.1", "no1", 0),
    ],
)
def test_exact(prediction: str, truth: str, score: float) -> None:
    assert exact(prediction, truth) == score


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("a red hat", "A red hat.", 1.0),
        ("red", "a red hat", 0.5),
        ("red red red", "red hat", 0.4),
        ("<bo> in snow", "bo in snow", 2 / 3),
        ("rainbow", "<bo>", 0.0),
        ("", "", 1.0),
        ("", "red", 0.0),
        ("?!", "red", 0.0),
    ],
)
def test_token_f1(prediction: str, truth: str, score: float) -> None:
    assert token_f1(prediction, truth) == pytest.approx(score)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_stay_in_range(prediction: str, truth: str) -> None:
    for scorer in (exact, token_f1, char_bleu, recognition):
        assert 0 <= scorer(prediction, truth) <= 1
    assert token_f1(prediction, truth) == token_f1(truth, prediction)
    assert exact(truth, truth) == token_f1(truth, truth) == 1
    assert char_bleu(truth, truth) == pytest.approx(1 if truth else 0) or len(truth) == 1  # one character has no bigram


@pytest.mark.parametrize(
    ("prediction", "truth", "score", "legacy"),
    [
        ("Yes, it is.", "Yes.", 1, 1),
        ("NO", "No.", 1, 1),
        ("I do not know", "No.", 0, 1),
        ("eyes", "Yes.", 0, 1),
        ("yes and no", "Yes.", 1, 1),
        ("yes and no", "No.", 1, 1),
        ("No.", "Yes.", 0, 0),
        ("no", "no", 1, 0),  # legacy takes only the literal "No." as negative
        ("", "No.", 0, 0),
    ],
)
def test_recognition_rules(prediction: str, truth: str, score: float, legacy: float) -> None:
    assert recognition(prediction, truth) == score
    assert recognition(prediction, truth, "legacy") == legacy


def test_what_counts_as_no_depends_on_the_protocol() -> None:
    assert is_negative("no, never") and not is_negative("no, never", "legacy")


def test_mean_ignoring_none() -> None:
    assert mean_ignoring_none([1.0, None, 0.0, math.nan, math.inf]) == 0.5
    assert mean_ignoring_none([None, math.nan]) is None and mean_ignoring_none([]) is None
    assert is_scored(0.0) and not is_scored(None) and not is_scored(math.nan)
