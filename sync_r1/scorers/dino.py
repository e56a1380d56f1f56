"""Identity by DINOv2: cosine of class tokens, which look at shape and texture rather than at what a caption would
say."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Model

from sync_r1.scorers.vision import Pictures, Preprocessing, as_tensors, batches, read_network, read_preprocessing

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PUBLISHED = Preprocessing(resize=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)


class DinoScorer:
    """Unit-norm DINOv2 features (arXiv 2304.07193): the class token after the last layer norm."""

    def __init__(self, model: Dinov2Model, preprocessing: Preprocessing = PUBLISHED, batch_size: int = 64) -> None:
        self.model = model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str = "cpu", batch_size: int = 64
    ) -> DinoScorer:
        """Load a folder or hub id such as facebook/dinov2-base.

        ValueError when it is missing, damaged or of another kind.
        """
        model = read_network(Dinov2Model, folder, "DINOv2 checkpoint")
        return cls(model.to(device), read_preprocessing(folder, PUBLISHED), batch_size)

    @torch.no_grad()
    def image_features(self, images: Pictures) -> Tensor:
        """uint8 [B,3,H,W] or PIL pictures of any sizes → unit-norm fp32 [B,D]."""
        return torch.cat([self._embed(self.pixels(part)) for part in batches(images, self.batch_size)])

    def pixels(self, images: Pictures) -> Tensor:
        """Shorter side to 256 (bicubic), centre crop of 224, ImageNet mean and std → fp32 [B,3,224,224]."""
        sized = torch.cat([self.preprocessing.fit(batch) for batch in as_tensors(images, self.model.device)])
        return self.preprocessing.normalise(sized)

    def _embed(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.model(pixel_values=pixels).last_hidden_state[:, 0].float(), dim=-1)
