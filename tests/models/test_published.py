"""Published layouts through the loader that users call: numbers, formats, bad folders, the hub, the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sync_r1.costs.model_sizes import SIZES
from sync_r1.models.janus.model import Janus
from sync_r1.models.loading import FAMILIES, describe, load_model
from sync_r1.models.showo import check
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.convert import convert_magvit, magvit_config, showo_sizes
from sync_r1.models.showo.magvit import MagvitConfig
from sync_r1.models.showo.model import Showo
from sync_r1.types import Sampling, TextContext
from tests.models.janus_toys import tiny_janus
from tests.models.published import EMBED, KIT, Published, write_kit

CONTEXT = TextContext("USER: hi ASSISTANT:", torch.arange(16))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_kit(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(kit: Published) -> Showo:
    return load_showo(kit)


def load_showo(published: Published, **options: object) -> Showo:
    loaded = load_model(published.showo, device="cpu", **published.tokenizers, **options)  # type: ignore[arg-type]
    assert isinstance(loaded, Showo)
    return loaded


def copied(kit: Published, folder: Path) -> Published:
    """Its own Show-o folder, to spoil."""
    folder.mkdir()
    for path in kit.showo.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return replace(kit, showo=folder)


@torch.no_grad()
def test_golden_numbers_through_the_loader(model: Showo) -> None:
    golden, sizes = load_file(KIT / "golden.safetensors"), json.loads((KIT / "golden.json").read_text())
    used = [*range(sizes["mask"]), model.config.mask_id]  # without the codes that the kit lacks
    mask = golden["t2i_input_ids"] == sizes["mask"]
    ids = golden["t2i_input_ids"].masked_fill(mask, model.config.mask_id)
    hidden = model.hidden(ids, golden["t2i_attention_mask"].bool())
    logits = model.head(hidden, slice(0, model.config.vocab_size))[..., used]
    torch.testing.assert_close(logits[:, -17:-1], golden["t2i_logits_image_positions"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[:, sizes["max_text_slot"] - 1], golden["t2i_logits_last_text"], atol=1e-4, rtol=0)
    hidden = model.hidden(golden["mmu_input_ids"], golden["mmu_attention_mask"].bool())
    torch.testing.assert_close(
        model.head(hidden, slice(0, model.config.vocab_size))[..., used], golden["mmu_logits"], atol=1e-4, rtol=0
    )
    assert model.magvit is not None
    pictures = check._pictures(model.magvit, golden)
    assert torch.equal(pictures["magvit_codes"], golden["magvit_codes"])
    torch.testing.assert_close(pictures["magvit_decoded"], golden["magvit_decoded"], atol=1e-4, rtol=0)


def test_sizes_come_from_tensors_and_config(model: Showo) -> None:
    assert model.magvit is not None
    assert (model.config.num_hidden_layers, model.config.num_attention_heads, model.num_image_tokens) == (2, 4, 16)
    assert model.magvit.config.channel_multipliers == (1, 1, 2) and model.magvit.config.num_res_blocks == (1, 2, 1)
    assert model.image_size == model.magvit.config.resolution == 16  # 4 x 4 tokens of 4 pixels
    assert model.decode_image(torch.zeros(1, 16, dtype=torch.long)).shape == (1, 3, 16, 16)
    assert len(model.tokenizer) == model.config.image_offset == 110


@pytest.mark.parametrize(("image_tokens", "pixels"), [(256, 256), (1024, 512)])
def test_sizes_of_the_real_models(image_tokens: int, pixels: int) -> None:
    shapes = json.loads((KIT / "upstream_parameters.json").read_text())
    assert magvit_config(convert_magvit(shapes["magvitv2"]), pixels) == MagvitConfig(resolution=pixels)
    assert MagvitConfig(resolution=pixels).num_tokens == image_tokens
    published = ShowoConfig(**showo_sizes(shapes["showo"]))
    assert published == ShowoConfig() and published.vocab_size == shapes["showo"][EMBED][0]


def as_bin(folder: Path, weights: dict) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def as_old_file(folder: Path, weights: dict) -> None:
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_shards(folder: Path, weights: dict) -> None:
    names = sorted(weights)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def as_training_checkpoint(folder: Path, weights: dict) -> None:
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    torch.save(
        {"epoch": 2, "model_state_dict": wrapped, "optimizer_state_dict": {"state": {}}}, folder / "model_epoch2.pt"
    )


def as_two_formats(folder: Path, weights: dict) -> None:
    save_file(weights, folder / "model.safetensors")
    as_bin(folder, {name: torch.zeros_like(value) for name, value in weights.items()})


@pytest.mark.parametrize("write", [as_bin, as_old_file, as_shards, as_training_checkpoint, as_two_formats])
def test_every_format_gives_the_same_model(kit: Published, model: Showo, tmp_path: Path, write) -> None:
    published = copied(kit, tmp_path / "show-o")
    weights = load_file(published.showo / "pytorch_model.safetensors")
    (published.showo / "pytorch_model.safetensors").unlink()
    write(published.showo, weights)
    again = load_showo(published).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


class Evil:
    def __reduce__(self):
        return (print, ("this would have run",))


def rewritten(change) -> object:
    def spoil(folder: Path) -> None:
        file = folder / "pytorch_model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file)

    return spoil


def with_code(folder: Path) -> None:
    (folder / "pytorch_model.safetensors").unlink()
    torch.save({"showo.model.x": torch.zeros(1), "more": Evil()}, folder / "pytorch_model.bin")


def without_a_shard(folder: Path) -> None:
    as_shards(folder, load_file(folder / "pytorch_model.safetensors"))
    (folder / "pytorch_model.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()


def without_index_or_shard(folder: Path) -> None:
    without_a_shard(folder)
    (folder / "model.safetensors.index.json").unlink()


def as_llama(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')


def as_diffusion(folder: Path) -> None:
    (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "sample_size": 64}')


BAD = [
    (
        rewritten(lambda w: w.update({"showo.model.layers.1.mlp.fc1.bias": torch.zeros(7)})),
        r"layers\.1\.mlp\.fc1\.bias has shape \[7\].*\[128\]",
    ),
    (rewritten(lambda w: w.pop("showo.model.final_layernorm.bias")), r"lacks 1 tensors .*final_layernorm\.bias"),
    (rewritten(lambda w: w.update({"showo.model.extra": torch.zeros(1)})), r"unknown 1 tensors .*showo\.model\.extra"),
    (rewritten(lambda w: w.update({"mm_projector.0.weight": torch.zeros(1)})), "CLIP encoder.*use showlab/show-o"),
    (
        rewritten(lambda w: w.update({"transformer.h.0": torch.zeros(1)})),
        r"not a Show-o checkpoint: tensor transformer\.h\.0",
    ),
    (
        rewritten(lambda w: w.pop("showo.model.layers.0.mlp.fc1.weight")),
        r"lacks the tensor .*layers\.0\.mlp\.fc1\.weight",
    ),
    (rewritten(lambda w: w.update({EMBED: torch.zeros(8306, 64)})), "3 rows of a concept; say whose"),
    (with_code, r"pytorch_model\.bin is refused: it holds Python objects.*safetensors"),
    (without_a_shard, r"model-00002-of-00002\.safetensors is missing"),
    (without_index_or_shard, r"model-00002-of-00002\.safetensors is missing"),
    (
        lambda folder: (folder / "pytorch_model.safetensors").unlink(),
        r"holds no weights \(found config\.json\).*model\.safetensors",
    ),
    (
        lambda folder: (folder / "pytorch_model.safetensors").write_bytes(b"oops"),
        r"pytorch_model\.safetensors is damaged",
    ),
    (
        lambda folder: (folder / "config.json").unlink(),
        r"config\.json is missing \(found pytorch_model\.safetensors\).*llm_vocab_size",
    ),
    (lambda folder: (folder / "config.json").write_text("oops"), r"config\.json: not valid JSON"),
    (as_llama, "model_type 'llama'.*'showo' and 'janus' can be loaded.*published Show-o folder"),
    (as_diffusion, "fields _class_name, sample_size.*can be loaded"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_show_o_folders_are_named(kit: Published, tmp_path: Path, spoil, message: str) -> None:
    published = copied(kit, tmp_path / "show-o")
    spoil(published.showo)
    with pytest.raises(ValueError, match=message):
        load_showo(published)


def test_bad_tokenizers_are_named(kit: Published, tmp_path: Path) -> None:
    for changes, message in (
        ({"image_tokenizer": kit.showo}, "no MAGVIT-v2 image tokenizer .*showlab/magvitv2"),
        ({"text_tokenizer": kit.showo}, "no tokenizer: found config.json.*expected tokenizer.json"),
        ({"text_tokenizer": Path(__file__).parents[2] / "sync_r1/world/assets/model"}, "tokens.*trained with 100"),
    ):
        with pytest.raises(ValueError, match=message):
            load_showo(replace(kit, **changes))
    shuffled = load_file(kit.image_tokenizer / "pytorch_model.safetensors")
    shuffled["quantize.power_vals"] = shuffled["quantize.power_vals"].flip(0)
    save_file(shuffled, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="highest bit first"):
        load_showo(replace(kit, image_tokenizer=tmp_path))


def test_a_tokenizer_of_vocabulary_and_merges(kit: Published, tmp_path: Path, model: Showo) -> None:
    content = json.loads((kit.text_tokenizer / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    added = {
        token["content"]: token["id"]
        for token in content["added_tokens"]
        if token["content"] not in content["model"]["vocab"]
    }
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    again = load_showo(replace(kit, text_tokenizer=tmp_path))
    assert again.tokenizer.get_vocab() == model.tokenizer.get_vocab()


def test_hub_ids_come_from_the_cache_or_say_what_to_do(
    kit: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, folder in (("show-o", kit.showo), ("magvitv2", kit.image_tokenizer), ("phi", kit.text_tokenizer)):
        snapshot = tmp_path / f"models--some--{name}" / "snapshots" / ("a" * 40)
        snapshot.parent.mkdir(parents=True)
        snapshot.symlink_to(folder)
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("a" * 40)
    loaded = load_model("some/show-o", device="cpu", image_tokenizer="some/magvitv2", text_tokenizer="some/phi")
    assert loaded.num_image_tokens == 16
    with pytest.raises(
        ValueError, match=r"some/other is no folder here and could not be fetched.*pass its folder"
    ) as caught:
        load_model("some/other", device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such file or folder; give a folder, or a hub id"):
        load_model(tmp_path / "nowhere")


def test_bf16_halves_the_backbone_only(kit: Published, model: Showo) -> None:
    half = load_showo(kit, dtype=torch.bfloat16)
    assert half.magvit is not None
    assert {parameter.dtype for parameter in half.showo.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in half.magvit.parameters()} == {torch.float32}
    assert half.showo.model.rotary_emb.inv_freq.dtype == torch.float32
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(half.encode_image(picture), model.encode_image(picture))


def test_bf16_log_probabilities_are_fp32_and_close(kit: Published, model: Showo) -> None:
    half = load_showo(kit, dtype=torch.bfloat16)
    sampling = Sampling(guidance_scale=2.0, generation_timesteps=4, max_completion_length=8)
    trace = half.generate_image(["a hat", "a dog"], sampling, [1, 2])
    drawn, committed = half.image_logps(["a hat", "a dog"], trace, sampling, [0, 1, 2, 3])
    assert drawn.dtype == torch.float32 and committed.all()
    torch.testing.assert_close(drawn, trace.logps, atol=0.05, rtol=0)
    torch.testing.assert_close(
        drawn, model.image_logps(["a hat", "a dog"], trace, sampling, [0, 1, 2, 3])[0], atol=0.3, rtol=0
    )
    text = half.generate_text([CONTEXT, CONTEXT], sampling, [1, 2])
    written, entropy = half.text_logps([CONTEXT, CONTEXT], text.ids, text.mask, sampling)
    assert written.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(written, text.logps, atol=0.05, rtol=0)
    torch.testing.assert_close(
        written, model.text_logps([CONTEXT, CONTEXT], text.ids, text.mask, sampling)[0], atol=0.3, rtol=0
    )


def test_our_folders_and_janus_are_told_apart(model: Showo, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "showo")
    tiny_janus().save_pretrained(tmp_path / "janus")
    again = load_model(tmp_path / "showo", device="cpu")
    assert isinstance(again, Showo) and again.config == model.config
    assert isinstance(load_model(tmp_path / "janus", device="cpu"), Janus)
    described, whole = describe(tmp_path / "janus"), sum(parameter.numel() for parameter in tiny_janus().parameters())
    assert (
        described["family"] == "janus"
        and described["sizes"]["codebook_size"] == 32
        and described["sizes"]["image_size"] == 16
    )
    assert sum(described["parameters"].values()) == whole and described["parameters"]["image_tokenizer"] > 0
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU; use cpu or auto"):
            load_model(tmp_path / "showo", device="cuda")


def test_every_family_that_loads_can_be_estimated() -> None:
    assert list(FAMILIES) == list(SIZES)


def test_info_reads_headers_only(kit: Published, model: Showo, tmp_path: Path) -> None:
    facts = describe(kit.showo)
    assert (facts["family"], facts["layout"], facts["sizes"]["hidden_size"]) == ("showo", "published", 64)
    backbone = sum(parameter.numel() for parameter in model.showo.parameters())
    assert facts["parameters"]["backbone"] == backbone
    model.save_pretrained(tmp_path)
    ours = describe(tmp_path)
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert ours["layout"] == "ours" and sum(ours["parameters"].values()) == everything
    assert ours["memory_gb"]["bf16"] == round((2 * backbone + 4 * (everything - backbone)) / 1e9, 3)
