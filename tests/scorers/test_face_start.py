"""A face as the start of a person's tokens."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sync_r1.scorers import face
from sync_r1.scorers.face import concept_face
from tests.rl.toys import concept


class TwoOfThree:
    """Finds a face on every picture but a black one; a face's embedding is its brightness."""

    @classmethod
    def from_pretrained(cls, pack: str) -> TwoOfThree:
        assert pack == "pack"
        return cls()

    def embed(self, images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        bright = torch.tensor([float(image.getpixel((0, 0))[0]) for image in images])  # type: ignore[index]
        return bright[:, None].repeat(1, 512), bright > 0


def test_the_mean_is_over_photos_with_a_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "FaceScorer", TwoOfThree)
    paths = [tmp_path / f"shot{number}.png" for number in range(3)]
    for path, red in zip(paths, (0, 10, 30)):
        Image.new("RGB", (16, 16), (red, 0, 0)).save(path)
    robot = concept(tmp_path)
    person = replace(robot, category="person", train_images=paths)
    found = concept_face(person, "pack")
    assert found is not None and torch.equal(found, torch.full((512,), 20.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert concept_face(robot, "pack") is None
    with pytest.warns(UserWarning, match="scorers.face names no insightface pack"):
        assert concept_face(person, "") is None
    with pytest.warns(UserWarning, match="no photo of <bo> shows a face"):
        assert concept_face(replace(person, train_images=paths[:1]), "pack") is None


def test_a_folder_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .onnx files"):
        concept_face(replace(concept(tmp_path), category="person"), str(tmp_path))
