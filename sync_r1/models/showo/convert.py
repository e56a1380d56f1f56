"""Names and sizes of the published weights in our terms. Nothing else in the package knows upstream's names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from sync_r1.models.showo.magvit import MagvitConfig

T = TypeVar("T")

EMBED = "showo.model.embed_tokens.weight"
MAGVIT_RENAMES = (
    (r"^(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.", r"\1.levels.\2.blocks.\3."),
    (r"^(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.", r"\1.levels.\2.attentions.\3."),
    (r"\.(?:down|up)\.(\d+)\.(?:down|up)sample\.conv\.", r".levels.\1.resample."),
    (r"\.mid\.block_1\.", ".mid.0."),
    (r"\.mid\.attn_1\.", ".mid.1."),
    (r"\.mid\.block_2\.", ".mid.2."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"\.proj_out\.", ".out."),
)


# names


def magvit_name(name: str) -> str | None:
    """Our name of an upstream MAGVIT-v2 tensor.

    None for the two LFQ buffers, which hold no knowledge (signs and powers of two).
    """
    if name.startswith("quantize."):
        return None
    for pattern, replacement in MAGVIT_RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def showo_name(name: str) -> str | None:
    """Our name of an upstream Show-o tensor, which is the same; None for rotary tables.

    ValueError on a foreign tensor.
    """
    if name.endswith("rotary_emb.inv_freq"):
        return None
    if name.startswith("mm_projector."):
        raise ValueError(
            f"this is the variant with a CLIP encoder ({name}), which is not supported; use showlab/show-o or "
            "showlab/show-o-512x512"
        )
    if not re.match(r"showo\.(model|lm_head)\.", name):
        raise ValueError(f"not a Show-o checkpoint: tensor {name} does not start with showo.model. or showo.lm_head.")
    return name


def convert_magvit(state: Mapping[str, T]) -> dict[str, T]:
    """Upstream MAGVIT-v2 tensors, or shapes, → the same under our names.

    ValueError if the bits are in another order.
    """
    powers = state.get("quantize.power_vals")
    if isinstance(powers, Tensor) and not powers.is_meta:
        check_bit_order(powers)
    return {ours: value for name, value in state.items() if (ours := magvit_name(name)) is not None}


def convert_showo(state: Mapping[str, T]) -> dict[str, T]:
    """Upstream Show-o tensors, or shapes, → those of `Showo`. ValueError on a foreign tensor."""
    return {ours: value for name, value in state.items() if (ours := showo_name(name)) is not None}


def check_bit_order(powers: Tensor) -> None:
    if not torch.equal(powers, 2 ** torch.arange(len(powers) - 1, -1, -1)):
        raise ValueError(f"quantize.power_vals is {powers.tolist()}; only highest bit first (…, 4, 2, 1) is supported")


# sizes: the published configs leave most of them out, the tensors do not


def magvit_config(shapes: Mapping[str, Sequence[int]], resolution: int) -> MagvitConfig:
    """Sizes of a MAGVIT-v2 from the shapes of its (renamed) tensors."""

    def blocks(side: str, level: int) -> int:
        return count_numbers(shapes, rf"{side}\.levels\.{level}\.blocks\.(\d+)\.")

    levels = count_numbers(shapes, r"encoder\.levels\.(\d+)\.")
    channels = shapes["encoder.conv_in.weight"][0]
    widths = {
        side: [shapes[f"{side}.levels.{i}.blocks.0.conv1.weight"][0] // channels for i in range(levels)]
        for side in ("encoder", "decoder")
    }
    attended = [resolution // 2**i for i in range(levels) if f"encoder.levels.{i}.attentions.0.q.weight" in shapes]
    return MagvitConfig(
        channels=channels,
        channel_multipliers=tuple(widths["encoder"]),
        num_res_blocks=tuple(blocks("encoder", i) for i in range(levels)),
        decoder_multipliers=tuple(widths["decoder"]),
        decoder_res_blocks=tuple(blocks("decoder", i) for i in range(levels)),
        z_channels=shapes["encoder.quant_conv.weight"][0],
        attn_resolutions=tuple(attended),
        resolution=resolution,
    )


def showo_sizes(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Backbone sizes from the shapes of its tensors."""
    hidden = shapes[EMBED][1]
    return {
        "hidden_size": hidden,
        "intermediate_size": shapes["showo.model.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": count_numbers(shapes, r"showo\.model\.layers\.(\d+)\."),
        "num_attention_heads": hidden // shapes["showo.model.layers.0.self_attn.q_layernorm.weight"][0],
    }


def count_numbers(names: Mapping[str, Any], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})
