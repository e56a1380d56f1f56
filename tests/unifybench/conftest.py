"""One concept of the embedded world on disk, and a random tiny model that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sync_r1.config import EvalConfig
from sync_r1.data import Concept, load_concept
from sync_r1.session import Session
from sync_r1.unifybench.metrics import BenchmarkJudges
from sync_r1.unifybench.tasks import EvalItem, build_items
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


class ReferenceClip:
    """Scores like a ClipScorer, without a network."""

    def image_features(self, images: Sequence[object]) -> Tensor:
        self.references = len(images)
        return torch.ones(len(images), 2)

    def clip_t(self, images: Tensor, texts: Sequence[str], *, unit: bool = True, truncate: bool = False) -> Tensor:
        self.texts = list(texts)
        return torch.full((len(images),), 0.2)

    def clip_i(self, images: Tensor, references: Tensor, *, unit: bool = True) -> Tensor:
        return torch.full((len(images),), 0.6)


class CountingJudge:
    """Says 0.5 to everything it is asked, and can be switched off after a number of questions."""

    def __init__(self, patience: int | None = None) -> None:
        self.asked, self.patience = 0, patience

    def _answer(self, count: int) -> list[float | None]:
        self.asked += count
        return [0.5 if self.patience is None or self.asked - count + i < self.patience else None for i in range(count)]

    def __call__(self, images: Tensor, texts: Sequence[str]) -> list[float | None]:
        return self._answer(len(texts))

    def score_text_answer(
        self, questions: Sequence[str], references: Sequence[str], answers: Sequence[str]
    ) -> list[float | None]:
        return self._answer(len(answers))

    def score_prompt_similarity(self, references: Sequence[str], rewrites: Sequence[str]) -> list[float | None]:
        return self._answer(len(rewrites))

    def score_clauses(self, images: Tensor, prompts: Sequence[str]) -> list[float | None]:
        return self._answer(len(prompts))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture(scope="session")
def concept(root: Path) -> Concept:
    return load_concept(root, "bo")


def tiny_session(root: Path, concept: Concept) -> Session:
    options = EvalConfig(max_items=2, batch_size=3, generation_timesteps=2, max_completion_length=4)
    return Session(model=tiny_model(max_text_tokens=120), concept=concept, root=root, run="tiny", options=options)


@pytest.fixture
def session(root: Path, concept: Concept) -> Session:
    return tiny_session(root, concept)


@pytest.fixture
def judges() -> BenchmarkJudges:
    return BenchmarkJudges(judge=CountingJudge(), judge_name="half", clip=ReferenceClip(), clip_name="reference")  # type: ignore[arg-type]


def one_of_each(concept: Concept, root: Path) -> dict[str, EvalItem]:
    """Task → its first item."""
    return {item.task: item for item in build_items(concept, root=root, max_items=1)}
