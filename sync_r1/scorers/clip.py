"""CLIP-I and CLIP-T over any transformers CLIP checkpoint, such as openai/clip-vit-base-patch32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from sync_r1.scorers.vision import Pictures, Preprocessing, as_tensors, batches, read_network, read_preprocessing

Squeeze = Literal["standard", "legacy"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_LEGACY_END_ID = 2  # in OpenAI's old configs; transformers then takes the largest id as the end


class ClipScorer:
    """Cosines between unit-norm CLIP features. References are embedded once by the caller (`image_features`) and passed
    in.

    `preprocessing`: "standard", or "legacy" for numbers comparable with the first UnifyBench, whose code squeezes
    pixels to [0.5, 1].
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        preprocessing: Squeeze = "standard",
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
        self._prepare = Preprocessing(self.image_size, self.image_size, cast(Any, tuple(mean)), cast(Any, tuple(std)))

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        device: torch.device | str = "cpu",
        preprocessing: Squeeze = "standard",
        batch_size: int = 64,
    ) -> ClipScorer:
        """Load a CLIP folder or hub id: config, weights, tokenizer, and mean and std from preprocessor_config.json if
        there.

        Raises ValueError when the folder or one of its parts is missing or of another kind.
        """
        model = read_network(CLIPModel, folder, "CLIP checkpoint")
        size: int = model.config.vision_config.image_size
        stored = read_preprocessing(folder, Preprocessing(size, size, CLIP_MEAN, CLIP_STD))
        if (stored.resize, stored.crop) != (size, size):
            sizes = f"'size' and 'crop_size' are {stored.resize} and {stored.crop}"
            raise ValueError(
                f"{folder}: {sizes} in preprocessor_config.json, but this CLIP reads {size} pixels; both must be {size}"
            )
        return cls(model.to(device), _read_tokenizer(folder), stored.mean, stored.std, preprocessing, batch_size)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def image_features(self, images: Pictures) -> Tensor:
        """uint8 [B,3,H,W] or PIL pictures of any sizes → unit-norm fp32 [B,D]."""
        return torch.cat([self._embed(self.pixels(part)) for part in batches(images, self.batch_size)])

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], *, truncate: bool = False) -> Tensor:
        """Texts → unit-norm fp32 [B,D].

        Raises ValueError for a text above the model's length, unless `truncate` cuts its tail.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError(f"texts is {texts!r}; it must be a list of at least one text")
        limit = None
        if truncate:
            limit = self.max_text_tokens
        rows: list[list[int]] = self.tokenizer(list(texts), truncation=truncate, max_length=limit).input_ids
        for text, row in zip(texts, rows):
            if len(row) > self.max_text_tokens:
                raise ValueError(
                    f"a text of {len(row)} tokens is longer than the {self.max_text_tokens} CLIP can read: "
                    f"{text[:80]!r}; shorten it or allow truncation"
                )
            if self._end_id != _LEGACY_END_ID and self._end_id not in row:
                raise ValueError(
                    f"the tokenizer does not end {text[:80]!r} with token {self._end_id}, where this CLIP reads its "
                    "summary"
                )
        width, pad = max(len(row) for row in rows), self._pad_id()
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        pooled = self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(self.model.text_projection(pooled).float(), dim=-1)

    def clip_i(self, images: Pictures, references: Tensor, *, unit: bool = True) -> Tensor:
        """Mean cosine of each picture to the reference features [R,D] → fp32 [B].

        `unit` maps it into [0,1] by max(0,·).
        """
        if references.ndim != 2 or len(references) == 0:
            raise ValueError(
                f"references has shape {tuple(references.shape)}; it must be [R, D] features of at least one picture"
            )
        # The mean of cosines to unit vectors is the product with their mean.
        cosine = self.image_features(images) @ references.to(self.device).float().mean(0)
        if unit:
            return cosine.clamp(0, 1)
        return cosine

    def clip_t(self, images: Pictures, texts: Sequence[str], *, unit: bool = True, truncate: bool = False) -> Tensor:
        """Cosine of picture b to text b → fp32 [B]; `unit` maps it into [0,1] by max(0,·)."""
        if len(images) != len(texts):
            raise ValueError(f"clip_t got {len(images)} pictures and {len(texts)} texts; it needs one text per picture")
        cosine = (self.image_features(images) * self.text_features(texts, truncate=truncate)).sum(-1)
        if unit:
            return cosine.clamp(0, 1)
        return cosine

    def pixels(self, images: Pictures) -> Tensor:
        """Standard CLIP preprocessing: shorter side to the model's size (bicubic), centre crop, mean and std → fp32
        [B,3,S,S]."""
        sized = torch.cat([self._prepare.fit(batch) for batch in as_tensors(images, self.device)])
        return self._prepare.normalise((sized + 1) / 2 if self.preprocessing == "legacy" else sized)

    def _embed(self, pixels: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    def _pad_id(self) -> int:
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        if pad is not None:
            return pad
        if end is not None:
            return end
        return 0


def _read_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """tokenizer.json, else vocab.json and merges.txt. ValueError when there is neither."""

    def has(name: str) -> bool:
        return cached_file(str(folder), name, _raise_exceptions_for_missing_entries=False) is not None

    if not has("tokenizer.json") and not (has("vocab.json") and has("merges.txt")):
        raise ValueError(
            f"{folder}: the CLIP checkpoint has no tokenizer; it needs tokenizer.json, or vocab.json and merges.txt"
        )
    # With tokenizer.json at hand the plain class reads exactly that file; AutoTokenizer may rebuild CLIP's own BPE
    # instead.
    loader = PreTrainedTokenizerFast if has("tokenizer.json") else AutoTokenizer
    try:
        return cast(PreTrainedTokenizerBase, loader.from_pretrained(str(folder)))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder}: the tokenizer of the CLIP checkpoint could not be read: {error}") from error
