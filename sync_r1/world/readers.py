"""Two networks that read a picture's attributes: one rewards, the other evaluates.

They share no weights, seed or architecture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sync_r1.files import read_tensors
from sync_r1.world.render import ATTRIBUTES, Pair, Picture, Still
from sync_r1.world.version import VERSION

ReaderKind = Literal["convolution", "patches"]
View = Literal["whole", "left", "right"]
READ = {  # what a reader tells: the attributes, a second held thing, and how many characters there are
    **ATTRIBUTES,
    "spare": ATTRIBUTES["item"],
    "subjects": ("none", "one", "two"),
}


def to_pixels(images: Tensor) -> Tensor:
    """uint8 [B, 3, 32, 32] → float in [−1, 1]."""
    return images.float() / 127.5 - 1


def half(images: Tensor, side: str) -> Tensor:
    """One character of a picture of two, moved to the middle between grey: [B, 3, 32, 32] of any dtype → the same.

    Args:
        side: "left" or "right".
    """
    grey = 0.0
    if images.dtype == torch.uint8:
        grey = 127
    alone = torch.full_like(images, grey)
    if side == "left":
        alone[..., 8:24] = images[..., :16]
    else:
        alone[..., 8:24] = images[..., 16:]
    return alone


def truth(picture: Picture, view: View = "whole") -> dict[str, str]:
    """What a reader should tell of a picture, or of one half of a picture of two; left out is what nothing shows."""
    if isinstance(picture, Still):
        alone = {"hat": "none", "item": "none", picture.attribute: picture.what}
        return {**alone, "spare": "none", "scene": picture.scene, "subjects": "none"}
    if isinstance(picture, Pair):
        if view == "whole":
            return {"scene": picture.scene, "subjects": "two"}
        if view == "left":
            thing = picture.left
        else:
            thing = picture.right
        return {name: getattr(thing, name) for name in (*ATTRIBUTES, "spare")}
    return {**{name: getattr(picture, name) for name in (*ATTRIBUTES, "spare")}, "subjects": "one"}


class ConvolutionTrunk(nn.Sequential):
    """Strided convolutions over pixels; the reward's reader."""

    width = 192

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(64 * 64, self.width),
            nn.GELU(),
        )


class PatchTrunk(nn.Module):
    """Self-attention over 4×4-pixel patches; the evaluator's reader."""

    width = 96

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, self.width, 1), nn.Flatten(2))
        self.positions = nn.Parameter(0.02 * torch.randn(64, self.width))
        layer = nn.TransformerEncoderLayer(
            self.width, 4, 2 * self.width, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.summary = nn.Parameter(0.02 * torch.randn(1, 1, self.width))

    def forward(self, pixels: Tensor) -> Tensor:
        """Float [B, 3, 32, 32] → features [B, width]."""
        patches = self.patches(pixels).transpose(1, 2) + self.positions
        summary = self.summary.expand(len(pixels), -1, -1)
        out: Tensor = self.layers(torch.cat([summary, patches], 1))[:, 0]
        return out


class AttributeReader(nn.Module):
    """Picture → a distribution over the values of everything in `READ`. ValueError for an unknown kind of network.

    A picture of two is read half by half (`half`), but for its scene and the number of characters.
    """

    def __init__(self, kind: ReaderKind) -> None:
        super().__init__()
        if kind not in ("convolution", "patches"):
            raise ValueError(f"reader kind is {kind!r}; it must be 'convolution' or 'patches'")
        self.kind = kind
        self.values = {name: tuple(values) for name, values in READ.items()}
        self.trunk = ConvolutionTrunk() if kind == "convolution" else PatchTrunk()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.trunk.width, len(values)) for name, values in self.values.items()}
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Float pixels [B, 3, 32, 32] in [−1, 1] → logits [B, values] per attribute."""
        features = self.trunk(pixels)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, images: Tensor) -> list[dict[str, str]]:
        """uint8 [B, 3, 32, 32] → the likeliest value of every attribute."""
        best = {name: logits.argmax(-1).tolist() for name, logits in self(to_pixels(images.to(self.device))).items()}
        found: list[dict[str, str]] = []
        for i in range(len(images)):
            found.append({name: self.values[name][rows[i]] for name, rows in best.items()})
        return found

    @torch.no_grad()
    def probabilities(self, images: Tensor, wanted: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
        """Probability of each wanted value, per picture."""
        found = {name: logits.float().softmax(-1) for name, logits in self(to_pixels(images.to(self.device))).items()}
        rows: list[dict[str, float]] = []
        for i, row in enumerate(wanted):
            rows.append({name: float(found[name][i, self.values[name].index(value)]) for name, value in row.items()})
        return rows

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors (half precision), making the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.half().contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors"
        )
        config = {"kind": self.kind, "attributes": self.values}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> AttributeReader:
        """Read what `save_pretrained` wrote. ValueError if it does not tell what this version of the world shows."""
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if {name: tuple(values) for name, values in config["attributes"].items()} != READ:
            raise ValueError(
                f"{folder} is a reader of another version of the embedded world ({', '.join(config['attributes'])}); "
                f"version {VERSION} has {', '.join(READ)}: use the one that comes with this package, or train it with "
                "`sync-r1 world pretrain`"
            )
        reader = cls(config["kind"])
        reader.load_state_dict(
            {name: value.float() for name, value in read_tensors(folder / "model.safetensors").items()}
        )
        return reader.eval()
