"""Which weights of the embedded world a cell was made with: others make its scores stale."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sync_r1.files import MANIFEST, read_object
from sync_r1.world.assets import ASSETS

FIRST = "bb417e4901c2174e"  # weights of version 1, which the fingerprints of their cells do not name


def world_weights(assets: Path = ASSETS) -> str:
    """A digest of all networks of the embedded world, by their manifest; empty for version 1 and without a manifest."""
    manifest = read_object(assets / MANIFEST)
    if manifest is None:
        return ""
    lines = []
    for name, facts in sorted(manifest["files"].items()):
        if name.endswith(".safetensors"):
            lines.append(f"{name} {facts['sha256']}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    if digest == FIRST:
        return ""
    return digest
