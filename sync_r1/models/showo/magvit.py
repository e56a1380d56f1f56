"""MAGVIT-v2 image tokenizer: convolutional encoder, lookup-free quantisation (LFQ), convolutional decoder.

LFQ (arXiv 2310.05737, §3.1) has no codebook: a latent of `z_channels` numbers is quantised to its signs, and the
signs read as a binary number, first channel highest, are the code. Shapes: B batch, H = W pixels, h = w token grid,
N = h·w tokens, C = z_channels bits.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sync_r1.models.config_files import check_kinds, read_object
from sync_r1.models.weight_files import WeightFiles, blank, check_shapes, fill


@dataclass(frozen=True, kw_only=True)
class MagvitConfig:
    """Sizes of the tokenizer. The defaults are the published 95 M parameter MAGVIT-v2 of Show-o."""

    channels: int = 128  # width that the multipliers multiply
    # encoder width per level, finest first; the side is halved between levels
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4, 4)
    num_res_blocks: tuple[int, ...] = (4, 3, 4, 3, 4)  # encoder residual blocks per level
    decoder_multipliers: tuple[int, ...] | None = (1, 1, 2, 2, 4)  # None: as the encoder
    decoder_res_blocks: tuple[int, ...] | None = (4, 4, 3, 4, 3)  # None: as the encoder
    z_channels: int = 13  # LFQ bits
    norm_groups: int = 32  # of every GroupNorm
    attn_resolutions: tuple[int, ...] = ()  # grid sizes whose residual blocks are followed by self-attention
    resolution: int = 256  # pixels per side
    in_channels: int = 3
    out_channels: int = 3
    unshuffle: int = 1  # pixel-unshuffle stem: convolutions run at resolution / unshuffle

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        levels = len(self.channel_multipliers)
        for name in ("num_res_blocks", "decoder_multipliers", "decoder_res_blocks"):
            if (value := getattr(self, name)) is not None and len(value) != levels:
                raise ValueError(
                    f"MagvitConfig.{name} has {len(value)} entries; give one for each of the {levels} "
                    "channel_multipliers"
                )
        if not 1 <= self.z_channels <= 30:
            raise ValueError(f"MagvitConfig.z_channels is {self.z_channels}; it must be 1 to 30 bits")
        if self.channels % self.norm_groups:
            raise ValueError(
                f"MagvitConfig.channels is {self.channels}; it must be a multiple of norm_groups = {self.norm_groups}"
            )
        if self.resolution % self.downscale:
            raise ValueError(
                f"MagvitConfig.resolution is {self.resolution}; it must be a multiple of {self.downscale} (pixels per "
                "token)"
            )

    @classmethod
    def tiny(cls) -> MagvitConfig:
        """The 32×32 world's tokenizer: 8×8 tokens of 12 bits, 1.7 M parameters."""
        return cls(
            channels=48,
            channel_multipliers=(1, 2),
            num_res_blocks=(2, 2),
            decoder_multipliers=None,
            decoder_res_blocks=None,
            z_channels=12,
            norm_groups=8,
            resolution=32,
            unshuffle=2,
        )

    @property
    def downscale(self) -> int:
        """Pixels per token along one side."""
        return self.unshuffle * 2 ** (len(self.channel_multipliers) - 1)

    @property
    def num_tokens(self) -> int:
        return (self.resolution // self.downscale) ** 2

    @property
    def codebook_size(self) -> int:
        return 2**self.z_channels

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MagvitConfig:
        """Inverse of `to_dict`; lists become tuples. ValueError on an unknown name."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown MagvitConfig fields {unknown}; allowed: {sorted(known)}")
        return cls(**values)


def codes_to_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes [...] long → signs [..., bits] float in {−1, +1}, highest bit first."""
    powers = torch.arange(bits - 1, -1, -1, device=codes.device)
    return ((codes.unsqueeze(-1) >> powers) & 1).float() * 2 - 1


def bits_to_codes(bits: Tensor) -> Tensor:
    """Signs or latents [..., C] → codes [...] long; a bit is set where the value is above 0, highest bit first."""
    powers = 2 ** torch.arange(bits.shape[-1] - 1, -1, -1, device=bits.device)
    return ((bits > 0) * powers).sum(-1)


class ResBlock(nn.Module):
    """Norm, swish, convolution, twice, added to the (projected) input."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=1e-6)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=1e-6)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return self.shortcut(x) + y


class Attention(nn.Module):
    """Single-head self-attention over all positions, added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (project(y).flatten(2).transpose(1, 2).unsqueeze(1) for project in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return x + self.out(y.reshape(x.shape))


class Downsample(nn.Conv2d):
    """Halves the grid; pads right and bottom only, as the published weights expect."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Conv2d):
    """Doubles the grid by nearest neighbour, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one grid size and the step to the next."""

    def __init__(self, c_in: int, c_out: int, blocks: int, groups: int, attention: bool, resample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(c_out if i else c_in, c_out, groups) for i in range(blocks))
        self.attentions = nn.ModuleList(Attention(c_out, groups) if attention else nn.Identity() for _ in range(blocks))
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        return self.resample(x)


def middle(channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(channels, channels, groups), Attention(channels, groups), ResBlock(channels, channels, groups)
    )


class Encoder(nn.Module):
    """Pixels [B, 3, H, W] → latents [B, C, h, w]."""

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        groups, levels = config.norm_groups, len(config.channel_multipliers)
        widths = [config.channels * m for m in config.channel_multipliers]
        inputs = [config.channels, *widths[:-1]]
        self.unshuffle = nn.PixelUnshuffle(config.unshuffle)
        self.conv_in = nn.Conv2d(config.in_channels * config.unshuffle**2, config.channels, 3, padding=1)
        self.levels = nn.ModuleList()
        for i in range(levels):
            attention = config.resolution // config.unshuffle // 2**i in config.attn_resolutions
            resample = Downsample(widths[i]) if i < levels - 1 else nn.Identity()
            self.levels.append(Level(inputs[i], widths[i], config.num_res_blocks[i], groups, attention, resample))
        self.mid = middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_in(self.unshuffle(pixels))
        for level in self.levels:
            x = level(x)
        x = F.silu(self.norm_out(self.mid(x)))
        return self.quant_conv(self.conv_out(x))


class Decoder(nn.Module):
    """Signs [B, C, h, w] → pixels [B, 3, H, W], not clamped.

    Levels are numbered finest first and run coarsest first.
    """

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        groups, levels = config.norm_groups, len(config.channel_multipliers)
        widths = [config.channels * m for m in config.decoder_multipliers or config.channel_multipliers]
        inputs = [*widths[1:], widths[-1]]
        blocks = config.decoder_res_blocks or config.num_res_blocks
        self.post_quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = middle(widths[-1], groups)
        self.levels = nn.ModuleList()
        for i in range(levels):
            attention = config.resolution // config.unshuffle // 2**i in config.attn_resolutions
            resample = Upsample(widths[i]) if i else nn.Identity()
            self.levels.append(Level(inputs[i], widths[i], blocks[i], groups, attention, resample))
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels * config.unshuffle**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.unshuffle)

    def forward(self, bits: Tensor) -> Tensor:
        x = self.mid(self.conv_in(self.post_quant_conv(bits)))
        for level in reversed(self.levels):
            x = level(x)
        return self.shuffle(self.conv_out(F.silu(self.norm_out(x))))


class Magvit(nn.Module):
    """Pixels ↔ discrete codes. `encode` and `decode_codes` for use, `forward` for training."""

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, C, h, w] → (signs [B, C, h, w] with straight-through gradient, codes [B, N] long)."""
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        codes = bits_to_codes(latents.flatten(2).transpose(1, 2))
        return latents + (signs - latents).detach(), codes

    def lfq_losses(self, latents: Tensor) -> dict[str, Tensor]:
        """Scalar regularisers of latents [B, C, h, w]; `quantization` is their weighted sum, to be added to the
        reconstruction.

        `commitment` pulls latents to their signs. `entropy` (after arXiv 2310.05737, eq. 5) wants each sample sure of
        itself and all codes used: low `sample_entropy`, high `batch_entropy`, low `correlation`. With P(bit = +1) =
        σ(4z), the softmax over squared distances to ±1, entropies factorise over bits (nats per bit, C terms instead of
        2^C); `correlation` is the part of the codes' joint entropy that this leaves out: without it bits learn to copy
        each other.
        """
        z = latents.float()
        commitment = (z.abs() - 1).square().mean()
        probability = torch.sigmoid(4 * z)
        sample_entropy = binary_entropy(probability).mean()
        batch_entropy = binary_entropy(probability.mean((0, 2, 3))).mean()
        signs = 2 * probability.movedim(1, -1).flatten(0, 2) - 1
        covariance = (signs - signs.mean(0)).T @ (signs - signs.mean(0)) / len(signs)
        correlation = (covariance - covariance.diag().diag()).square().sum() / len(covariance)
        entropy = 0.2 * sample_entropy - batch_entropy + 2 * correlation
        return {
            "quantization": 0.05 * commitment + 0.5 * entropy,
            "commitment": commitment,
            "entropy": entropy,
            "sample_entropy": sample_entropy,
            "batch_entropy": batch_entropy,
            "correlation": correlation,
        }

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels [B, 3, H, W] in [−1, 1] → (reconstruction, not clamped; losses: `total` to minimise, its parts beside
        it).
        """
        self.check_pixels(pixels)
        latents = self.encoder(pixels)
        bits, _ = self.quantize(latents)
        reconstruction = self.decoder(bits)
        losses = {"reconstruction": F.l1_loss(reconstruction, pixels), **self.lfq_losses(latents)}
        return reconstruction, {"total": losses["reconstruction"] + losses["quantization"], **losses}

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] float in [−1, 1] → codes [B, N] long, row by row.

        ValueError on a shape that does not fit.
        """
        self.check_pixels(pixels)
        return bits_to_codes(self.encoder(pixels).flatten(2).transpose(1, 2))

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes [B, N] long → pixels [B, 3, H, W] in [−1, 1].

        ValueError if N is not square or a code is out of range.
        """
        side = round(codes.shape[-1] ** 0.5)
        if codes.dim() != 2 or side * side != codes.shape[-1]:
            raise ValueError(
                f"codes have shape {list(codes.shape)}; expected [batch, tokens] with a square number of tokens"
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size:
            raise ValueError(
                f"codes span {int(codes.min())}..{int(codes.max())}; they must be in 0..{self.config.codebook_size - 1}"
            )
        bits = codes_to_bits(codes, self.config.z_channels).to(self.decoder.conv_in.weight.dtype)
        return self.decoder(bits.transpose(1, 2).unflatten(2, (side, side))).clamp(-1, 1)

    def check_pixels(self, pixels: Tensor) -> None:
        """ValueError unless pixels are [B, in_channels, H, H] floats with H a multiple of the pixels per token."""
        config = self.config
        if pixels.dim() != 4 or pixels.shape[1] != config.in_channels or not pixels.is_floating_point():
            raise ValueError(
                f"pixels have shape {list(pixels.shape)} and type {pixels.dtype}; expected floats of shape [batch, "
                f"{config.in_channels}, {config.resolution}, {config.resolution}] in [-1, 1]"
            )
        height, width = pixels.shape[2:]
        if height != width or height % config.downscale:
            raise ValueError(
                f"pictures are {height}x{width}; they must be square with a side that is a multiple of "
                f"{config.downscale}: resize or crop to {config.resolution}x{config.resolution}"
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, then `config.json`, into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Magvit:
        """Read what `save_pretrained` wrote. ValueError if a file is missing or the weights do not fit the config."""
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} has no {name}; give a folder written by Magvit.save_pretrained")
        values = read_object(folder / "config.json")
        check_kinds(
            folder / "config.json", values, MagvitConfig(decoder_multipliers=(1,) * 5, decoder_res_blocks=(1,) * 5)
        )
        files = WeightFiles(folder / "model.safetensors")
        try:
            config = MagvitConfig.from_dict(values)
            with blank(device="meta"):
                expected = {name: value.shape for name, value in cls(config).state_dict().items()}
        except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
            raise ValueError(f"{folder / 'config.json'} cannot be built: {str(error)[:200]}") from error
        check_shapes(expected, files.shapes, files.source, f"{folder}/config.json")
        with blank():
            model = cls(config)
        fill(model, files.stream(), files.source)
        return model.eval()


def binary_entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of coins with the given probabilities, elementwise; finite at 0 and 1."""
    p = probability.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())
