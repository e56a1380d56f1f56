"""Hashes of networks: of what they compute with, not of where they were loaded from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from sync_r1.files import sha256
from sync_r1.models.base import UnifiedModel
from sync_r1.unifybench.protocol import digest

_CALLS = ("truncation", "padding")  # settings of the last call, no part of a vocabulary
_ORIGIN = ("_name_or_path", "transformers_version")


@torch.no_grad()
def network_digest(network: nn.Module, *facts: Any) -> str:
    """SHA-256 of all weights in memory, by name, and of JSON values that belong to them."""
    hasher = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, value in network.state_dict().items():
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def model_fingerprint(model: UnifiedModel) -> str:
    """Of a model under test: weights, concepts in the vocabulary, tokenizer and configuration."""
    concepts = [dataclasses.asdict(concept) for concept in model.concepts]
    return network_digest(model, concepts, vocabulary(model.tokenizer), configuration(getattr(model, "config", None)))


def vocabulary(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """How texts become ids: tokens, merges, normalisation, added tokens."""
    stored: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in stored.items() if name not in _CALLS}


def configuration(config: Any) -> Any:
    """A model's configuration as JSON values, without the name of its folder."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    if hasattr(config, "to_dict"):
        values = config.to_dict()
    else:
        values = config
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if name not in _ORIGIN}
    return values


def network_content(place: str, network: nn.Module) -> str:
    """Of a scorer: the files of a local folder, which hold its preprocessing too; else the weights that were loaded."""
    folder = Path(place)
    if not folder.is_dir():
        return network_digest(network)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({path.relative_to(folder).as_posix(): sha256(path) for path in files})
