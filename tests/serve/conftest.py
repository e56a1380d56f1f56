"""One tiny model and one server for all tests of this folder that need nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI
from PIL import Image

from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.serve.app import Server
from sync_r1.session import Session
from sync_r1.world.export import export_world
from tests.helpers import tiny_model
from tests.serve.serving import Fixed, client_of, serving


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture(scope="session")
def session(root: Path) -> Session:
    options = EvalConfig(batch_size=8, generation_timesteps=4, max_completion_length=12)
    concept = load_concept(root, "bo", verify=False)
    return Session(model=tiny_model(max_text_tokens=60), concept=concept, run="tiny", options=options)


@pytest.fixture(scope="session")
def served(session: Session) -> Iterator[tuple[Server, FastAPI]]:
    with serving(Fixed(tiny=session)) as started:
        yield started


@pytest.fixture(scope="session")
def client(served: tuple[Server, FastAPI]) -> openai.OpenAI:
    return client_of(served[0])


@pytest.fixture(scope="session")
def photo(root: Path) -> Image.Image:
    path = load_concept(root, "bo", verify=False).test_images[0]
    with Image.open(path) as image:
        return image.convert("RGB")
