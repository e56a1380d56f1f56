"""What every unified model offers. Positions, masks and vocabulary offsets stay behind this contract."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sync_r1.models.sampling import mix
from sync_r1.types import ImageTrace, OnStep, OnToken, Sampling, TextCompletions, TextContext

Images = Sequence[Image.Image] | Tensor


@dataclass(frozen=True)
class ConceptTokens:
    """The vocabulary of one concept: "<name>" and its soft tokens "<token_0>"…"""

    name: str  # bare
    tokens: list[str] = field(default_factory=list)  # soft tokens, only ever read
    class_noun: str = ""
    pool_name: str | None = None  # pretraining's name whose rows "<name>" started from
    read: int = 0  # how many of the first soft tokens introduce the concept in understanding prompts
    draw: int | None = None  # how many of the first soft tokens go into drawing prompts; None is all

    @property
    def placeholder(self) -> str:
        return f"<{self.name}>"

    @property
    def all_tokens(self) -> list[str]:
        """Row order: the placeholder first."""
        return [self.placeholder, *self.tokens]

    @property
    def drawing_tokens(self) -> list[str]:
        """Soft tokens of drawing prompts (UniCTokens: the 16 shared ones and the 8 for generation)."""
        return self.tokens[: self.draw]

    @property
    def reading_tokens(self) -> list[str]:
        """Soft tokens of understanding prompts (UniCTokens: the 16 shared ones, and those after the drawing ones)."""
        return [*self.tokens[: self.read], *self.tokens[len(self.drawing_tokens) :]]


@dataclass
class Rows:
    """Vocabulary rows: what a token looks like to the model, and how it is written."""

    embed: Tensor  # [K, hidden]
    head_weight: Tensor  # [K, hidden]
    head_bias: Tensor  # [K]


Fill = Literal["likely", "sampled"]


class UnifiedModel(nn.Module, ABC):
    """One network that reads and draws. B batch, N image tokens, L text tokens."""

    tokenizer: PreTrainedTokenizerFast
    codebook_size: int
    num_image_tokens: int
    image_size: int

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    @abstractmethod
    def concepts(self) -> list[ConceptTokens]:
        """Concepts added to the vocabulary so far."""

    @property
    @abstractmethod
    def name_pool(self) -> list[str]:
        """Placeholder names known from pretraining; empty if there are none."""

    @abstractmethod
    def encode_image(self, images: Images) -> Tensor:
        """Pictures (PIL, or [B,3,H,W] uint8 or float in [0,1]) → codes [B, N] long.

        Short side resized, centre cropped.
        """

    @abstractmethod
    def decode_image(self, codes: Tensor) -> Tensor:
        """Codes [B, N] → pictures uint8 [B, 3, image_size, image_size]."""

    def look(self, images: Images) -> Tensor:
        """What understanding reads of pictures, row b for TextContext.image: codes [B, N] unless a family sees
        something else."""
        return self.encode_image(images)

    def lost_words(self, prompt: str) -> str:
        """The end of a drawing prompt that is too long for the model to read; "" where it reads all."""
        return ""

    @abstractmethod
    def generate_text(
        self,
        contexts: Sequence[TextContext],
        sampling: Sampling,
        seeds: Sequence[int],
        on_token: OnToken | None = None,
    ) -> TextCompletions:
        """Write one text per context. Row b depends on context b and seeds[b] only.

        `on_token` sees every token when it is drawn, and may end rows.
        """

    @abstractmethod
    def generate_image(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        state: ImageTrace | None = None,
        stop_at: int | None = None,
        on_step: OnStep | None = None,
    ) -> ImageTrace:
        """Draw one image per prompt, from `state` or from nothing, up to step `stop_at` or to the end.

        `on_step` sees the state after every step; what it raises ends the drawing.
        """

    def redraw_image(
        self,
        prompts: Sequence[str],
        codes: Tensor,
        region: Tensor,
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        stop_at: int | None = None,
    ) -> ImageTrace:
        """Draw a region of finished pictures again, as the prompts say.

        `generate_image` with `state` goes on where `stop_at` ended, and `image_logps` replays the trace.

        Args:
            codes: [B, N] of the pictures. Outside the region they are kept, with unmask_step -1 and log-probability 0.
            region: [N] or [B, N] bool, True where to draw; every row has equally many.
        Raises:
            ValueError: an empty region, one of another size or with unequal rows, or a family that cannot do this.
        """
        raise ValueError(
            f"{type(self).__name__}: this family draws in one order and cannot redraw a region; draw a whole picture, "
            "or use a model that unmasks, such as Show-o"
        )

    @abstractmethod
    def text_logps(
        self, contexts: Sequence[TextContext], ids: Tensor, mask: Tensor, sampling: Sampling
    ) -> tuple[Tensor, Tensor]:
        """Replay: (logps, entropy), both fp32 [B, L], differentiable, 0 where `mask` is False."""

    @abstractmethod
    def image_logps(
        self,
        prompts: Sequence[str],
        trace: ImageTrace,
        sampling: Sampling,
        steps: Sequence[int],
        dropped: Sequence[bool] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Replay of the tokens committed at `steps`: (logps fp32 [B, N], differentiable; committed bool [B, N]).

        Rows that are `dropped` [B] are read as the unconditional rows of guidance read their prompt (condition
        dropout).
        """

    def training_trace(self, codes: Tensor, seeds: Sequence[int]) -> tuple[ImageTrace, list[int]]:
        """A random state between nothing and the finished picture, and the steps whose tokens are to be learned from
        it.

        `-image_logps(prompts, trace, Sampling(), steps)` on committed positions is the masked-token loss. A share
        cos(u·π/2) of the codes [B, N], u uniform per row, is hidden (MaskGIT, arXiv 2202.04200, §3.1), at least one;
        row b depends on seeds[b] only.
        """
        hidden = torch.zeros_like(codes)
        for row, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(mix(seed))
            share = math.cos(float(torch.rand((), generator=generator)) * math.pi / 2)
            order = torch.randperm(codes.shape[1], generator=generator)
            hidden[row, order[: max(1, round(share * codes.shape[1]))].to(codes.device)] = 1
        nothing = torch.zeros(codes.shape, device=codes.device)
        numbers = torch.as_tensor(list(seeds), dtype=torch.long)
        return ImageTrace(codes, hidden, nothing, numbers, step=2, timesteps=2, nfe=0), [1]

    def scoring_trace(self, codes: Tensor) -> ImageTrace:
        """A trace whose replay at step 0 gives every code of finished pictures [B, N] a log-probability, in one pass.

        Its rows are those of the pictures, again and again; each code is drawn in one of them. By default a fixed
        random half of the codes is drawn with the other half in view, and the other way round.
        """
        order = torch.randperm(codes.shape[1], generator=torch.Generator().manual_seed(0))
        first = (order % 2 == 0).to(codes.device)
        nothing = torch.zeros_like(codes)
        halves = []
        for half in (first, ~first):
            steps = nothing.masked_fill(~half, -1)
            halves.append(ImageTrace(codes, steps, nothing.float(), nothing[:, 0], step=1, timesteps=1, nfe=0))
        return ImageTrace.cat(halves)

    @abstractmethod
    def read_rows(self, ids: Sequence[int]) -> Rows:
        """A copy of vocabulary rows."""

    @abstractmethod
    def write_rows(self, ids: Sequence[int], rows: Rows) -> None:
        """Overwrite vocabulary rows in place."""

    def code_embeddings(self, codes: Tensor) -> Tensor:
        """What image codes [...] look like to the model: fp32 [..., hidden].

        ValueError where a family has no such rows.
        """
        raise ValueError(
            f"{type(self).__name__} has no embedding rows of image codes; set model.init to class-noun or none"
        )

    @abstractmethod
    def insert_concept(self, concept: ConceptTokens, rows: Rows) -> None:
        """Add `concept.all_tokens` to tokenizer and vocabulary.

        All other rows keep their values, codes and mask move up.
        """

    @abstractmethod
    def suppress(self, ids: Sequence[int]) -> None:
        """Never write these ids as text from now on, in generation and replay alike."""

    @abstractmethod
    def get_input_embeddings(self) -> nn.Module:
        """The layer whose weight holds a row per vocabulary id."""

    @abstractmethod
    def get_output_embeddings(self) -> nn.Module:
        """The layer whose weight (and bias) holds a row per id that can be written."""

    @abstractmethod
    def gradient_checkpointing_enable(self) -> None:
        """Recompute layers in the backward pass: less memory, more time."""

    @abstractmethod
    def load_weights(self, weights: dict[str, Tensor], source: str = "checkpoint") -> None:
        """Overwrite weights with those of `save_pretrained`'s model.safetensors. ValueError names what does not fit."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, tokenizer and config; config.json is written last."""

    def preview(self, trace: ImageTrace, fill: Fill = "likely") -> Tensor:
        """What a partly drawn image looks like: uint8 [B, 3, H, W].

        Args:
            fill: what open positions show: the likeliest code at the last step ("likely"), or the latest draw
                ("sampled"), which says less about the picture that is coming.
        """
        if fill == "sampled" or trace.fills is None or trace.step == 0:
            return self.decode_image(trace.tokens)
        return self.decode_image(torch.where(trace.known_before(trace.step), trace.tokens, trace.likely(-1)))

    @contextmanager
    def _generating(self) -> Iterator[None]:
        """Evaluation mode without gradients; afterwards the mode is what it was."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)


def switch_checkpointing(
    backbone: nn.Module, switch: Literal["enable", "disable"], *inputs: Any, **options: Any
) -> None:
    """Recompute the layers of a transformers model in the backward pass, or stop it, by the name its release has for
    that.

    transformers 5.2x renamed gradient_checkpointing_* to activation_checkpointing_*.
    """
    names = (f"activation_checkpointing_{switch}", f"gradient_checkpointing_{switch}")
    method = next(getattr(backbone, name) for name in names if hasattr(backbone, name))
    method(*inputs, **options)


def pictures_at_once(image_size: int) -> int:
    """How many pictures an image tokenizer takes per pass: as many as four of 512 × 512 have pixels, which bounds its
    memory."""
    return max(1, 4 * 512 * 512 // image_size**2)


def to_pixels(images: Images, size: int) -> Tensor:
    """Pictures → [B, 3, size, size] fp32 in [-1, 1]: short side resized (bicubic), centre cropped.

    Tensors are uint8, or float in [0, 1]. Raises ValueError for other shapes.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; expected [B, 3, H, W], uint8 or float in [0, 1]"
            )
        return _tensor_pixels(images, size)
    return torch.cat([_tensor_pixels(_pil_tensor(image), size) for image in images])


def to_bytes(pixels: Tensor) -> Tensor:
    """Float pixels in [-1, 1] of any shape → uint8 of the same shape, rounded."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _pil_tensor(image: Image.Image) -> Tensor:
    rgb = image.convert("RGB")
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.view(rgb.height, rgb.width, 3).permute(2, 0, 1)[None]


def _tensor_pixels(images: Tensor, size: int) -> Tensor:
    if images.dtype == torch.uint8:
        unit = images.float() / 255
    else:
        unit = images.float()
    height, width = unit.shape[-2:]
    scale = size / min(height, width)
    if scale != 1:
        target = (max(size, round(height * scale)), max(size, round(width * scale)))
        unit = F.interpolate(unit, target, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (unit.shape[-2] - size) // 2, (unit.shape[-1] - size) // 2
    return unit[..., top : top + size, left : left + size] * 2 - 1
