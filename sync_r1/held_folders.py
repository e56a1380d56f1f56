"""Folders that this process works in, and whether they are still there: see `folder_lock.hold`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK, OWNER = ".lock", ".lock.json"
_held: dict[Path, tuple[int, int]] = {}  # device and number of each folder


class FolderGone(ValueError):
    """A folder was removed, or replaced, while this process worked in it."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let `check_held` look after `folder`, which holds its OWNER file, while the block lasts."""
    place = folder.absolute()
    _held[place] = _identity(place)
    try:
        yield
    finally:
        del _held[place]


def check_held() -> None:
    """To be called before anything is written: otherwise a part of a removed folder would be made anew.

    Raises:
        FolderGone: a folder is gone, is another one by now, or was emptied.
    """
    for folder, identity in list(_held.items()):
        lost = not (folder / OWNER).is_file() or _identity(folder) != identity
        if lost and folder in _held:  # else another thread has let it go in the meantime
            raise FolderGone(
                f"{folder} was removed or emptied while this process worked in it, so it ends here and writes nothing "
                "more; start it again"
            )


def _identity(folder: Path) -> tuple[int, int]:
    try:
        facts = folder.stat()
    except OSError:
        return 0, 0
    return facts.st_dev, facts.st_ino
