"""Vocabulary surgery."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sync_r1.models.concept_files import import_concept
from sync_r1.models.concept_tokens import add_concept, concept_row_ids, learned_row_ids, load_concept, save_concept
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import build_mmu, build_t2i, text_ids
from sync_r1.types import Sampling, TextContext
from tests.helpers import tiny_model


def test_old_logits_stay_when_rows_move() -> None:
    model, codes = tiny_model(), torch.arange(16)[None]
    old = model.config
    codes[0, 3] = old.codebook_size  # one masked
    before = [
        model.showo.lm_head(model.hidden(*batch))
        for batch in (build_t2i(old, [[5]], codes), build_mmu(old, codes, [[5, 6]]))
    ]
    add_concept(model, "bo", "robot", num_tokens=4)
    new = model.config
    assert new.image_offset == old.image_offset + 5 and new.vocab_size == old.vocab_size + 5
    after = [
        model.showo.lm_head(model.hidden(*batch))
        for batch in (build_t2i(new, [[5]], codes), build_mmu(new, codes, [[5, 6]]))
    ]
    for one, other in zip(before, after):
        torch.testing.assert_close(other[..., : old.image_offset], one[..., : old.image_offset])
        torch.testing.assert_close(other[..., new.image_offset :], one[..., old.image_offset :])


def test_tokens_rows_and_start_values() -> None:
    model = tiny_model()
    pool = model.read_rows(text_ids(model.tokenizer, "<kip>"))
    noun = model.read_rows(text_ids(model.tokenizer, " robot"))
    concept = add_concept(model, "bo", "robot", num_tokens=2)
    assert (concept.placeholder, concept.tokens, concept.pool_name) == ("<bo>", ["<token_0>", "<token_1>"], "<kip>")
    ids = concept_row_ids(model)
    assert ids.tolist() == [model.config.first_concept + i for i in range(3)]
    assert text_ids(model.tokenizer, "a <token_0><bo>")[-2:] == [ids[1], ids[0]]
    rows = model.read_rows(ids.tolist())
    assert torch.equal(rows.embed[0], pool.embed[0]) and torch.equal(rows.head_weight[0], pool.head_weight[0])
    assert torch.equal(rows.head_bias[0], pool.head_bias[0])
    torch.testing.assert_close(rows.embed[1], noun.embed.mean(0))
    torch.testing.assert_close(rows.head_bias[2], noun.head_bias.mean())


def test_without_a_pool_the_name_starts_at_the_noun() -> None:
    model = tiny_model(name_pool=[])
    noun = model.read_rows(text_ids(model.tokenizer, " robot")).embed.mean(0)
    assert add_concept(model, "bo", "robot", num_tokens=1).pool_name is None
    torch.testing.assert_close(model.read_rows([model.config.first_concept]).embed[0], noun)


def test_only_the_name_itself_can_be_written() -> None:
    model = tiny_model()
    add_concept(model, "bo", "robot", num_tokens=2)
    name, *soft = concept_row_ids(model).tolist()
    pool = [text_ids(model.tokenizer, token)[0] for token in model.name_pool]
    assert set(model.config.suppress_tokens) == {*soft, *pool}
    with torch.no_grad():
        model.showo.lm_head.bias[[name, *soft, *pool]] = torch.tensor([50.0, *[90.0] * 5])
    out = model.generate_text([TextContext("who? ASSISTANT:")], Sampling(max_completion_length=3), [1])
    assert out.texts == ["<bo><bo><bo>"]


def test_second_concept_continues_numbers_and_pool() -> None:
    model = tiny_model()
    add_concept(model, "bo", "robot", num_tokens=2)
    first = model.read_rows(concept_row_ids(model, "bo").tolist())
    second = add_concept(model, "rex", "dog", num_tokens=2)
    assert second.tokens == ["<token_2>", "<token_3>"] and second.pool_name == "<zed>"
    assert concept_row_ids(model, "rex").tolist() == [model.config.first_concept + 3 + i for i in range(3)]
    assert torch.equal(first.embed, model.read_rows(concept_row_ids(model, "bo").tolist()).embed)
    add_concept(model, "max", "dog")
    with pytest.warns(UserWarning, match="pool names are in use"):
        assert add_concept(model, "tom", "dog").pool_name is None
    assert model.generate_image(["<tom> and <bo>"], Sampling(generation_timesteps=2), [1]).tokens.max() < 64


@pytest.mark.parametrize(
    ("name", "noun", "message"),
    [
        ("kip", "dog", "in the vocabulary already"),
        ("bo", "dog", "in the vocabulary already"),
        ("<zap>", "dog", "without < >"),
        ("two words", "dog", "letters"),
        ("zap", " ", "class_noun is empty"),
    ],
)
def test_unusable_names_change_nothing(name: str, noun: str, message: str) -> None:
    model = tiny_model()
    add_concept(model, "bo", "robot")
    size = len(model.tokenizer), model.config
    with pytest.raises(ValueError, match=message):
        add_concept(model, name, noun)
    assert (len(model.tokenizer), model.config) == size


def test_unknown_concept_is_named() -> None:
    with pytest.raises(ValueError, match="no concept 'bo'"):
        concept_row_ids(tiny_model(), "bo")


def test_concept_travels_between_models(tmp_path: Path) -> None:
    model, other = tiny_model(0), tiny_model(1)
    add_concept(model, "bo", "robot", num_tokens=2)
    save_concept(model, "bo", tmp_path / "bo.safetensors")
    for _ in range(2):  # adds, then overwrites
        concept = load_concept(other, tmp_path / "bo.safetensors")
        assert concept.tokens == ["<token_0>", "<token_1>"]
        assert torch.equal(
            other.read_rows(concept_row_ids(other).tolist()).embed,
            model.read_rows(concept_row_ids(model).tolist()).embed,
        )
        other.write_rows(concept_row_ids(other).tolist(), other.read_rows([5, 6, 7]))
    (tmp_path / "bad.safetensors").write_text("no")
    with pytest.raises(ValueError, match="bad"):
        load_concept(other, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="this model needs"):
        load_concept(tiny_model(hidden_size=64), tmp_path / "bo.safetensors")


def test_model_with_concepts_is_saved_and_read(tmp_path: Path) -> None:
    model, plain = tiny_model(), tiny_model()
    concept = add_concept(model, "bo", "robot")
    model.save_pretrained(tmp_path / "bo")
    again = Showo.from_pretrained(tmp_path / "bo")
    assert again.concepts == [concept] and again.config == model.config
    sampling = Sampling(generation_timesteps=3)
    prompts = ["<token_0><bo> in the snow"]
    assert torch.equal(
        model.generate_image(prompts, sampling, [1]).tokens, again.generate_image(prompts, sampling, [1]).tokens
    )
    plain.save_pretrained(tmp_path / "plain")
    (tmp_path / "plain" / "model.safetensors").write_bytes((tmp_path / "bo" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=rf"{model.config.vocab_size} rows.*{plain.config.vocab_size}"):
        Showo.from_pretrained(tmp_path / "plain")


def test_published_concept_files(tmp_path: Path) -> None:
    model, values = (
        tiny_model(),
        {"embed": torch.randn(3, 32), "lm_head_weight": torch.randn(3, 32), "lm_head_bias": torch.randn(3)},
    )
    for part, value in values.items():
        torch.save(value, tmp_path / f"epoch_15_{part}.pt")
    concept = import_concept(model, tmp_path, 15, "bo", "dog")
    assert concept.tokens == ["<token_0>", "<token_1>"]
    rows = model.read_rows(concept_row_ids(model, "bo").tolist())
    assert torch.equal(rows.embed, values["embed"]) and torch.equal(rows.head_bias, values["lm_head_bias"])
    with pytest.raises(ValueError, match="epoch_20_embed"):
        import_concept(model, tmp_path, 20, "rex", "dog")


def test_a_name_from_the_pool_stays_and_another_learns() -> None:
    model = tiny_model()
    pool = len(model.name_pool)
    for number in range(pool):
        add_concept(model, f"c{number}", "dog", num_tokens=1)
    with pytest.warns(UserWarning):
        add_concept(model, "late", "dog", num_tokens=1)  # the pool is used up, its name starts at the class noun
    soft = [f"<token_{number}>" for number in range(pool + 1)]
    expected = model.tokenizer.convert_tokens_to_ids([*soft[:pool], "<late>", soft[pool]])
    assert learned_row_ids(model).tolist() == expected
