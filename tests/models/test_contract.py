"""Both families hold the contract of models/base.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import tiny_model
from tests.models.contract import CHECKS, Make, check_storage, check_text_replay
from tests.models.janus_toys import tiny_janus


@pytest.mark.parametrize("make", [tiny_model, tiny_janus], ids=["showo", "janus"])
@pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
def test_contract(check: Callable[[Make, Path], None], make: Make, tmp_path: Path) -> None:
    check(make, tmp_path)


@pytest.mark.parametrize("check", [check_storage, check_text_replay])
def test_one_matrix_for_reading_and_writing(check: Callable[[Make, Path], None], tmp_path: Path) -> None:
    """Tied embeddings and no spare rows, so that a concept makes the matrix grow."""
    make = lambda: tiny_janus(tied=True, rows=328)  # noqa: E731
    assert make().is_tied
    check(make, tmp_path)
