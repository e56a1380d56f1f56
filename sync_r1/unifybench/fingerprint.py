"""Hashes of networks: of what they compute with, not of where they were loaded from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sync_r1.files import sha256
from sync_r1.models.base import UnifiedModel
from sync_r1.unifybench.protocol import digest

_CALLS = ("truncation", "padding")  # settings of the last call, no part of a vocabulary
_ORIGIN = ("_name_or_path", "transformers_version")


def network_digest(network: nn.Module, *facts: Any) -> str:
    """SHA-256 of all weights in memory, by name, and of JSON values that belong to them."""
    return _tensors_digest(network.state_dict().items(), facts)


@torch.no_grad()
def _tensors_digest(tensors: Iterable[tuple[str, Tensor]], facts: Sequence[Any]) -> str:
    hasher = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, value in tensors:
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def model_fingerprint(model: UnifiedModel) -> str:
    """Of a model under test: weights, concepts in the vocabulary, tokenizer and configuration."""
    return network_digest(model, *_facts(model))


def trained_fingerprint(model: UnifiedModel) -> str:
    """The same of a model whose layers several processes share: of its weights as they lie gathered in this process.

    `state_dict` would put layers under FSDP2 back into shares, and wait for the other processes.
    """
    return _tensors_digest(chain(model.named_parameters(), model.named_buffers()), _facts(model))


def _facts(model: UnifiedModel) -> tuple[Any, ...]:
    concepts = [dataclasses.asdict(concept) for concept in model.concepts]
    return concepts, vocabulary(model.tokenizer), configuration(getattr(model, "config", None))


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
