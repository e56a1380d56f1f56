"""One concept of the embedded world on disk, and a random tiny model that knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.config import EvalConfig
from sync_r1.data import Concept, load_concept
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture(scope="session")
def concept(root: Path) -> Concept:
    return load_concept(root, "bo")


@pytest.fixture
def session(root: Path, concept: Concept) -> Session:
    options = EvalConfig(max_items=2, batch_size=3, generation_timesteps=2, max_completion_length=4)
    return Session(model=tiny_model(max_text_tokens=120), concept=concept, root=root, run="tiny", options=options)
