"""What a new concept's rows start as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from sync_r1.models.base import ConceptTokens
from sync_r1.models.concept_init import face_embeddings, k_means, noise_rows, start_rows
from sync_r1.models.concept_tokens import add_concept, concept_row_ids, load_concept, save_concept
from sync_r1.models.showo.prompting import text_ids
from tests.helpers import tiny_model


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    generator = torch.Generator().manual_seed(0)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        Image.fromarray(torch.randint(0, 255, (16, 16, 3), generator=generator).byte().numpy()).save(path)
    return paths


def test_k_means_finds_groups_and_repeats_itself() -> None:
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = torch.cat(
        [middle + torch.tensor([[-0.1, 0.0], [0.1, 0.0], [0.0, 0.3], [0.0, -0.3]]) for middle in middles]
    )
    centres = k_means(points, 3, seed=1)
    assert_close(centres[centres.sum(1).argsort()][0], middles[0])
    assert sorted(map(tuple, centres.round().tolist())) == sorted(map(tuple, middles.tolist()))
    assert torch.equal(centres, k_means(points, 3, seed=1))
    assert_close(k_means(points, 1), points.mean(0, keepdim=True))
    assert_close(k_means(torch.ones(2, 3), 4), torch.ones(4, 3))  # fewer distinct points than centres


def test_images_start_shared_tokens_at_centres_and_drawing_tokens_at_code_rows(photos: list[Path]) -> None:
    model = tiny_model(name_pool=[])
    codes = torch.cat([model.encode_image([Image.open(path).convert("RGB")]) for path in photos]).flatten()
    table = model.code_embeddings(torch.arange(64))
    assert torch.equal(table, model.showo.model.embed_tokens.weight[model.config.image_offset :][:64])
    noun = model.read_rows(text_ids(model.tokenizer, " dog")).embed.mean(0)
    concept = add_concept(model, "bo", "dog", 5, "images", reading_tokens=2, drawing_tokens=4, photos=photos)
    assert (concept.read, concept.draw) == (2, 4)
    rows = model.read_rows(concept_row_ids(model).tolist()).embed
    assert_close(rows[0], noun)
    assert_close(rows[1:3], k_means(table[codes], 2, 0))
    # where UniCTokens' tokens 16 to 23 lie: behind the placeholder's and the shared ones' rows
    assert_close(rows[3:5], table[3:5])
    assert_close(rows[5], noun)


def test_a_face_starts_the_drawing_tokens(photos: list[Path]) -> None:
    face = torch.arange(512.0)
    assert torch.equal(face_embeddings(face, 8, 64), face.view(8, 64))
    assert face_embeddings(face, 8, 256).shape == (8, 256)
    assert_close(face_embeddings(face, 8, 32)[:, 0], face.view(8, 64)[:, :2].mean(1))
    model = tiny_model()
    add_concept(model, "ana", "woman", 10, "images", reading_tokens=2, photos=photos, face=face)
    rows = model.read_rows(concept_row_ids(model).tolist()).embed
    assert_close(rows[3:11], face_embeddings(face, 8, 32))
    pool = model.read_rows(text_ids(model.tokenizer, "<kip>")).embed[0]
    assert torch.equal(rows[0], pool)


def test_without_shared_tokens_the_centres_go_to_the_drawing_tokens(photos: list[Path]) -> None:
    model = tiny_model()
    add_concept(model, "bo", "dog", 3, "images", photos=photos)
    codes = torch.cat([model.encode_image([Image.open(path).convert("RGB")]) for path in photos]).flatten()
    assert_close(
        model.read_rows(concept_row_ids(model).tolist()).embed[1:], k_means(model.code_embeddings(codes), 3, 0)
    )


def test_no_start_means_neither_pool_nor_noun_but_the_vocabulary_s_spread() -> None:
    model = tiny_model(hidden_size=32)
    vocabulary = model.read_rows(range(len(model.tokenizer)))
    rows = noise_rows(model, 4000, seed=0)
    assert_close(rows.embed.std(0), vocabulary.embed.std(0), rtol=0.1, atol=0.0)
    assert_close(rows.head_weight.mean(0), vocabulary.head_weight.mean(0), rtol=0.0, atol=0.02)
    first, again = noise_rows(model, 3, seed=1), noise_rows(model, 3, seed=1)
    assert torch.equal(first.embed, again.embed) and not torch.equal(first.embed, noise_rows(model, 3, seed=2).embed)
    concept = add_concept(model, "bo", "dog", 2, "none", seed=1)
    assert concept.pool_name is None
    assert torch.equal(model.read_rows(concept_row_ids(model).tolist()).embed, first.embed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"init": "random"}, "init is 'random'; it must be one of class-noun, images, none"),
        ({"init": "images"}, "there are no photos"),
        ({"reading_tokens": 3, "drawing_tokens": 2}, "0 <= reading_tokens <= drawing_tokens <= num_tokens"),
        ({"drawing_tokens": 5}, "0 <= reading_tokens"),
        ({"num_tokens": -1}, "num_tokens is -1"),
    ],
)
def test_impossible_starts_are_refused(arguments: dict[str, object], words: str) -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match=words):
        add_concept(model, "bo", "dog", **arguments)  # type: ignore[arg-type]
    assert model.concepts == []


def test_roles_travel_with_the_concept(tmp_path: Path) -> None:
    model, other = tiny_model(), tiny_model(1)
    concept = add_concept(model, "bo", "dog", 4, reading_tokens=1, drawing_tokens=3)
    assert concept.reading_tokens == ["<token_0>", "<token_3>"] and concept.drawing_tokens == [
        "<token_0>",
        "<token_1>",
        "<token_2>",
    ]
    save_concept(model, "bo", tmp_path / "bo.safetensors")
    assert load_concept(other, tmp_path / "bo.safetensors") == concept


def test_start_rows_leave_the_model_alone(photos: list[Path]) -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_rows(model, ConceptTokens("bo", ["<token_0>"], "dog"), "images", photos)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
