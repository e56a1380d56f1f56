"""A CLIP in the layout of openai/clip-vit-base-patch32, and what is refused instead of scored with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sync_r1.scorers.clip import ClipScorer
from tests.scorers.published import END, START, save_published_clip
from tests.scorers.test_clip import save_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published_clip(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipScorer:
    return ClipScorer.from_pretrained(folder)


def photo(width: int, height: int) -> Image.Image:
    """Smooth, because Pillow resizes in two rounded passes and noise would show it."""
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = np.stack([np.sin(x) + np.cos(y), np.sin(x * y / 7), np.cos(x - y)], -1)
    return Image.fromarray(((waves / 4 + 0.5) * 255).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(300, 224), (640, 427), (427, 640), (225, 301), (120, 90), (512, 512)])
def test_pixels_equal_those_of_transformers(folder: Path, clip: ClipScorer, width: int, height: int) -> None:
    theirs = CLIPImageProcessorPil.from_pretrained(folder)(photo(width, height), return_tensors="pt")["pixel_values"]
    ours = clip.pixels([photo(width, height)])
    assert ours.shape == theirs.shape == (1, 3, 224, 224)
    assert (ours - theirs).abs().max() < 1.01 / 255 / 0.26  # one grey level


def test_features_equal_those_of_transformers(folder: Path, clip: ClipScorer) -> None:
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["a red dog", "dog", "a photo of something else"]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(given.input_ids[1][:3]) == [START, "dog</w>", END]
    with torch.no_grad():
        theirs = model(**given, pixel_values=clip.pixels([photo(300, 300)]))
    torch.testing.assert_close(clip.text_features(texts), theirs.text_embeds)
    torch.testing.assert_close(clip.image_features([photo(300, 300)]), theirs.image_embeds)


def test_both_tokenizer_layouts_read_the_same(folder: Path, clip: ClipScorer, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "fast")
    AutoTokenizer.from_pretrained(folder).save_pretrained(other)
    (other / "vocab.json").unlink()
    assert (other / "tokenizer.json").is_file()
    texts = ["A red dog!", "é ø 漢"]
    torch.testing.assert_close(ClipScorer.from_pretrained(other).text_features(texts), clip.text_features(texts))


def test_77_tokens_fit_and_78_are_the_caller_s_choice(clip: ClipScorer) -> None:
    clip.text_features(["dog " * 75])
    with pytest.raises(ValueError, match="a text of 78 tokens is longer than the 77 CLIP can read"):
        clip.text_features(["dog " * 76])
    torch.testing.assert_close(clip.text_features(["dog " * 76], truncate=True), clip.text_features(["dog " * 75]))


class Code:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch was_run",)


def with_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"visual_projection.weight": Code()}, folder / "pytorch_model.bin")


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_another_shape(folder: Path) -> None:
    weights = {**load_file(folder / "model.safetensors"), "visual_projection.weight": torch.zeros(3, 3)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_a_shard(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def of_another_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2"}))


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def for_other_pictures(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32, "crop_size": 32}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (with_code, "is refused: its .bin holds more than tensors"),
        (without_a_tensor, "lacks 1 tensors, first visual_projection.weight"),
        (
            with_another_shape,
            r"visual_projection.weight of the CLIP checkpoint has shape \(3, 3\); its config.json asks for \(12, 16\)",
        ),
        (without_a_shard, "model-00002-of-00002.safetensors"),
        (of_another_kind, "has model_type 'dinov2'; it must be 'clip'"),
        (without_tokenizer, "has no tokenizer; it needs tokenizer.json, or vocab.json and merges.txt"),
        (for_other_pictures, "'size' and 'crop_size' are 32 and 32 .* but this CLIP reads 16 pixels"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_folders_are_refused(
    damage: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(save_tiny_clip(tmp_path / "clip"))
    with pytest.raises(ValueError, match=said):
        ClipScorer.from_pretrained(tmp_path / "clip")
    assert not (tmp_path / "was_run").exists()
