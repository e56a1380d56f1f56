"""Faces: decoding, suppression and alignment by hand, then the whole way through real ONNX files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sync_r1.scorers.face import TEMPLATE, FaceScorer, align, decode, suppress
from tests.scorers.face_pack import (
    WIDTH,
    paint,
    projection,
    save_detector,
    save_face_pack,
    save_landmarks,
    save_recogniser,
)

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_face_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> FaceScorer:
    return FaceScorer.from_pretrained(folder)


def test_decode_by_hand() -> None:
    """A canvas of 32 pixels: 16, 4 and 1 cells with two anchors each.

    One face on the cell in row 1, column 0 of stride 16.
    """
    outputs = [np.zeros((2 * cells, width), np.float32) for width in (1, 4, 10) for cells in (16, 4, 1)]
    scores, boxes, points = outputs[1], outputs[4], outputs[7]
    scores[5], scores[0] = 0.9, 0.4  # anchor 1 of cell 2; the other is below the threshold
    boxes[5] = [0.25, 0.5, 1.0, 1.5]
    points[5] = [0, 0, 1, 0, 0.5, 0.5, 0, 1, 1, 1]
    for shuffled in (outputs, outputs[::-1], [output[None] for output in outputs]):
        faces = decode(shuffled, 32, 0.5)
        np.testing.assert_allclose(faces.boxes, [[-4, 8, 16, 40]])
        np.testing.assert_allclose(faces.points[0], [[0, 16], [16, 16], [8, 24], [0, 32], [16, 32]])
        np.testing.assert_allclose(faces.scores, [0.9])


def test_suppression_keeps_the_surest_of_what_overlaps() -> None:
    # IoU 0.9, 0.41, 0.39
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4.1], [0, 0, 10, 3.9], [20, 0, 30, 10]], float)
    assert suppress(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.95]), 0.4) == [4, 0, 3]
    assert suppress(boxes[:0], np.zeros(0), 0.4) == []


def where(side: int = 256) -> torch.Tensor:
    """A picture whose red is x and green is y: an aligned pixel says where it came from."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x, y, 0 * x]).to(torch.uint8)


