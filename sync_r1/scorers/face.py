"""Identity of people: SCRFD finds faces, ArcFace tells them apart. Both are .onnx files of an insightface pack, run by
onnxruntime alone.

SCRFD: arXiv 2105.04714. ArcFace: arXiv 1801.07698. A picture without a face has no embedding, which is said and never
    scored 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.data.concepts import Concept
from sync_r1.data.pictures import load_image
from sync_r1.scorers.vision import Pictures, as_tensors

INSTALL_HINT = "the face reward needs onnxruntime; install it with: pip install 'sync-r1[face]'"
STRIDES = (8, 16, 32, 64, 128)  # pixels per cell of the detector's levels
FACE_SIZE = 112  # pixels of an aligned face
# Where ArcFace's training data has eyes, nose tip and mouth corners, in pixels of the aligned face.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
CUDA = "CUDAExecutionProvider"
NOT_NEEDED = ("1k3d68", "2d106det", "genderage")  # other parts of the published packs


@dataclass(frozen=True)
class Faces:
    """Faces of one picture, the surest first."""

    boxes: np.ndarray  # [F, 4] x1, y1, x2, y2 in pixels of the picture
    points: np.ndarray  # [F, 5, 2] x, y of eyes, nose tip and mouth corners
    scores: np.ndarray  # [F] in [0, 1]

    def __len__(self) -> int:
        return len(self.scores)

    def largest(self) -> int | None:
        """Number of the face with the largest box; None without one."""
        if not len(self):
            return None
        return int(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1).argmax())


class FaceDetector:
    """SCRFD with five points per face. `sizes`: canvases that are tried in turn until a face is found."""

    def __init__(
        self, session: Any, sizes: Sequence[int] = (640, 320), threshold: float = 0.5, overlap: float = 0.4
    ) -> None:
        self.session = session
        height, width = session.get_inputs()[0].shape[2:]
        if isinstance(height, int) and height != width:
            raise ValueError(f"the face detector reads {height}×{width} pixels; a square or free size is needed")
        # A face that fills the picture is larger than what the detector was trained on; a smaller canvas brings it back
        # into range.
        self.sizes = (height,) if isinstance(height, int) else tuple(sizes)
        self.threshold = threshold
        self.overlap = overlap

    def __call__(self, picture: Tensor) -> Faces:
        """Faces of one picture, uint8 [3, H, W]."""
        for size in self.sizes:
            faces = self._detect(picture, size)
            if len(faces):
                break
        return faces

    def _detect(self, picture: Tensor, size: int) -> Faces:
        scale = size / max(picture.shape[1:])
        height, width = (max(int(side * scale), 1) for side in picture.shape[1:])
        resized = F.interpolate(picture[None].float(), (height, width), mode="bilinear", align_corners=False).round()
        canvas = torch.zeros(1, 3, size, size)
        canvas[:, :, :height, :width] = resized
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: ((canvas - 127.5) / 128).numpy()})
        found = decode([np.asarray(output) for output in outputs], size, self.threshold)
        kept = suppress(found.boxes, found.scores, self.overlap)
        ratio = np.array([picture.shape[2] / width, picture.shape[1] / height])
        return Faces(found.boxes[kept] * np.tile(ratio, 2), found.points[kept] * ratio, found.scores[kept])


def decode(outputs: Sequence[np.ndarray], size: int, threshold: float) -> Faces:
    """Anchor outputs → faces in pixels of the canvas, unsuppressed.

    Per level of stride s: scores [n, 1], distances to the four sides [n, 4] and offsets of five points [n, 10], both in
    units of s, for one or two anchors at the corner of each cell. Outputs are told apart by width and level, whatever
    their order.
    """
    flat = [output.reshape(-1, output.shape[-1]) for output in outputs]
    levels = []
    for width in (1, 4, 10):
        levels.append(sorted((output for output in flat if output.shape[1] == width), key=len, reverse=True))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for stride, score, distance, offset in zip(STRIDES, *levels):
        cells = -(-size // stride)
        rows, columns = np.divmod(np.arange(cells * cells), cells)
        centres = np.stack([columns, rows], axis=1).repeat(len(score) // (cells * cells), axis=0) * float(stride)
        sure = score[:, 0] >= threshold
        near, far = centres - distance[:, :2] * stride, centres + distance[:, 2:] * stride
        points = centres[:, None] + offset.reshape(-1, 5, 2) * stride
        parts.append((np.concatenate([near, far], axis=1)[sure], points[sure], score[sure, 0]))
    boxes, points, scores = (np.concatenate(part) for part in zip(*parts))
    order = np.argsort(-scores, kind="stable")
    return Faces(boxes[order], points[order], scores[order])


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Non-maximum suppression: indices of boxes [F, 4] kept, surest first.

    One goes when its IoU with a surer one is above `overlap`.
    """
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    rest, kept = np.argsort(-scores, kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        rest = rest[shared <= overlap * (area[best] + area[rest] - shared)]
    return kept


def align(picture: Tensor, points: np.ndarray, size: int = FACE_SIZE) -> Tensor:
    """The face turned, scaled and moved so that its five points [5, 2] come as near to the template as they can.

    The least-squares similarity (Umeyama 1991), which for points of the plane is a linear fit of complex numbers.

    Args:
        picture: uint8 [3, H, W]. points: x, y in pixels, counted from pixel centres.
    Returns:
        uint8 [3, size, size], black where the picture ends.
    """
    wanted = (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]) * (size / FACE_SIZE)
    seen = points[:, 0] + 1j * points[:, 1]
    # From face to picture, which is what resampling needs: the inverse of the fit from picture to face.
    turn = np.vdot(seen - seen.mean(), seen - seen.mean()) / np.vdot(seen - seen.mean(), wanted - wanted.mean())
    shift = seen.mean() - turn * wanted.mean()
    rows, columns = np.divmod(np.arange(size * size), size)
    places = turn * (columns + 1j * rows) + shift
    height, width = picture.shape[1:]
    unit = np.stack([2 * places.real / max(width - 1, 1) - 1, 2 * places.imag / max(height - 1, 1) - 1], axis=1)
    grid = torch.from_numpy(unit).float().view(1, size, size, 2)
    return F.grid_sample(picture[None].float(), grid, mode="bilinear", align_corners=True)[0].round().to(torch.uint8)


