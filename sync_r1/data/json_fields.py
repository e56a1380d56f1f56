"""The fields of JSON files that other people wrote: every error names the file, the field, the value seen and what is
allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sync_r1.config_fields import shown

_MISSING = object()


class Fields:
    """A JSON object from `path`; `where` says which part of the file it is."""

    def __init__(self, path: Path, data: Any, where: str = "") -> None:
        self.path, self.where = path, where
        if not isinstance(data, dict):
            raise ValueError(f"{self.place}: must be a JSON object, not {_kind(data)}")
        self.data: dict[str, Any] = data

    @property
    def place(self) -> str:
        if self.where:
            return f"{self.path}: {self.where}"
        return str(self.path)

    def _wrong(self, key: str, value: Any, allowed: str) -> ValueError:
        if value is _MISSING:
            seen = "is missing"
        else:
            seen = f"is {shown(value)}"
        return ValueError(f"{self.place}: field {key!r} {seen}; it must be {allowed}")

    def text(self, key: str, default: str | None = None) -> str:
        """Non-empty text, stripped; an absent or null field gives `default` when there is one."""
        value = self.data.get(key, _MISSING)
        if default is not None and (value is _MISSING or value is None):
            return default
        if not isinstance(value, str) or (not value.strip() and default is None) or not _writable(value):
            raise self._wrong(key, value, "non-empty text")
        return value.strip()

    def one_of(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Text that is one of `allowed`."""
        value = self.text(key, default)
        if value not in allowed:
            raise self._wrong(key, value, f"one of {', '.join(allowed)}")
        return value

    def count(self, key: str) -> int:
        """A whole number from 0 on, as a number or as digits."""
        value = self.data.get(key, _MISSING)
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            return int(value.strip())
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, value, "a whole number from 0 on, or its digits as text")
        return value

    def strings(self, key: str, *, allow_empty: bool = False, allow_bare: bool = False) -> list[str]:
        """A list of non-empty texts; with `allow_bare` one text stands for a list of one."""
        value = self.data.get(key, _MISSING)
        if allow_empty and (value is _MISSING or value is None) and allow_bare:
            return []
        if allow_bare and isinstance(value, str) and value.strip() and _writable(value):
            return [value.strip()]
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list of texts")
        for number, entry in enumerate(value):
            if not isinstance(entry, str) or not entry.strip() or not _writable(entry):
                raise self._wrong(f"{key}[{number}]", entry, "non-empty text")
        if not value and not allow_empty:
            raise self._wrong(key, value, "a list of at least one text")
        return [entry.strip() for entry in value]

    def objects(self, key: str) -> list[Fields]:
        """A list of JSON objects."""
        value = self.data.get(key, _MISSING)
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list of objects")
        return [
            Fields(self.path, entry, f"{self.where + ', ' if self.where else ''}{key}[{i}]")
            for i, entry in enumerate(value)
        ]


def _writable(text: str) -> bool:
    """JSON can hold half characters (lone surrogates), which no file, terminal or tokenizer takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), "an object")
