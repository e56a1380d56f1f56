"""Concept tokens of UniCTokens: ids at the full vocabulary, files in and out, RL checkpoints, the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sync_r1.cli import app
from sync_r1.models.base import ConceptTokens
from sync_r1.models.concept_files import concept_paths, export_concept, import_concept
from sync_r1.models.concept_tokens import concept_row_ids
from sync_r1.models.loading import load_model
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.published import import_showo
from sync_r1.types import Sampling
from tests.models.published import Published, write_full_vocabulary

# unifybench.md, section 3: K, id of code 0, mask id, vocabulary; roles (read, draw) of the stages
TABLE = [(17, 50322, 58514, 58515, (16, 16)), (25, 50330, 58522, 58523, (16, 24)), (33, 50338, 58530, 58531, (16, 24))]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_full_vocabulary(tmp_path_factory.mktemp("full"))


def loaded(published: Published) -> Showo:
    model = load_model(published.showo, device="cpu", **published.tokenizers)
    assert isinstance(model, Showo)
    return model


def write_tokens(folder: Path, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {
        "embed": torch.randn(rows, 8, generator=generator),
        "lm_head_weight": torch.randn(rows, 8, generator=generator),
        "lm_head_bias": torch.randn(rows, generator=generator),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, value in values.items():
        torch.save(value, folder / f"epoch_15_{part}.pt")
    return values


def test_base_ids_are_the_published_ones(published: Published) -> None:
    config = loaded(published).config
    specials = {name: config.special(name) for name in ("soi", "eoi", "sov", "eov", "t2i", "mmu", "t2v", "v2v", "lvg")}
    assert list(specials.values()) == list(range(50296, 50305))
    assert (config.pad_id, config.bos_id, config.eos_id) == (50295, 50256, 50256)
    assert (config.image_offset, config.mask_id, config.vocab_size) == (50305, 58497, 58498)


@pytest.mark.parametrize(("rows", "offset", "mask", "total", "roles"), TABLE)
def test_ids_and_rows_after_an_import(
    published: Published, tmp_path: Path, rows: int, offset: int, mask: int, total: int, roles
) -> None:
    model = loaded(published)
    before = load_file(published.showo / "pytorch_model.safetensors")
    values = write_tokens(tmp_path, rows)
    concept = import_concept(model, tmp_path, 15, "bo", "dog")
    assert concept_row_ids(model, "bo").tolist() == list(range(50305, 50305 + rows))
    assert model.tokenizer.convert_tokens_to_ids(["<bo>", "<token_0>", f"<token_{rows - 2}>"]) == [
        50305,
        50306,
        50304 + rows,
    ]
    assert model.tokenizer("<token_0><bo>", add_special_tokens=False)["input_ids"] == [50306, 50305]
    assert (model.config.image_offset, model.config.mask_id, model.config.vocab_size) == (offset, mask, total)
    assert (concept.read, concept.draw) == roles
    for name, part in (
        ("model.embed_tokens.weight", "embed"),
        ("lm_head.weight", "lm_head_weight"),
        ("lm_head.bias", "lm_head_bias"),
    ):
        now, old = model.showo.state_dict()[name], before[f"showo.{name}"]
        assert torch.equal(now[:50305], old[:50305]) and torch.equal(now[50305:offset], values[part])
        assert torch.equal(now[offset:], old[50305:])  # codes and mask moved up unchanged


def test_files_go_out_as_they_came_in(published: Published, tmp_path: Path) -> None:
    model = loaded(published)
    write_tokens(tmp_path / "in", 25)
    import_concept(model, tmp_path / "in", 15, "bo", "dog")
    written = export_concept(model, "bo", tmp_path / "out", epoch=20)
    assert written == concept_paths(tmp_path / "out", 20)
    for source, target in zip(concept_paths(tmp_path / "in", 15), written, strict=True):
        value = torch.load(target, weights_only=True)
        assert value.dtype == torch.float32 and torch.equal(value, torch.load(source, weights_only=True))
    with pytest.raises(ValueError, match="no concept 'rex'"):
        export_concept(model, "rex", tmp_path / "out", epoch=20)


def test_bad_concept_files_are_named(published: Published, tmp_path: Path) -> None:
    model = loaded(published)
    write_tokens(tmp_path, 25)
    with pytest.raises(ValueError, match=r"epoch_20_embed\.pt is missing.*found: epoch_15_embed\.pt"):
        import_concept(model, tmp_path, 20, "bo", "dog")
    torch.save([print], tmp_path / "epoch_15_lm_head_bias.pt")
    with pytest.raises(ValueError, match=r"epoch_15_lm_head_bias\.pt is refused"):
        import_concept(model, tmp_path, 15, "bo", "dog")
    torch.save({"rows": torch.zeros(25)}, tmp_path / "epoch_15_lm_head_bias.pt")
    with pytest.raises(ValueError, match="holds a dict; expected one tensor"):
        import_concept(model, tmp_path, 15, "bo", "dog")
    torch.save(torch.zeros(24), tmp_path / "epoch_15_lm_head_bias.pt")
    with pytest.raises(ValueError, match=r"\(24,\); this model needs \(25, 8\)"):
        import_concept(model, tmp_path, 15, "bo", "dog")


@pytest.fixture(scope="module")
def checkpoint(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Showo]:
    """An RL checkpoint of UniCTokens, and the model that was saved in it."""
    root = tmp_path_factory.mktemp("rl")
    model = loaded(published)
    write_tokens(root, 25)
    import_concept(model, root, 15, "bo", "dog")
    weights = {f"showo.{name}": value for name, value in model.showo.state_dict().items()}
    optimizer = torch.optim.AdamW(model.showo.parameters()).state_dict()
    torch.save({"epoch": 4, "model_state_dict": weights, "optimizer_state_dict": optimizer}, root / "model_epoch4.pt")
    return root / "model_epoch4.pt", model


def test_an_rl_checkpoint_is_the_model_that_was_saved(checkpoint: tuple[Path, Showo], published: Published) -> None:
    path, model = checkpoint
    config = json.loads((published.showo / "config.json").read_text())
    (path.parent / "config.json").write_text(json.dumps(config))
    sources = (path, published.image_tokenizer, published.text_tokenizer)
    again = import_showo(*sources, concept=ConceptTokens("bo", class_noun="dog"))
    assert again.config == model.config and again.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    sampling, prompt = Sampling(generation_timesteps=2), ["<token_0> <bo>"]
    assert torch.equal(
        again.generate_image(prompt, sampling, [1]).tokens, model.generate_image(prompt, sampling, [1]).tokens
    )
    with pytest.raises(ValueError, match="25 rows of a concept; say whose"):
        import_showo(*sources)
    with pytest.raises(ValueError, match="25 concept rows, 'bo' has 2 tokens"):
        import_showo(*sources, concept=ConceptTokens("bo", ["<token_0>"], "dog"))
    with pytest.raises(ValueError, match="leave out --concept"):
        import_showo(published.showo, *sources[1:], concept=ConceptTokens("bo"))


def test_a_bare_checkpoint_is_taken_for_512_pixels(checkpoint: tuple[Path, Showo], published: Published) -> None:
    path, _ = checkpoint
    (path.parent / "config.json").unlink(missing_ok=True)
    model = import_showo(
        path, published.image_tokenizer, published.text_tokenizer, concept=ConceptTokens("bo", class_noun="dog")
    )
    assert model.num_image_tokens == 1024


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["models", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_commands_from_published_files_to_a_concept_and_back(published: Published, tmp_path: Path) -> None:
    tokenizers = ("--image-tokenizer", published.image_tokenizer, "--text-tokenizer", published.text_tokenizer)
    assert "58498 vocabulary rows, 32 px" in run(
        "import", published.showo, *tokenizers, "--out", tmp_path / "showo", "--dtype", "bf16"
    )
    write_tokens(tmp_path / "in", 25)
    names = ("--concept", "bo", "--class-noun", "dog", "--out", tmp_path / "bo")
    assert "<bo> and 24 soft tokens" in run("import-concept", tmp_path / "showo", tmp_path / "in", *names)
    facts = json.loads(run("info", tmp_path / "bo", "--json"))
    assert (
        facts["concepts"] == [{"name": "bo", "class_noun": "dog", "tokens": 24}]
        and facts["sizes"]["vocab_size"] == 58523
    )
    assert "vocab_size 58,498" in run("info", published.showo)
    assert len(run("export-concept", tmp_path / "bo", tmp_path / "out", "--concept", "bo").splitlines()) == 3
    sent, back = (torch.load(tmp_path / folder / "epoch_15_embed.pt", weights_only=True) for folder in ("in", "out"))
    assert torch.equal(sent, back)
    assert "family        showo" in run("info", "world")
