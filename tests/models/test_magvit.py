"""MAGVIT-v2: parity with the published code, LFQ arithmetic, sizes, storage and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from sync_r1.models.showo.convert import convert_magvit
from sync_r1.models.showo.magvit import Magvit, MagvitConfig, bits_to_codes, codes_to_bits

KIT = Path(__file__).parents[1] / "data" / "parity"
SMALL = MagvitConfig(
    channels=8,
    channel_multipliers=(1, 2),
    num_res_blocks=(1, 1),
    decoder_multipliers=None,
    decoder_res_blocks=None,
    z_channels=6,
    norm_groups=4,
    resolution=16,
    unshuffle=2,
)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(KIT / "golden.safetensors")


@pytest.fixture(scope="module")
def published() -> Magvit:
    sizes = json.loads((KIT / "golden.json").read_text())["magvit"]
    config = MagvitConfig(
        channels=sizes["ch"],
        channel_multipliers=sizes["ch_mult"],
        num_res_blocks=sizes["num_res_blocks"],
        decoder_multipliers=None,
        decoder_res_blocks=None,
        z_channels=sizes["z_channels"],
        resolution=sizes["resolution"],
        attn_resolutions=sizes["attn_resolutions"],
    )
    model = Magvit(config)
    model.load_state_dict(convert_magvit(load_file(KIT / "magvit_tiny.safetensors")))
    return model.eval()


@pytest.fixture
def small() -> Magvit:
    torch.manual_seed(0)
    return Magvit(SMALL).eval()


def test_latents_match_published_code(published: Magvit, golden: dict[str, Tensor]) -> None:
    with torch.no_grad():
        latents = published.encoder(golden["magvit_pixels"])
    torch.testing.assert_close(latents, golden["magvit_latents"], atol=1e-4, rtol=0)


def test_codes_match_published_code(published: Magvit, golden: dict[str, Tensor]) -> None:
    assert torch.equal(published.encode(golden["magvit_pixels"]), golden["magvit_codes"])
    assert torch.equal(published.quantize(golden["magvit_latents"])[1], golden["magvit_codes"])


def test_decoded_pixels_match_published_code(published: Magvit, golden: dict[str, Tensor]) -> None:
    codes = golden["magvit_codes"]
    with torch.no_grad():
        decoded = published.decoder(codes_to_bits(codes, 13).transpose(1, 2).unflatten(2, (8, 8)))
    torch.testing.assert_close(decoded, golden["magvit_decoded"], atol=1e-4, rtol=0)
    torch.testing.assert_close(published.decode_codes(codes), golden["magvit_decoded"].clamp(-1, 1), atol=1e-4, rtol=0)


def test_full_size_names_and_shapes_are_exactly_the_published_ones() -> None:
    shapes = json.loads((KIT / "upstream_parameters.json").read_text())["magvitv2"]
    state = convert_magvit({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    with torch.device("meta"):
        model = Magvit(MagvitConfig())
    model.load_state_dict(state, strict=True, assign=True)
    assert len(state) == len(shapes) - 2  # the LFQ buffers
    assert 90e6 < sum(p.numel() for p in model.parameters()) < 100e6
    assert model.config.downscale == 16 and model.config.codebook_size == 8192


def test_codebook_rows_of_the_kit_are_our_bits() -> None:
    rows = load_file(KIT / "magvit_tiny.safetensors")["quantize.embedding"]
    assert torch.equal(codes_to_bits(torch.arange(len(rows)), 13), rows)


def test_another_bit_order_is_refused() -> None:
    with pytest.raises(ValueError, match="highest bit first"):
        convert_magvit({"quantize.power_vals": torch.tensor([1, 2, 4])})


@settings(max_examples=50, deadline=None)
@given(bits=st.integers(1, 30), data=st.data())
def test_codes_survive_the_way_through_bits(bits: int, data: st.DataObject) -> None:
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=8)))
    signs = codes_to_bits(codes, bits)
    assert signs.shape == (len(codes), bits) and set(signs.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(bits_to_codes(signs), codes)


def test_quantize_by_hand(small: Magvit) -> None:
    latents = torch.tensor([0.3, -0.2, 0.0, 5.0, -1.0, 0.1]).view(1, 6, 1, 1).requires_grad_()
    signs, codes = small.quantize(latents)
    assert codes.tolist() == [[0b100101]]
    assert signs.flatten().tolist() == pytest.approx([1, -1, -1, 1, -1, 1])
    (signs * torch.arange(6.0).view(1, 6, 1, 1)).sum().backward()
    assert latents.grad is not None and latents.grad.flatten().tolist() == [0, 1, 2, 3, 4, 5]  # straight through


def test_lfq_losses_by_hand(small: Magvit) -> None:
    # two bits, each used equally, copies of each other
    sure = torch.tensor([10.0, -10.0]).view(2, 1, 1, 1).expand(2, 2, 1, 1)
    losses = small.lfq_losses(sure)
    assert losses["commitment"].item() == pytest.approx(81)
    assert losses["sample_entropy"].item() == pytest.approx(0, abs=1e-4)
    assert losses["batch_entropy"].item() == pytest.approx(0.6931, abs=1e-3)
    assert losses["correlation"].item() == pytest.approx(1)  # two off-diagonal ones over two bits
    independent = torch.tensor([[10.0, 10.0], [10.0, -10.0], [-10.0, 10.0], [-10.0, -10.0]]).view(4, 2, 1, 1)
    assert small.lfq_losses(independent)["correlation"].item() == pytest.approx(0, abs=1e-6)
    constant = small.lfq_losses(torch.full((4, 2, 1, 1), 10.0))
    assert constant["batch_entropy"].item() == pytest.approx(0, abs=1e-4)
    assert constant["quantization"] > small.lfq_losses(independent)["quantization"]


def test_tiny_config_shapes() -> None:
    config = MagvitConfig.tiny()
    assert (config.downscale, config.num_tokens, config.codebook_size) == (4, 64, 4096)
    model = Magvit(config).eval()
    assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 2e6
    codes = model.encode(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert codes.shape == (2, 64) and codes.dtype == torch.long
    pixels = model.decode_codes(codes)
    assert pixels.shape == (2, 3, 32, 32) and pixels.abs().max() <= 1


def test_training_lowers_the_loss(small: Magvit) -> None:
    pixels = torch.rand(8, 3, 1, 1).expand(8, 3, 16, 16) * 2 - 1
    optimizer = torch.optim.AdamW(small.parameters(), lr=3e-3)
    totals, parts = [], []
    for _ in range(40):
        reconstruction, losses = small(pixels)
        assert reconstruction.shape == pixels.shape
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        totals.append(losses["total"].item())
        parts.append(losses["reconstruction"].item())
    assert all(p.grad is not None for p in small.parameters())
    assert totals[-1] < totals[0] - 0.1 and parts[-1] < 0.9 * parts[0]


def test_rows_do_not_depend_on_the_batch(small: Magvit) -> None:
    pixels = torch.rand(3, 3, 16, 16) * 2 - 1
    codes = small.encode(pixels)
    assert torch.equal(torch.cat([small.encode(row[None]) for row in pixels]), codes)


def test_larger_pictures_give_more_tokens(small: Magvit) -> None:
    assert small.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    assert small.decode_codes(torch.zeros(1, 64, dtype=torch.long)).shape == (1, 3, 32, 32)


def test_saved_model_is_the_same(small: Magvit, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "magvit")
    loaded = Magvit.from_pretrained(tmp_path / "magvit")
    assert loaded.config == SMALL and not loaded.training
    for name, value in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert sorted(p.name for p in (tmp_path / "magvit").iterdir()) == ["config.json", "model.safetensors"]


def test_from_pretrained_says_what_is_wrong(small: Magvit, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        Magvit.from_pretrained(tmp_path)
    small.save_pretrained(tmp_path)
    values = SMALL.to_dict() | {"z_channels": 7}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json"):
        Magvit.from_pretrained(tmp_path)


def test_attention_inside_levels_follows_the_grid_size() -> None:
    config = MagvitConfig.from_dict(SMALL.to_dict() | {"attn_resolutions": [4]})
    model = Magvit(config)
    names = {name.rsplit(".", 2)[0] for name in model.state_dict() if ".attentions." in name}
    assert names == {"encoder.levels.1.attentions.0", "decoder.levels.1.attentions.0"}
    assert model.encode(torch.zeros(1, 3, 16, 16)).shape == (1, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_res_blocks": (1,)}, "num_res_blocks has 1 entries"),
        ({"decoder_multipliers": (1, 2, 3)}, "decoder_multipliers has 3 entries"),
        ({"z_channels": 0}, "z_channels is 0"),
        ({"norm_groups": 3}, "multiple of norm_groups = 3"),
        ({"resolution": 30}, "resolution is 30; it must be a multiple of 4"),
        ({"width": 3}, "unknown MagvitConfig fields"),
    ],
)
def test_config_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MagvitConfig.from_dict(SMALL.to_dict() | changes)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 20), (1, 3, 18, 18)])
def test_pictures_that_do_not_fit(small: Magvit, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="16"):
        small.encode(torch.zeros(shape))


def test_integer_pictures_are_refused(small: Magvit) -> None:
    with pytest.raises(ValueError, match=r"expected floats"):
        small(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_codes_that_do_not_fit(small: Magvit) -> None:
    with pytest.raises(ValueError, match="square number of tokens"):
        small.decode_codes(torch.zeros(1, 15, dtype=torch.long))
    with pytest.raises(ValueError, match=r"0\.\.63"):
        small.decode_codes(torch.full((1, 16), 64))
