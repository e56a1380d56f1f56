"""A face pack in the layout of insightface's buffalo_l, whose detector sees what a test painted.

A pixel on the 8-pixel grid that is fully red is a face around that pixel. Its green says how large: 8 to 40 pixels to
each side. The five points are the alignment template around the same pixel, as wide as the box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sync_r1.scorers.face import TEMPLATE

onnx = pytest.importorskip("onnx")
WIDTH = 512


def save(
    folder: Path, name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, np.ndarray]
) -> None:
    stored = [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, name, inputs, outputs, stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / f"{name}.onnx")


def floats(name: str, *shape: int | str) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))


def save_detector(folder: Path, side: int | str = "?", points: bool = True) -> None:
    """det_10g.onnx: scores, boxes and points of the strides 8, 16, 32, two anchors per cell.

    Only stride 8 ever sees a face.
    """
    node = onnx.helper.make_node
    offsets = (TEMPLATE - 56) / 56
    constants = {
        "ends": np.array([2**31, 2**31], np.int64), "starts": np.array([0, 0], np.int64),
        "axes": np.array([2, 3], np.int64), "column": np.array([-1, 1], np.int64), "none": np.float32(0),
        "one": np.float32(1), "middle": np.float32(3), "spread": np.float32(2), "sides": np.ones((1, 4), np.float32),
        "twice": np.array([1, 2], np.int64), "offsets": offsets.reshape(1, 10).astype(np.float32),
        "thirds": np.array([1, 1, 1], np.int64),
    }  # fmt: skip
    nodes, outputs = [], {}
    for stride in (8, 16, 32):
        constants[f"steps{stride}"] = np.array([stride, stride], np.int64)
        constants[f"seen{stride}"] = np.float32(1.5 if stride == 8 else 0)
        at = f"_{stride}"
        nodes += [
            node("Slice", ["input.1", "starts", "ends", "axes", f"steps{stride}"], [f"grid{at}"]),
            node("Split", [f"grid{at}", "thirds"], [f"red{at}", f"green{at}", f"blue{at}"], axis=1),
            node("Reshape", [f"red{at}", "column"], [f"red_column{at}"]),
            node("Mul", [f"red_column{at}", f"seen{stride}"], [f"red_gained{at}"]),
            node("Clip", [f"red_gained{at}", "none", "one"], [f"score{at}"]),
            node("Tile", [f"score{at}", "twice"], [f"scores_wide{at}"]),
            node("Reshape", [f"scores_wide{at}", "column"], [f"scores{at}"]),
            node("Reshape", [f"green{at}", "column"], [f"green_column{at}"]),
            node("Mul", [f"green_column{at}", "spread"], [f"green_spread{at}"]),
            node("Add", [f"green_spread{at}", "middle"], [f"half{at}"]),
            node("Tile", [f"half{at}", "twice"], [f"halves_wide{at}"]),
            node("Reshape", [f"halves_wide{at}", "column"], [f"halves{at}"]),
            node("Mul", [f"halves{at}", "sides"], [f"boxes{at}"]),
            node("Mul", [f"halves{at}", "offsets"], [f"points{at}"]),
        ]
        outputs |= {f"scores{at}": 1, f"boxes{at}": 4, f"points{at}": 10}
    kinds = ("scores", "boxes", "points") if points else ("scores", "boxes")
    ordered = [floats(f"{kind}_{stride}", "?", outputs[f"{kind}_{stride}"]) for kind in kinds for stride in (8, 16, 32)]
    save(folder, "det_10g", nodes, [floats("input.1", 1, 3, side, side)], ordered, constants)


def projection() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3 * 16, WIDTH)).astype(np.float32)


def save_recogniser(folder: Path, batch: int | str = "None") -> None:
    """w600k_r50.onnx: a random projection of the means of 4×4 patches."""
    node = onnx.helper.make_node
    nodes = [
        node("AveragePool", ["input.1"], ["patches"], kernel_shape=[28, 28], strides=[28, 28]),
        node("Flatten", ["patches"], ["flat"]),
        node("MatMul", ["flat", "projection"], ["683"]),
    ]
    save(
        folder,
        "w600k_r50",
        nodes,
        [floats("input.1", batch, 3, 112, 112)],
        [floats("683", 1, WIDTH)],
        {"projection": projection()},
    )


def save_landmarks(folder: Path) -> None:
    """Another part of the pack that must not be taken for either."""
    node = onnx.helper.make_node("GlobalAveragePool", ["data"], ["fc1"])
    save(folder, "genderage", [node], [floats("data", "None", 3, 96, 96)], [floats("fc1", "None", 3, 1, 1)], {})


def save_face_pack(folder: Path) -> Path:
    save_detector(folder)
    save_recogniser(folder)
    save_landmarks(folder)
    return folder


def paint(*faces: tuple[int, int, int], side: int = 640) -> Tensor:
    """A picture uint8 [3, side, side] with faces (x, y, green)."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    picture = torch.stack([torch.zeros(side, side), torch.zeros(side, side), (x + 2 * y) / 8 % 200]).to(torch.uint8)
    for column, row, green in faces:
        picture[:2, row, column] = torch.tensor([255, green], dtype=torch.uint8)
    return picture
