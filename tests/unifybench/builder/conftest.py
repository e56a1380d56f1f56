"""A concept added from photos and facts, on disk."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from sync_r1.data import Concept, add_concept_folder, write_root
from sync_r1.unifybench.builder.propose import build_test_set
from sync_r1.unifybench.builder.review_file import review_path, write_review
from sync_r1.unifybench.builder.rules import alike

FACTS = [
    "<zed> has a green raincoat.",
    "<zed> sleeps in a wicker basket.",
    "<zed>'s favourite toy is a rubber duck.",
    "<zed> is five years old.",
]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(6):
        noise(number).save(photos / f"{number}.png")
    write_root(folder / "data", [noise(100 + number) for number in range(6)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add_concept_folder(folder / "data", "zed", photos, "dog", "a small grey terrier", FACTS)
    return folder / "data"


@pytest.fixture
def root(added: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(added, tmp_path / "data"))


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def reviewed(root: Path, **changes: Any) -> Path:
    """A review file of the proposal, with some of its lists changed."""
    path = write_review(review_path(root, "zed"), build_test_set(root, "zed"))
    if changes:
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


def no_leaks(concept: Concept) -> None:
    tests = (
        [concept.conditions.implicit[i] for i in concept.test_indices]
        + concept.conditions.dense_implicit
        + concept.conditions.dense
    )
    trained = concept.conditions.implicit[: concept.test_indices.start]
    assert not any(alike(test, train, concept.placeholder) for test in tests for train in trained)
    assert not set(concept.rl_indices) & set(concept.test_indices) and concept.overlap == 0
    assert not set(concept.train_images) & {item.image for item in concept.items} | set(concept.train_images) & set(
        concept.test_images
    )
