"""Which rows move in which stage, and that nothing else ever does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sync_r1.config import Config
from sync_r1.models.base import ConceptTokens
from sync_r1.models.concept_tokens import add_concept
from sync_r1.session import Session
from sync_r1.sft.stages import STAGES, stage_row_ids
from sync_r1.sft.trainer import run_sft
from tests.helpers import tiny_model
from tests.models.janus_toys import tiny_janus
from tests.rl.toys import concept, weights

NAME, SHARED, DRAWING, READING = 0, [1, 2], [3], [4, 5]


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    """Changed tensors and the rows of them that changed."""
    changed = {
        name: (after[name] != value).reshape(len(value), -1).any(1) for name, value in before.items() if value.ndim
    }
    return {name: rows.nonzero().flatten().tolist() for name, rows in changed.items() if rows.any()}


def test_the_published_sizes() -> None:
    tokens = ConceptTokens("bo", [f"<token_{i}>" for i in range(32)], "dog", None, 16, 24)
    learned = {name: stage.learned(tokens) for name, stage in STAGES.items()}
    assert {name: len(rows) for name, rows in learned.items()} == {
        "1": 17,
        "2": 25,
        "3": 9,
        "photos": 24,
        "baseline": 33,
    }
    assert {name for name, rows in learned.items() if rows[0] == "<bo>"} == {"1", "2", "3", "baseline"}
    assert learned["3"][1:] == [f"<token_{i}>" for i in range(24, 32)]
    assert STAGES["1"].introduction(tokens) == STAGES["2"].introduction(tokens) == tokens.tokens[:16]
    assert STAGES["3"].introduction(tokens) == tokens.tokens[:16] + tokens.tokens[24:]
    assert [(STAGES[name].weight_decay, STAGES[name].eps) for name in "123"] == [
        (1e-4, 1e-6),
        (1e-3, 1e-8),
        (1e-3, 1e-8),
    ]


@pytest.mark.parametrize(
    ("stage", "rows"),
    [
        ("1", [NAME, *SHARED]),
        ("2", [NAME, *SHARED, *DRAWING]),
        ("3", [NAME, *READING]),
        ("photos", [*SHARED, *DRAWING]),  # the name is for text
        ("baseline", [NAME, *SHARED, *DRAWING, *READING]),
    ],
)
def test_only_the_stage_s_rows_move(
    opened: Callable[[], Session], settings: Callable[..., Config], stage: str, rows: list[int]
) -> None:
    session = opened()
    model, first = session.model, session.model.config.first_concept  # type: ignore[attr-defined]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    before = weights(model)  # type: ignore[arg-type]
    run_sft(session, settings(f"sft.stages=[{stage}]", "sft.condition_dropout=0"))
    found = moved(before, weights(model))  # type: ignore[arg-type]
    learned = [first + row for row in rows]
    embed = "showo.model.embed_tokens.weight"
    assert set(found[embed]) == set(learned)
    assert set(found) <= {embed, "showo.lm_head.weight", "showo.lm_head.bias"}
    assert all(set(changed) <= set(learned) for changed in found.values())
    assert (first in found.get("showo.lm_head.weight", [])) == (NAME in rows), (
        "the name can be written, so its head row learns"
    )
    assert [parameter.requires_grad for parameter in model.parameters()] == trained and not model.training
    assert all(not parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_the_body_moves_only_when_asked(opened: Callable[[], Session], settings: Callable[..., Config]) -> None:
    session = opened()
    before = weights(session.model)  # type: ignore[arg-type]
    run_sft(session, settings("sft.stages=[baseline]", "sft.body_learning_rate=1e-3", "sft.epochs=1"))
    found = moved(before, weights(session.model))  # type: ignore[arg-type]
    assert "showo.model.layers.0.mlp.fc1.weight" in found
    assert not any(name.startswith("magvit") for name in found)
    first = session.model.config.first_concept  # type: ignore[attr-defined]
    assert set(found["showo.model.embed_tokens.weight"]) <= set(range(first, first + 6))


def test_a_name_from_the_pool_stays(tmp_path: Path, settings: Callable[..., Config]) -> None:
    model = tiny_model(0, max_text_tokens=64)
    add_concept(model, "bo", "robot", 2)
    session = Session(model=model, concept=concept(tmp_path), root=tmp_path)
    assert stage_row_ids(model, STAGES["baseline"], session.tokens).tolist() == [
        model.config.first_concept + 1,
        model.config.first_concept + 2,
    ]


@pytest.mark.parametrize(
    ("stage", "drawing", "fix"),
    [
        ("1", 4, "model.reading_tokens"),
        ("3", 4, "model.num_tokens above model.drawing_tokens"),
        ("photos", 0, "model.drawing_tokens"),
    ],
)
def test_a_stage_without_rows_is_refused(stage: str, drawing: int, fix: str) -> None:
    model = tiny_model(0, name_pool=[])
    tokens = add_concept(model, "bo", "robot", 4, drawing_tokens=drawing)
    with pytest.raises(
        ValueError, match=rf"stage {stage} has no soft tokens of <bo> to train; give it some with {fix}"
    ):
        stage_row_ids(model, STAGES[stage], tokens)


def test_nothing_to_train_is_refused(tmp_path: Path, settings: Callable[..., Config]) -> None:
    model = tiny_model(0)
    add_concept(model, "bo", "robot", 0)  # a name from the pool, and no soft tokens
    session = Session(model=model, concept=concept(tmp_path), root=tmp_path)
    with pytest.raises(ValueError, match=r"nothing would train.*set sft.body_learning_rate"):
        run_sft(session, settings("sft.stages=[baseline]"))
    with pytest.raises(ValueError, match=r"sft.stages is \[\]"):
        run_sft(session, settings())


def test_another_family_warms_up_by_the_same_code(
    opened: Callable[[], Session], settings: Callable[..., Config]
) -> None:
    toy = opened()
    model = tiny_janus()
    photos = toy.concept.train_images
    tokens = add_concept(model, "bo", "robot", 4, "images", reading_tokens=1, drawing_tokens=2, photos=photos)
    session = Session(model=model, concept=toy.concept, root=toy.root, options=toy.options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_sft(session, settings("sft.stages=[2,3,baseline]", "sft.epochs=1"))
    found = moved(before, model.state_dict())
    vocabulary = model.tokenizer.get_vocab()
    learned = {vocabulary[token] for token in tokens.all_tokens}
    assert found and all(set(rows) <= learned for rows in found.values())
    assert any("embed_tokens" in name and set(rows) == learned for name, rows in found.items())
