"""One process at a time works in a folder."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from sync_r1.file_errors import writing
from sync_r1.files import write_text
from sync_r1.held_folders import LOCK, OWNER, held

if TYPE_CHECKING:
    from sync_r1.distributed import Processes  # brings PyTorch along, which writing a concept does not need

OTHER_NAME = "choose another run.name"
ENDING_S = 0.2  # the process that holds a folder may be about to end


class InUse(ValueError):
    """Another process works in the folder."""


@contextmanager
def hold(folder: Path, instead: str = OTHER_NAME, wait_s: float = ENDING_S) -> Iterator[None]:
    """Hold `folder` for this process, until the block ends or the process does.

    The operating system keeps the lock on `.lock` and frees it when the process ends, however it ends: after a
    `kill -9`, a crash or a new start of the machine nothing has to be cleaned up, and a process id that came into use
    again means nothing. `.lock.json` only says who holds the folder. Folders that were made for nothing go again.

    Args:
        instead: what a user can do, besides waiting, to begin all the same.
        wait_s: how long to wait for another process.
    Raises:
        InUse: the folder, the process that works in it and when that process began.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK)
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise InUse(f"{folder} is in use by {_owner(folder)}; wait until it ends, stop it, or {instead}") from error
    try:
        began = datetime.fromtimestamp(psutil.Process().create_time()).astimezone().isoformat(" ", "seconds")
        owner = {"pid": os.getpid(), "began": began, "host": platform.node()}
        write_text(folder / OWNER, json.dumps(owner) + "\n")
        with held(folder):
            yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        with suppress(OSError):  # Windows does not remove a file that is open
            if made and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                for path in made:
                    path.rmdir()
        lock.release()


def entries(folder: Path, besides: Sequence[str] = ()) -> list[Path]:
    """What is in a folder besides its lock, and besides what is named."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, OWNER, *besides)]


def clear(folder: Path, besides: Sequence[str] = ()) -> None:
    """Delete what is in a folder that is held."""
    for path in entries(folder, besides):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def hold_together(folder: Path, processes: Processes, instead: str = OTHER_NAME) -> Iterator[None]:
    """`hold` by the main process of a launch; where it is refused, all processes raise InUse."""
    with ExitStack() as held:
        refused = ""
        if processes.main:
            try:
                held.enter_context(hold(folder, instead))
            except InUse as error:
                refused = str(error)
        if refused := processes.gather(refused)[0]:
            raise InUse(refused)
        yield


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, which began {owner['began']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or ends
        return "another process"
