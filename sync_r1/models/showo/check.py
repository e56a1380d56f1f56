"""Parity check: published numbers of Show-o and MAGVIT-v2, recomputed by this code from the published weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.convert import convert_magvit, convert_showo
from sync_r1.models.showo.magvit import Magvit, MagvitConfig, codes_to_bits
from sync_r1.models.showo.maskgit import masked_counts, remask
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import build_mmu, build_t2i

ATOL = 1e-4
REMASK_STEPS = {0: 10, 3: 10, 7: 10}  # step → steps in total
INPUTS = ("magvit_pixels", *(f"remask_probs_{step}" for step in REMASK_STEPS))


def check_kit(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Recompute every tensor of a parity kit → name: {"max_error", "ok"}; floats within 1e-4, integers exactly.

    Tensors that are only given (pixels, confidences) carry "input": True; for them ok means finite.
    Raises ValueError naming a file that is missing or unreadable, or a tensor that it lacks.
    """
    folder = Path(folder)
    sizes = _read_sizes(folder / "golden.json")
    golden = _read_tensors(folder / "golden.safetensors")
    computed: dict[str, Tensor] = {}
    with torch.no_grad():
        try:
            model = _showo(sizes, _read_tensors(folder / "showo_tiny.safetensors"))
            magvit = _magvit(sizes["magvit"], _read_tensors(folder / "magvit_tiny.safetensors"))
            computed |= _drawing(model, sizes, golden)
            computed |= _reading(model, golden)
            computed |= _remasking(golden)
            computed |= _pictures(magvit, golden)
            report = {name: _compare(value, golden[name]) for name, value in computed.items()}
            for name in INPUTS:
                report[name] = {"max_error": 0.0, "ok": bool(golden[name].isfinite().all()), "input": True}
        except KeyError as error:
            raise ValueError(f"{folder}: golden.json or golden.safetensors lacks {error}") from error
    if unknown := sorted(set(golden) - set(report)):
        raise ValueError(f"{folder / 'golden.safetensors'} has tensors this check does not know: {unknown}")
    return dict(sorted(report.items()))


def _compare(value: Tensor, expected: Tensor) -> dict[str, Any]:
    if value.shape != expected.shape:
        return {
            "max_error": float("inf"),
            "ok": False,
            "shape": list(value.shape),
            "expected_shape": list(expected.shape),
        }
    error = float((value.double() - expected.double()).abs().max())
    return {"max_error": error, "ok": error <= (ATOL if expected.is_floating_point() else 0.0)}


def _read_sizes(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _showo(sizes: dict[str, Any], weights: dict[str, Tensor]) -> Showo:
    phi = sizes["phi"]
    backbone = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "layer_norm_eps",
        "rope_theta",
    )
    config = ShowoConfig(
        text_vocab=sizes["text_vocab"],
        bos_id=sizes["bos"],
        eos_id=sizes["eos"],
        codebook_size=sizes["codes"],
        num_image_tokens=sizes["num_vq_tokens"],
        max_text_tokens=sizes["max_text_slot"],
        partial_rotary_factor=phi["partial_rotary_factor"],
        max_position_embeddings=phi["max_position_embeddings"],
        **{name: phi[name] for name in backbone},
    )
    layout = {
        "first_code": config.image_offset,
        "mask": config.mask_id,
        "vocab": config.vocab_size,
        "pad": config.pad_id,
    }
    layout_error = {name: (sizes[name], ours) for name, ours in layout.items() if sizes[name] != ours}
    if layout_error:
        raise ValueError(f"golden.json disagrees with the vocabulary layout (theirs, ours): {layout_error}")
    model = Showo(config, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"0": 0}, "0"))))
    model.load_weights(convert_showo(weights), "showo_tiny.safetensors")
    return model.eval()


def _magvit(sizes: dict[str, Any], weights: dict[str, Tensor]) -> Magvit:
    config = MagvitConfig(
        channels=sizes["ch"],
        channel_multipliers=tuple(sizes["ch_mult"]),
        num_res_blocks=tuple(sizes["num_res_blocks"]),
        decoder_multipliers=None,
        decoder_res_blocks=None,
        z_channels=sizes["z_channels"],
        resolution=sizes["resolution"],
        attn_resolutions=tuple(sizes["attn_resolutions"]),
    )
    model = Magvit(config)
    try:
        model.load_state_dict(convert_magvit(weights))
    except RuntimeError as error:
        raise ValueError(f"magvit_tiny.safetensors does not fit golden.json: {error}") from error
    return model.eval()


def _drawing(model: Showo, sizes: dict[str, Any], golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rebuild the published t2i sequences from their texts and codes, then run them."""
    config, given = model.config, golden["t2i_input_ids"]
    size, slot = config.num_image_tokens, sizes["max_text_slot"]
    texts = []
    for row in given:
        texts.append([int(token) for token in row[:slot] if token != config.pad_id][2:-1])
    batch = build_t2i(config, texts, given[:, slot + 1 : -1] - config.image_offset, pad_to=slot)
    hidden = model.hidden(*batch)
    everything = slice(0, config.vocab_size)
    return {
        "t2i_input_ids": batch.ids,
        "t2i_attention_mask": batch.mask.to(torch.uint8),
        "t2i_logits_image_positions": model.head(hidden[:, -size - 1 : -1], everything),
        "t2i_logits_last_text": model.head(hidden[:, slot - 1], everything),
    }


def _reading(model: Showo, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rebuild the published mmu sequences, run them, and continue them greedily over the whole vocabulary."""
    config, given = model.config, golden["mmu_input_ids"]
    size, everything = config.num_image_tokens, slice(0, model.config.vocab_size)
    codes, texts = given[:, 2 : 2 + size] - config.image_offset, [row[4 + size :].tolist() for row in given]
    batch = build_mmu(config, codes, texts)
    logits = model.head(model.hidden(*batch), everything)
    expected = golden["mmu_greedy_tokens"]
    greedy = torch.full_like(expected, -1)
    ended = torch.zeros(len(given), dtype=torch.bool)
    for step in range(expected.shape[1]):
        longer = [[*text, *row[:step].clamp(min=0).tolist()] for text, row in zip(texts, greedy)]
        following = model.head(model.hidden(*build_mmu(config, codes, longer))[:, -1], everything).argmax(-1)
        greedy[:, step] = following.masked_fill(ended, -1)
        ended |= following == config.eos_id
    return {
        "mmu_input_ids": batch.ids,
        "mmu_attention_mask": batch.mask.to(torch.uint8),
        "mmu_logits": logits,
        "mmu_greedy_tokens": greedy,
    }


def _remasking(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    computed = {}
    for step, total in REMASK_STEPS.items():
        probs = golden[f"remask_probs_{step}"]
        count = masked_counts(probs.shape[1], total)[step + 1]
        computed[f"remask_len_{step}"] = torch.full_like(golden[f"remask_len_{step}"], count)
        computed[f"remask_mask_{step}"] = remask(probs.log(), count).to(torch.uint8)
    return computed


def _pictures(magvit: Magvit, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    pixels = golden["magvit_pixels"]
    return {
        "magvit_latents": magvit.encoder(pixels),
        "magvit_codes": magvit.encode(pixels),
        "magvit_decoded": magvit.decoder(_signs(magvit, golden["magvit_codes"])),
    }


def _signs(magvit: Magvit, codes: Tensor) -> Tensor:
    """Codes [B, N] → ±1 bits [B, z, side, side]; the published decoder output is not clamped."""
    side = round(codes.shape[1] ** 0.5)
    return codes_to_bits(codes, magvit.config.z_channels).float().transpose(1, 2).unflatten(2, (side, side))
