"""The values of a model's config.json, checked before anything is built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from sync_r1.files import read_json

LARGEST = 1 << 20  # of any size: more than rows, widths, levels or pixels of a published model


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. ValueError names a file that is none."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no JSON object but {type(values).__name__}; write or download it again")
    return values


def check_kinds(path: Path, values: Mapping[str, Any], defaults: Any) -> None:
    """Raises ValueError for a name that `defaults`, a dataclass, lacks, or a value of another kind than the
    default's."""
    known = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{path} has unknown fields {str(unknown)[:200]}; allowed are {', '.join(known)}")
    for name, value in values.items():
        if not _fits(value, known[name]):
            kind = type(known[name]).__name__
            raise ValueError(
                f"{path}: {name} is {value!r:.80}; it must be like {known[name]!r:.80} ({kind}, at most {LARGEST})"
            )


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return type(value) is int and 0 <= value <= LARGEST
    if isinstance(default, float):
        return type(value) in (int, float) and abs(value) <= 1e12 and math.isfinite(value)
    if isinstance(default, tuple):  # of sizes; None says "as the encoder"
        return value is None or (
            isinstance(value, (list, tuple))
            and len(value) <= 16
            and all(type(x) is int and 0 < x <= LARGEST for x in value)
        )
    return isinstance(value, type(default))


COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """`tokenizer.json` and what lies beside it. ValueError names a file that cannot be read."""
    read_object(folder / "tokenizer.json")
    for name in COMPANIONS:
        if (folder / name).exists():
            read_object(folder / name)
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the Rust library raises no other kind
        reason = str(error)[:200]
        raise ValueError(
            f"{folder / 'tokenizer.json'} is no tokenizer ({reason}); write or download it again"
        ) from error
