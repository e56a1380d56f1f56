"""The folder of a run: how it is begun, resumed, and left when the run is stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from sync_r1.config import Config, load_config
from sync_r1.console import say
from sync_r1.files import read_object
from sync_r1.folder_lock import clear, entries
from sync_r1.run_folder import CHECKPOINTS, WARM_UP_STATE, checkpoint_to_resume, newest, step_of
from sync_r1.signals import Stopped

# What was in the folder before: all of it, while the new run is being checked; a part of it, while it moves; and while
# it is being deleted.
EARLIER, MOVING, GONE = ".earlier", ".earlier.moving", ".earlier.gone"


def start_or_resume(folder: Path, resume: str | None, console: Console) -> Path | None:
    """The checkpoint that a run goes on from, None where its training has still to begin.

    "latest" also goes on with a run that was stopped before its first checkpoint: it trains from the start, with the
    evaluation and the warm-up that are there.

    Raises:
        ValueError: the folder holds an earlier run that is not to be resumed, or there is nothing to resume from.
    """
    if not resume:
        if newest(folder):
            other = "choose another run.name, or delete the folder"
            raise ValueError(f"{folder} holds an earlier run; continue it with --resume latest, {other}")
        return None
    if resume == "latest" and _only_begun(folder):
        say(f"{folder} holds no checkpoint of the training yet; {_begins_with(folder)}", console=console)
        return None
    return checkpoint_to_resume(resume, folder, partial(say, console=console))


def _begins_with(folder: Path) -> str:
    """Say in words where a run without a checkpoint goes on: in its warm-up, after it, or at the very beginning."""
    warm_up = newest(folder / "sft")
    if warm_up is None:
        return "it begins with step 1"
    state = read_object(warm_up / WARM_UP_STATE) or {}
    if state.get("stage") == len(state.get("stages", ())):
        return "it begins with step 1, after the warm-up that is there"
    return f"its warm-up goes on after step {step_of(warm_up)}"


def _only_begun(folder: Path) -> bool:
    """Whether a run was begun and never had a checkpoint, not even a damaged one."""
    checkpoints = [path for path in (folder / CHECKPOINTS).glob("*") if not path.name.startswith(".")]
    begun = (folder / "config.yaml").is_file() and not (folder / "summary.json").exists()
    return begun and not checkpoints and newest(folder) is None


@contextmanager
def giving_way(folder: Path, wanted: bool) -> Iterator[Callable[[], None]]:
    """With `wanted`, move what an earlier run left in `folder` aside; the yielded function deletes it for good.

    When the block ends without that, because the new run is refused or stopped, everything is as it was. What a
    killed process left aside is put back first.
    """
    aside, moving, gone = folder / EARLIER, folder / MOVING, folder / GONE

    def delete() -> None:
        if aside.is_dir():
            aside.rename(gone)  # at once: what is half deleted must not be put back
            shutil.rmtree(gone)

    shutil.rmtree(gone, ignore_errors=True)
    _put_back(folder)
    try:
        if wanted:
            moving.mkdir()
            for path in entries(folder, besides=(MOVING,)):
                path.rename(moving / path.name)
            moving.rename(aside)
        yield delete
    finally:
        _put_back(folder)


def _put_back(folder: Path) -> None:
    """Move back into `folder` what `giving_way` moved aside, also where a killed process had moved only a part.

    Files of the run that did not begin are deleted.
    """
    aside, moving = folder / EARLIER, folder / MOVING
    if aside.is_dir():
        clear(folder, besides=(EARLIER,))
        aside.rename(moving)
    if moving.is_dir():
        for path in moving.iterdir():
            path.rename(folder / path.name)
        moving.rmdir()


@contextmanager
def saying_what_is_kept(config: Config, command: str) -> Iterator[None]:
    """Where a signal stops the block, add to `Stopped` what the run's folder keeps and the command that goes on."""
    try:
        yield
    except Stopped as stopped:
        folder = config.run.folder
        if not stopped.kept and _is_of(folder / "config.yaml", config):
            stopped.kept, stopped.command = f"{folder} keeps {_kept(folder)}", command
        raise


def _is_of(path: Path, config: Config) -> bool:
    try:
        return path.is_file() and load_config(path) == config
    except ValueError:
        return False


def _kept(folder: Path) -> str:
    if last := newest(folder):
        return f"its checkpoints up to {last.name}"
    kept = ["its options"]
    if (folder / "eval" / "before.json").is_file():
        kept.append("the first evaluation")
    if last := newest(folder / "sft"):
        kept.append(f"the warm-up up to {last.name}")
    return " and ".join(kept)
