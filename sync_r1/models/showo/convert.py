"""Renames the published weights to ours. Nothing else in the package knows upstream's names."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.base import ConceptTokens, Rows
from sync_r1.models.concept_tokens import install_concept
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit, MagvitConfig
from sync_r1.models.showo.model import Showo

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


def convert_magvit(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Upstream MAGVIT-v2 state → state of `Magvit`, same tensors under our names.

    The two LFQ buffers hold no knowledge (signs and powers of two) and are dropped; ValueError if the powers say that
    another bit order was used.
    """
    powers = state.get("quantize.power_vals")
    if powers is not None and not powers.is_meta and not torch.equal(powers, 2 ** torch.arange(len(powers) - 1, -1, -1)):
        raise ValueError(f"quantize.power_vals is {powers.tolist()}; only highest bit first (…, 4, 2, 1) is supported")
    converted = {}
    for name, value in state.items():
        if name.startswith("quantize."):
            continue
        for pattern, replacement in MAGVIT_RENAMES:
            name = re.sub(pattern, replacement, name)
        converted[name] = value
    return converted


def convert_showo(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Upstream Show-o state → state of `Showo`. Names agree; rotary tables are recomputed. ValueError on a foreign tensor."""
    converted = {name: value for name, value in state.items() if not name.endswith("rotary_emb.inv_freq")}
    if foreign := sorted(name for name in converted if not re.match(r"showo\.(model|lm_head)\.", name)):
        raise ValueError(f"not a Show-o checkpoint: tensors {foreign[:5]} do not start with showo.model. or showo.lm_head.")
    return converted


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or .bin file, or of a folder of them (shards are merged). ValueError if there are none."""
    source = Path(source)
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
    if not files:
        raise ValueError(f"{source} has no .safetensors or pytorch_model*.bin file; download the published weights there first")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    return state


def import_showo(showo: str | Path, magvit: str | Path, tokenizer: str | Path, config: ShowoConfig | None = None) -> Showo:
    """Published Show-o and MAGVIT-v2 weights plus a phi-1.5 tokenizer folder → one model, ready to save.

    `config` defaults to the 512 px model; its sizes must be those of the weights, else ValueError.
    """
    image_tokenizer = Magvit(MagvitConfig())
    image_tokenizer.load_state_dict(convert_magvit(read_weights(magvit)))
    words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    model = Showo.from_config(config or ShowoConfig(), words, image_tokenizer)
    model.load_weights(convert_showo(read_weights(showo)), str(showo))
    return model.eval()


def import_concept(model: Showo, folder: str | Path, epoch: int, name: str, class_noun: str) -> ConceptTokens:
    """A concept of UniCTokens: `epoch_<N>_{embed,lm_head_weight,lm_head_bias}.pt`, row 0 the placeholder."""
    values = []
    for part in ("embed", "lm_head_weight", "lm_head_bias"):
        path = Path(folder) / f"epoch_{epoch}_{part}.pt"
        if not path.is_file():
            raise ValueError(f"{path} is missing; a concept has epoch_{epoch}_embed.pt, _lm_head_weight.pt and _lm_head_bias.pt")
        values.append(torch.load(path, map_location="cpu", weights_only=True))
    rows = Rows(*values)
    concept = ConceptTokens(name, [f"<token_{i}>" for i in range(len(rows.embed) - 1)], class_noun)
    return install_concept(model, concept, rows)