class FaceScorer:
    """Unit-norm ArcFace embeddings of the largest face."""

    def __init__(self, detector: FaceDetector, recogniser: Any, name: str = "", batch_size: int = 32) -> None:
        self.detector = detector
        self.recogniser = recogniser
        self.name = name
        batch, _, self.face_size, _ = recogniser.get_inputs()[0].shape
        if isinstance(batch, int):
            self.batch_size = batch
        else:
            self.batch_size = batch_size
        self.width: int = recogniser.get_outputs()[0].shape[-1]

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str = "cpu") -> FaceScorer:
        """Read the detector and the recogniser of an unpacked pack (buffalo_l, buffalo_s, antelopev2); they are known
        by their shapes.

        Raises:
            ValueError: no such folder, a part is missing or there twice, a damaged file, or onnxruntime is not
                installed.
        """
        files = sorted(path for path in Path(folder).glob("*.onnx") if path.stem not in NOT_NEEDED)
        if not files:
            raise ValueError(
                f"{folder}: no .onnx files; unpack an insightface pack such as buffalo_l or antelopev2 there"
            )
        sessions = {path.name: _open(path, torch.device(device)) for path in files}
        detectors = [name for name, session in sessions.items() if len(session.get_outputs()) in (9, 15)]
        recognisers = [name for name, session in sessions.items() if _is_recogniser(session)]
        parts = {
            "face detector with five points (det_10g.onnx)": detectors,
            "ArcFace network (w600k_r50.onnx)": recognisers,
        }
        for part, found in parts.items():
            if not found:
                raise ValueError(f"{folder}: no {part} among {', '.join(sessions)}; unpack the whole pack there")
            if len(found) > 1:
                raise ValueError(
                    f"{folder}: {', '.join(found)} are each the {part}, and scores depend on which; leave one there"
                )
        return cls(FaceDetector(sessions[detectors[0]]), sessions[recognisers[0]], recognisers[0])

    def embed(self, images: Pictures) -> tuple[Tensor, Tensor]:
        """uint8 [B,3,H,W] or PIL pictures → unit-norm fp32 [B,512] of each largest face, and [B] bool: found one (else
        its row is 0)."""
        pictures = [picture for batch in as_tensors(images) for picture in batch.cpu()]
        crops = [self._largest_face(picture) for picture in pictures]
        found = torch.tensor([crop is not None for crop in crops], dtype=torch.bool)
        features = torch.zeros(len(crops), self.width)
        if found.any():
            features[found] = F.normalize(
                self._recognise(torch.stack([crop for crop in crops if crop is not None])), dim=-1
            )
        return features, found

    def _largest_face(self, picture: Tensor) -> Tensor | None:
        """uint8 [3, S, S]."""
        faces = self.detector(picture)
        best = faces.largest()
        if best is None or np.ptp(faces.points[best], axis=0).max() < 1:  # points within one pixel fix no pose
            return None
        return align(picture, faces.points[best], self.face_size)

    def _recognise(self, faces: Tensor) -> Tensor:
        """uint8 [F, 3, S, S] → fp32 [F, D]."""
        pixels = ((faces.float() - 127.5) / 127.5).numpy()
        name, size = self.recogniser.get_inputs()[0].name, self.batch_size
        parts = [
            self.recogniser.run(None, {name: pixels[start : start + size]})[0] for start in range(0, len(pixels), size)
        ]
        return torch.from_numpy(np.concatenate(parts)).float()