def test_alignment_maps_points_onto_the_template() -> None:
    angle, scale, shift = np.deg2rad(30), 1.6, np.array([80.0, 10.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    aligned = align(where(), TEMPLATE @ turn.T + shift)[:2].permute(1, 2, 0).double().numpy()
    v, u = np.meshgrid(np.arange(112), np.arange(112), indexing="ij")
    wanted = np.stack([u, v], -1) @ turn.T + shift
    inside = ((wanted > 0) & (wanted < 255)).all(-1)
    error = (aligned - wanted)[inside]
    assert inside.mean() > 0.7
    assert np.abs(error).max() < 0.51 and np.abs(error.mean(axis=0)).max() < 0.02  # the error of rounding alone
    outside = ((wanted < -1) | (wanted > 256)).any(-1)
    assert outside.any() and not aligned[outside].any()


def test_points_that_are_no_exact_copy_are_fitted() -> None:
    """The middle of the face comes from where a least-squares similarity from picture to template says."""
    seen = TEMPLATE * 2 + np.random.default_rng(0).normal(0, 3, TEMPLATE.shape)
    one, none = np.ones(5), np.zeros(5)
    rows = [np.stack([seen[:, 0], -seen[:, 1], one, none], 1), np.stack([seen[:, 1], seen[:, 0], none, one], 1)]
    a, b, c, d = np.linalg.lstsq(np.concatenate(rows), TEMPLATE.T.reshape(-1), rcond=None)[0]
    back = np.linalg.inv(np.array([[a, -b, c], [b, a, d], [0, 0, 1]])) @ np.array([56, 56, 1])
    np.testing.assert_allclose(align(where(), seen)[:2, 56, 56], back[:2], atol=0.51)


def test_the_largest_face_is_embedded(scorer: FaceScorer) -> None:
    picture = paint((160, 320, 0), (400, 240, 255), (560, 560, 100))
    faces = scorer.detector(picture)
    assert len(faces) == 3 and faces.largest() is not None
    np.testing.assert_allclose(faces.boxes[faces.largest()], [360, 200, 440, 280], atol=0.5)
    features, found = scorer.embed(picture[None])
    pixels = (align(picture, (TEMPLATE - 56) / 56 * 40 + [400, 240])[None].float() - 127.5) / 127.5
    wanted = F.normalize(F.avg_pool2d(pixels, 28).flatten(1) @ torch.from_numpy(projection()), dim=1)
    assert found.tolist() == [True] and features.shape == (1, WIDTH)
    torch.testing.assert_close(features, wanted, atol=2e-3, rtol=0)


def test_no_face_is_said_and_costs_no_other_its_place(scorer: FaceScorer) -> None:
    pictures = torch.stack([paint(), paint((400, 240, 255)), paint()])
    features, found = scorer.embed(pictures)
    assert found.tolist() == [False, True, False]
    assert not features[~found].any() and features[1].norm() == pytest.approx(1)
    features, found = scorer.embed(pictures[:1])
    assert features.shape == (1, WIDTH) and not found.any()


def test_pictures_of_any_size_are_scaled_back(scorer: FaceScorer) -> None:
    small = paint(side=320)
    small[0, 98:103, 198:203] = (
        255  # twice as large on the canvas of 640 pixels, where it covers one point of the grid, (400, 200)
    )
    boxes = scorer.detector(small).boxes
    np.testing.assert_allclose((boxes[0, :2] + boxes[0, 2:]) / 2, [200, 100], atol=0.5)
    wide = Image.new("RGB", (1280, 320))
    wide.paste((255, 0, 0), (800, 160, 804, 164))  # halved: (400, 80)
    boxes = scorer.detector(torch.from_numpy(np.array(wide)).permute(2, 0, 1)).boxes
    np.testing.assert_allclose((boxes[0, :2] + boxes[0, 2:]) / 2, [800, 160], atol=0.5)


def test_a_face_missed_at_first_is_looked_for_on_a_smaller_canvas(scorer: FaceScorer) -> None:
    picture = paint()
    for row, column in ((0, 1), (1, 0), (1, 1)):  # beside the grid of the large canvas, on that of the small one
        picture[0, 320 + row, 160 + column] = 255
    assert not len(scorer.detector._detect(picture, 640))
    boxes = scorer.detector(picture).boxes
    np.testing.assert_allclose((boxes[0, :2] + boxes[0, 2:]) / 2, [160, 320], atol=0.5)


def test_fixed_sizes_of_a_file_are_kept(tmp_path: Path) -> None:
    save_detector(tmp_path, side=320)
    save_recogniser(tmp_path, batch=1)
    scorer = FaceScorer.from_pretrained(tmp_path)
    assert scorer.detector.sizes == (320,) and scorer.batch_size == 1
    _, found = scorer.embed(torch.stack([paint((160, 160, 255), side=320)] * 2))
    assert found.all()


def without_detector(folder: Path) -> None:
    (folder / "det_10g.onnx").unlink()


def without_points(folder: Path) -> None:
    save_detector(folder, points=False)


def without_recogniser(folder: Path) -> None:
    (folder / "w600k_r50.onnx").unlink()


def damaged(folder: Path) -> None:
    (folder / "w600k_r50.onnx").write_bytes(b"not a model")


def with_another(folder: Path) -> None:
    shutil.copy(folder / "w600k_r50.onnx", folder / "glintr100.onnx")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_detector, "no face detector with five points .* among w600k_r50.onnx"),
        (without_points, "no face detector with five points"),
        (without_recogniser, "no ArcFace network .* among det_10g.onnx"),
        (damaged, "w600k_r50.onnx is no readable ONNX file"),
        (with_another, "glintr100.onnx, w600k_r50.onnx are each the ArcFace network .* leave one"),
        (shutil.rmtree, "no .onnx files; unpack an insightface pack"),
    ],
)
def test_incomplete_packs_are_refused(damage, said: str, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pack = shutil.copytree(folder, tmp_path / "pack")
    damage(pack)
    with pytest.raises(ValueError, match=said):
        FaceScorer.from_pretrained(pack)


def test_without_onnxruntime_the_install_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'sync-r1\[face\]'"):
        FaceScorer.from_pretrained(folder)


def test_other_parts_of_the_pack_are_not_opened(tmp_path: Path) -> None:
    save_landmarks(tmp_path)
    with pytest.raises(ValueError, match=r"no \.onnx files"):
        FaceScorer.from_pretrained(tmp_path)


def test_the_scorer_s_own_gpu_is_used_and_its_absence_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked, session = [], onnxruntime.InferenceSession

    def opened(path: str, options: object, providers: list[object]) -> object:
        asked.append(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.warns(UserWarning, match="on the CPU, not on cuda:2: .* install onnxruntime-gpu"):
        FaceScorer.from_pretrained(folder, "cuda:2")
    assert asked == [[("CUDAExecutionProvider", {"device_id": 2}), "CPUExecutionProvider"]] * 2
