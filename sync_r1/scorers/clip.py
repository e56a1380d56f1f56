"""CLIP-I and CLIP-T over any transformers CLIP checkpoint. Preprocessing is done here in torch, so it is the same for tensors and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

Preprocessing = Literal["standard", "legacy"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_LEGACY_END_ID = 2  # in OpenAI's old configs; transformers then takes the largest id as the end


class ClipScorer:
    """Cosines between unit-norm CLIP features. References are embedded once by the caller (`image_features`) and passed in.

    `preprocessing`: "standard", or "legacy" for numbers comparable with the first UnifyBench, whose code squeezes pixels to [0.5, 1].
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        preprocessing: Preprocessing = "standard",
        batch_size: int = 64,
    ) -> None:
        if preprocessing not in ("standard", "legacy"):
            raise ValueError(f"preprocessing is {preprocessing!r}; allowed are standard and legacy")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        vision, text = cast(Any, model.config.vision_config), cast(Any, model.config.text_config)
        self.image_size: int = vision.image_size
        self.max_text_tokens: int = text.max_position_embeddings
        self._end_id: int = text.eos_token_id
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self._mean = torch.tensor(mean, device=model.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=model.device).view(1, 3, 1, 1)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str = "cpu", preprocessing: Preprocessing = "standard", batch_size: int = 64
    ) -> ClipScorer:
        """Load a CLIP folder or hub id: config, weights, tokenizer, and mean and std from preprocessor_config.json if there.

        Raises ValueError when the folder or one of its parts is missing or of another kind.
        """
        try:
            tokenizer_file = cached_file(str(folder), "tokenizer.json", _raise_exceptions_for_missing_entries=False)
            # With tokenizer.json at hand the plain class reads exactly that file; AutoTokenizer may rebuild CLIP's own BPE instead.
            loader = PreTrainedTokenizerFast if tokenizer_file else AutoTokenizer
            tokenizer = loader.from_pretrained(str(folder))
            model = CLIPModel.from_pretrained(str(folder), dtype=torch.float32)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{folder}: no CLIP checkpoint (folder or hub id) could be read: {error}") from error
        mean, std = _read_statistics(str(folder))
        return cls(cast(Any, model).to(device), tokenizer, mean, std, preprocessing, batch_size)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def image_features(self, images: Tensor | Sequence[Image.Image]) -> Tensor:
        """uint8 [B,3,H,W] or PIL pictures of any sizes → unit-norm fp32 [B,D]."""
        if len(images) == 0:
            raise ValueError("image_features got no pictures; it needs at least one")
        pieces = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        return torch.cat([self._embed(self.pixels(piece)) for piece in pieces])

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], *, truncate: bool = False) -> Tensor:
        """Texts → unit-norm fp32 [B,D]. Raises ValueError for a text above the model's length, unless `truncate` cuts its tail."""
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError(f"texts is {texts!r}; it must be a list of at least one text")
        limit = self.max_text_tokens if truncate else None
        rows: list[list[int]] = self.tokenizer(list(texts), truncation=truncate, max_length=limit).input_ids
        for text, row in zip(texts, rows):
            if len(row) > self.max_text_tokens:
                raise ValueError(
                    f"a text of {len(row)} tokens is longer than the {self.max_text_tokens} CLIP can read: {text[:80]!r}; "
                    "shorten it or allow truncation"
                )
            if self._end_id != _LEGACY_END_ID and self._end_id not in row:
                raise ValueError(f"the tokenizer does not end {text[:80]!r} with token {self._end_id}, where this CLIP reads its summary")
        width, pad = max(len(row) for row in rows), self._pad_id()
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        pooled = self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(self.model.text_projection(pooled).float(), dim=-1)

    def clip_i(self, images: Tensor | Sequence[Image.Image], references: Tensor, *, unit: bool = True) -> Tensor:
        """Mean cosine of each picture to the reference features [R,D] → fp32 [B]; `unit` maps it into [0,1] by max(0,·)."""
        if references.ndim != 2 or len(references) == 0:
            raise ValueError(f"references has shape {tuple(references.shape)}; it must be [R, D] features of at least one picture")
        # The mean of cosines to unit vectors is the product with their mean.
        cosine = self.image_features(images) @ references.to(self.device).float().mean(0)
        return cosine.clamp(0, 1) if unit else cosine

    def clip_t(self, images: Tensor | Sequence[Image.Image], texts: Sequence[str], *, unit: bool = True, truncate: bool = False) -> Tensor:
        """Cosine of picture b to text b → fp32 [B]; `unit` maps it into [0,1] by max(0,·)."""
        if len(images) != len(texts):
            raise ValueError(f"clip_t got {len(images)} pictures and {len(texts)} texts; it needs one text per picture")
        cosine = (self.image_features(images) * self.text_features(texts, truncate=truncate)).sum(-1)
        return cosine.clamp(0, 1) if unit else cosine

    def pixels(self, images: Tensor | Sequence[Image.Image]) -> Tensor:
        """Standard CLIP preprocessing: shorter side to the model's size (bicubic), centre crop, mean and std → fp32 [B,3,S,S]."""
        if isinstance(images, Tensor):
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
                raise ValueError(f"images is {images.dtype} {tuple(images.shape)}; it must be uint8 [B, 3, H, W]")
            sized = self._fit(images.to(self.device))
        else:
            arrays = [torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] for image in images]
            sized = torch.cat([self._fit(array.to(self.device)) for array in arrays])
        if self.preprocessing == "legacy":
            sized = (sized + 1) / 2
        return (sized - self._mean) / self._std

    def _fit(self, images: Tensor) -> Tensor:
        size, (height, width) = self.image_size, images.shape[-2:]
        values = images.float()
        if min(height, width) != size:
            scale = size / min(height, width)
            height, width = (size if side == min(height, width) else max(size, int(side * scale)) for side in (height, width))
            # Rounded to whole levels, as when the resized picture is stored as 8 bits.
            values = F.interpolate(values, (height, width), mode="bicubic", antialias=True, align_corners=False).round().clamp(0, 255)
        top, left = (height - size) // 2, (width - size) // 2
        return values[..., top : top + size, left : left + size] / 255

    def _embed(self, pixels: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    def _pad_id(self) -> int:
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        return pad if pad is not None else end if end is not None else 0


def _read_statistics(folder: str) -> tuple[list[float], list[float]]:
    """Mean and std of preprocessor_config.json; CLIP's own where the file or an entry is absent."""
    path = cached_file(folder, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    stored: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    found = []
    for key, default in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
        value = stored.get(key, default)
        if len(value) != 3 or (key == "image_std" and min(value) <= 0):
            raise ValueError(f"{path}: field {key!r} is {value!r}; it must be three numbers" + (" above 0" if key == "image_std" else ""))
        found.append([float(number) for number in value])
    return found[0], found[1]