def _is_recogniser(session: Any) -> bool:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return (
        len(inputs) == len(outputs) == 1
        and list(inputs[0].shape[1:]) == [3, FACE_SIZE, FACE_SIZE]
        and len(outputs[0].shape) == 2
    )


def _open(path: Path, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(INSTALL_HINT) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # published files declare a batch of one but take any
    gpu = []
    if device.type == "cuda" and CUDA in onnxruntime.get_available_providers():
        gpu = [(CUDA, {"device_id": device.index or 0})]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*gpu, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own exceptions, one per kind of damage
        raise ValueError(
            f"{path} is no readable ONNX file: {next(iter(str(error).splitlines()), '')}; unpack the pack again"
        ) from error
    if device.type == "cuda" and CUDA not in session.get_providers():
        warnings.warn(
            f"faces are read on the CPU, not on {device}: onnxruntime cannot use CUDA; install onnxruntime-gpu",
            stacklevel=3,
        )
    return session


def concept_face(concept: Concept, pack: str) -> Tensor | None:
    """Mean unit-norm ArcFace embedding [512] over the training photos that show a face, for `add_concept(..., face=)`.

    None when there is none to be had: quietly for what is no person, with a warning for a person without `pack` (a
    folder of an insightface pack) or without a face on any photo. ValueError for a folder that is no pack, or without
    onnxruntime.
    """
    if concept.category != "person":
        return None
    if not pack:
        warnings.warn(
            (
                f"<{concept.name}> is a person, but scorers.face names no insightface pack; its drawing tokens start "
                "without a face"
            ),
            stacklevel=2,
        )
        return None
    features, found = FaceScorer.from_pretrained(pack).embed([load_image(photo) for photo in concept.train_images])
    if not found.any():
        warnings.warn(
            f"no photo of <{concept.name}> shows a face that was found; its drawing tokens start without one",
            stacklevel=2,
        )
        return None
    return features[found].mean(0)
