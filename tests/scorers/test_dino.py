"""DINOv2 features: transformers' preprocessing and class token, in a folder of the published layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from sync_r1.scorers.dino import PUBLISHED, DinoScorer
from tests.scorers.published import save_published_dino
from tests.scorers.test_published_clip import photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def dino(folder: Path) -> DinoScorer:
    return DinoScorer.from_pretrained(folder)


@pytest.mark.parametrize(("width", "height"), [(640, 427), (256, 256), (301, 512), (90, 120)])
def test_pixels_equal_those_of_transformers(folder: Path, dino: DinoScorer, width: int, height: int) -> None:
    theirs = BitImageProcessorPil.from_pretrained(folder)(photo(width, height), return_tensors="pt")["pixel_values"]
    ours = dino.pixels([photo(width, height)])
    assert ours.shape == theirs.shape == (1, 3, 224, 224)
    assert (ours - theirs).abs().max() < 1.01 / 255 / 0.224  # one grey level


def test_features_are_the_class_token(folder: Path, dino: DinoScorer) -> None:
    pictures = [photo(300, 260), photo(256, 400), photo(512, 512)]
    with torch.no_grad():
        own = Dinov2Model.from_pretrained(folder).eval()(pixel_values=dino.pixels(pictures)).pooler_output
    found = dino.image_features(pictures)
    torch.testing.assert_close(found, own / own.norm(dim=1, keepdim=True))
    torch.testing.assert_close(DinoScorer(dino.model, batch_size=2).image_features(pictures), found)


def test_a_folder_without_preprocessor_is_read_as_published(folder: Path, tmp_path: Path, dino: DinoScorer) -> None:
    dino.model.save_pretrained(tmp_path)
    assert DinoScorer.from_pretrained(tmp_path).preprocessing == PUBLISHED == dino.preprocessing


def test_bad_input_says_what_is_wrong(dino: DinoScorer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing: no such folder; give one with a DINOv2 checkpoint, or a hub id"):
        DinoScorer.from_pretrained(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"empty: no DINOv2 checkpoint could be read: .*; give a folder with its published"
    ):
        DinoScorer.from_pretrained(tmp_path / "empty")
    with pytest.raises(ValueError, match="got no pictures"):
        dino.image_features([])
    with pytest.raises(ValueError, match=r"images is torch.float32 .*; it must be uint8 \[B, 3, H, W\]"):
        dino.image_features(torch.zeros(1, 3, 16, 16))
    save_published_dino(tmp_path / "odd")
    (tmp_path / "odd" / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 224, "width": 256}}))
    with pytest.raises(ValueError, match=r"field 'size' is .*; it must be one side in pixels"):
        DinoScorer.from_pretrained(tmp_path / "odd")
    (tmp_path / "odd" / "preprocessor_config.json").write_text(json.dumps({"size": 200}))
    with pytest.raises(ValueError, match="field 'crop_size' is 224; it must be at most 'size' = 200"):
        DinoScorer.from_pretrained(tmp_path / "odd")
