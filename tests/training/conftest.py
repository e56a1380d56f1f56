"""What tests of checkpoints share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def saves(tmp_path: Path) -> Path:
    """The folder of a run's checkpoints, without any."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder
