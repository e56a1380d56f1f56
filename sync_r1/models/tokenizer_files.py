"""A text tokenizer from a folder."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from sync_r1.models.fields import read_object

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
        said = str(error)[:200]
        raise ValueError(f"{folder / 'tokenizer.json'} is no tokenizer ({said}); write or download it again") from error
