"""Replies of a chat endpoint on disk or in memory.

One small file per reply; what was asked (texts, pictures, keys) is never stored.
"""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from pathlib import Path
from typing import Any

from sync_r1.file_errors import reason
from sync_r1.files import read_json, write_text

MEMORY_LIMIT = 10_000  # replies kept where there is no folder


def content_key(*content: Any) -> str:
    """SHA-256 (hexadecimal) of JSON values: equal content gives equal keys in every process and on every machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class ReplyCache:
    """key → reply text. Files appear whole or not at all, so several processes may share a folder.

    A damaged file counts as absent.
    """

    def __init__(self, folder: Path | str = "") -> None:
        self.folder = Path(folder) if folder else None
        self._memory: dict[str, str] = {}
        self._lock = threading.Lock()
        self._warned = False

    def path(self, key: str) -> Path:
        """Where the reply to `key` lies; only with a folder."""
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> str | None:
        """The stored reply, or None."""
        if self.folder is None:
            return self._memory.get(key)
        try:
            entry = read_json(self.path(key))
            reply = None
            if entry["key"] == key:
                reply = entry["reply"]
        except (ValueError, KeyError, TypeError):
            return None
        if isinstance(reply, str):
            return reply
        return None

    def put(self, key: str, reply: str) -> None:
        """Store a reply. A folder that cannot be written costs a warning, not the reply."""
        if self.folder is None:
            with self._lock:
                if len(self._memory) >= MEMORY_LIMIT:
                    self._memory.pop(next(iter(self._memory)))
                self._memory[key] = reply
            return
        try:
            write_text(self.path(key), json.dumps({"key": key, "reply": reply}) + "\n")
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"replies are not cached: {reason(error)}; check that {self.folder} can be written", stacklevel=2
                )
            self._warned = True
