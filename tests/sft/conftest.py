"""A tiny model with one concept whose soft tokens have all three roles, opened as a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sync_r1.config import Config, EvalConfig, load_config
from sync_r1.data import Layout, load_concept, write_concept, write_root
from sync_r1.models.concept_tokens import add_concept
from sync_r1.session import Session
from tests.helpers import tiny_model
from tests.rl.toys import concept

Opened = Callable[[], Session]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A fresh session of equal weights at every call; tokens 0–1 shared, 2 for drawing, 3–4 for reading.

    No pool: the name trains too.
    """
    root, photos = tmp_path / "data", tmp_path / "photos"
    photos.mkdir()
    toy = concept(photos)
    layout = Layout(root)
    paths = [layout.train("bo") / path.name for path in toy.train_images]
    write_root(root, [Image.new("RGB", (16, 16), (0, 90 * number, 60)) for number in range(2)])
    write_concept(root, replace(toy, train_images=paths), dict(zip(paths, toy.train_images)))
    bo = load_concept(root, "bo")

    def open_session() -> Session:
        model = tiny_model(0, max_text_tokens=64, name_pool=[])
        add_concept(model, "bo", "robot", 5, reading_tokens=2, drawing_tokens=3)
        return Session(model=model, concept=bo, root=root, options=EvalConfig(generation_timesteps=4, batch_size=8))

    return open_session


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Config]:
    def make(*overrides: str) -> Config:
        small = [
            "sft.epochs=2",
            "sft.learning_rate=1e-2",
            "run.device=cpu",
            f"run.output_dir={tmp_path}",
            "run.name=warm",
        ]
        return load_config(None, [*small, *overrides])

    return make
