"""Which version of the embedded world a model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_r1.world.tasks import NAME_POOL

if TYPE_CHECKING:
    from sync_r1.models.base import UnifiedModel

VERSION = 2
SINCE_2 = " friends"  # one token of world 2's text tokenizer, several of world 1's


def world_version(model: UnifiedModel) -> int | None:
    """1 or 2; None for a model that was not trained on the embedded world."""
    if not set(NAME_POOL) <= set(model.name_pool):
        return None
    if len(model.tokenizer.encode(SINCE_2, add_special_tokens=False)) == 1:
        return VERSION
    return 1


def check_version(model: UnifiedModel, wish: str) -> None:
    """ValueError for weights of an earlier world, which cannot do what `wish` says ("draw two characters")."""
    version = world_version(model)
    if version is not None and version < VERSION:
        raise ValueError(
            f"these weights were trained on version {version} of the embedded world and cannot {wish}; use those that "
            f"come with this package (--model world, version {VERSION}), or train them: sync-r1 world pretrain"
        )
