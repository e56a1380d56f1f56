"""Numbers of the published code, recomputed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sync_r1.models.showo.check import check_kit

KIT = Path(__file__).parents[1] / "data" / "parity"


@pytest.fixture(scope="module")
def report() -> dict[str, dict]:
    return check_kit(KIT)


@pytest.mark.parametrize("name", sorted(load_file(KIT / "golden.safetensors")))
def test_every_golden_tensor_is_reproduced(report: dict[str, dict], name: str) -> None:
    assert report[name]["ok"], report[name]


def test_integers_are_exact_and_floats_close(report: dict[str, dict]) -> None:
    for name in ("t2i_attention_mask", "mmu_attention_mask", "mmu_greedy_tokens", "magvit_codes", "remask_mask_3"):
        assert report[name]["max_error"] == 0
    assert max(entry["max_error"] for entry in report.values()) < 1e-4


def copy_kit(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KIT, tmp_path / "kit"))


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    kit = copy_kit(tmp_path)
    weights = load_file(kit / "showo_tiny.safetensors")
    weights["showo.model.layers.1.self_attn.q_layernorm.weight"] += 0.1
    save_file(weights, kit / "showo_tiny.safetensors")
    report = check_kit(kit)
    assert not report["mmu_logits"]["ok"]
    assert not report["t2i_logits_image_positions"]["ok"]
    assert report["magvit_decoded"]["ok"]


@pytest.mark.parametrize(
    "name", ["golden.json", "golden.safetensors", "showo_tiny.safetensors", "magvit_tiny.safetensors"]
)
def test_missing_or_broken_file_is_named(tmp_path: Path, name: str) -> None:
    kit = copy_kit(tmp_path)
    (kit / name).write_text("not this")
    with pytest.raises(ValueError, match=name):
        check_kit(kit)
    (kit / name).unlink()
    with pytest.raises(ValueError, match=name):
        check_kit(kit)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    kit = copy_kit(tmp_path)
    golden = load_file(kit / "golden.safetensors")
    golden.pop("mmu_logits")
    save_file(golden, kit / "golden.safetensors")
    with pytest.raises(ValueError, match="mmu_logits"):
        check_kit(kit)


def test_full_size_names_and_shapes_match_the_published_model() -> None:
    import json

    from sync_r1.models.showo.config import ShowoConfig
    from sync_r1.models.showo.convert import convert_showo
    from sync_r1.models.showo.model import Showo
    from tests.helpers import tiny_tokenizer

    published = json.loads((KIT / "upstream_parameters.json").read_text())["showo"]
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in Showo(ShowoConfig(), tiny_tokenizer()).state_dict().items()}
        theirs = {name: torch.empty(shape) for name, shape in published.items()}
    assert ours == {name: list(value.shape) for name, value in convert_showo(theirs).items()}
