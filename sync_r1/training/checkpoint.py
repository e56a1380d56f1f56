"""Checkpoints: written whole or not at all, rotated, and checked before a run goes on.

`run_folder` has their names and finds them. Hashes tell a damaged file; they cannot tell one that was written by
something else, or by hand. Its content is therefore checked too, and what does not fit is a ValueError that names the
folder.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from sync_r1.file_errors import reason
from sync_r1.files import read_json, sync_folder, write_manifest
from sync_r1.held_folders import check_held
from sync_r1.run_folder import HIDDEN, Say, complete_in, hidden, plain, step_of
from sync_r1.training.optimizer import state_shapes


@contextmanager
def atomic_checkpoint(target: Path, **facts: Any) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it gets its manifest, reaches the disk and becomes `target`; on any
    error it vanishes.

    Raises:
        OSError: what the writer met (e.g. a full disk), saying that older checkpoints are untouched.
    """
    check_held()
    partial, old = hidden(target, "partial"), hidden(target, "old")
    shutil.rmtree(partial, ignore_errors=True)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        write_manifest(partial, **facts)
        sync_folder(partial)  # some disks report that they are full only now
        if target.exists():
            target.rename(old)
        partial.rename(target)
        sync_folder(target.parent, deep=False)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        # on a full disk torch raises RuntimeError and safetensors its own error
        if isinstance(error, (OSError, RuntimeError, SafetensorError)):
            complete = complete_in(target.parent)
            kept = "there is no complete checkpoint yet"
            if complete:
                kept = f"the last complete checkpoint is {complete[-1]}"
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"{target} was not saved ({reason(error)}); {kept}; free some space and resume",
            ) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def rotate(newest: Path, keep: int) -> None:
    """Delete old checkpoints beside `newest`, which was just written and stays: `keep` remain. Remains of killed
    writers go too.

    What is damaged can only be among the others, so a good one is always left.
    """
    others = [path for path in complete_in(newest.parent) if path != newest]
    for path in others[: max(len(others) - (keep - 1), 0)]:
        shutil.rmtree(hidden(plain(path), "gone"), ignore_errors=True)  # of a rotation that was killed
        path.rename(hidden(plain(path), "gone"))  # at once: half a deleted checkpoint must not count
    for path in list(newest.parent.iterdir()):
        if (match := HIDDEN.fullmatch(path.name)) and (match[3] != "old" or path.with_name(match[1]).exists()):
            shutil.rmtree(path, ignore_errors=True)


def move_newer_aside(folder: Path, step: int, say: Say) -> None:
    """Checkpoints after `step`, where a run starts or goes on, would be taken for its newest: they become
    `aside_step_N`.

    They are damaged, or of another continuation. Nothing is deleted.
    """
    for path in complete_in(folder):
        if step_of(path) <= step:
            continue
        name = plain(path).name
        aside, number = folder / f"aside_{name}", 1
        while aside.exists():
            number += 1
            aside = folder / f"aside_{name}_{number}"
        path.rename(aside)
        say(
            f"{path} is newer than step {step}, where this run goes on; it is kept as {aside.name}; delete it when you "
            "do not need it"
        )


@contextmanager
def as_value_error(folder: Path) -> Iterator[None]:
    """Within the block, turn what libraries raise for unexpected content into a ValueError that names the folder.

    Memory errors, and errors that name the folder already, pass as they are.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, (ValueError, OSError)) and str(folder) in str(error):
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{folder} cannot be read ({cause[:120]}); resume from another checkpoint") from error


def check_progress(folder: Path, step: int, fresh: TrainerState) -> None:
    """Check trainer_state.json of a checkpoint.

    Args:
        fresh: the state of a new trainer, whose fields the file may hold, each with a value of the same type.
        step: the update that the checkpoint is of.
    Raises:
        ValueError: the file has another field, a value of another type, or another step.
    """
    path = folder / TRAINER_STATE_NAME
    found, known = (
        read_json(path),
        {**asdict(fresh), "epoch": 0.0, "train_batch_size": 1, "best_model_checkpoint": None},
    )
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no fields")
    wrong = [
        name
        for name, value in found.items()
        if name not in known or not (known[name] is None or _alike(value, known[name]))
    ]
    wrong += [
        name for name in ("train_batch_size", "logging_steps") if name not in wrong and not found.get(name, 0) >= 1
    ]
    if found.get("best_model_checkpoint") is not None:
        wrong.append("best_model_checkpoint")  # this trainer writes none
    if wrong or found.get("global_step") != step:
        raise ValueError(
            f"{path} does not fit: step {found.get('global_step')!r}, expected {step}; fields that are wrong: "
            f"{wrong[:5]}"
        )


def check_files(folder: Path) -> None:
    """Raise ValueError where the optimizer's or the schedule's file is missing: transformers would begin them anew."""
    for name in (OPTIMIZER_NAME, SCHEDULER_NAME):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; resume from another checkpoint")


@contextmanager
def checked_load(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any = None) -> Iterator[None]:
    """Check an optimizer and a schedule that the block loads from `folder`.

    Raises:
        ValueError: a setting is missing or of another kind than before, what the optimizer remembers does not fit its
            parameters, or loading failed.
    """

    def settings() -> list[Any]:
        groups = []
        for group in optimizer.param_groups:
            groups.append({name: value for name, value in group.items() if name != "params"})
        return [kinds(group) for group in (*groups, *([scheduler.state_dict()] if scheduler else []))]

    with as_value_error(folder):
        before = settings()
        yield
        for was, now in zip(before, settings(), strict=True):
            if wrong := [name for name, kind in was.items() if now.get(name) != kind]:
                raise ValueError(
                    f"its optimizer or schedule has other settings than this run's: {', '.join(wrong[:5])}"
                )
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            state = optimizer.state.get(parameter)
            found = {name: getattr(value, "shape", None) for name, value in state.items()} if state else {}
            if found and found != state_shapes(parameter):
                raise ValueError(f"its optimizer does not fit a parameter of {tuple(parameter.shape)}")


def _alike(value: Any, other: Any) -> bool:
    """Whether two values are of one type; a whole number and one with a fraction count as the same."""
    return type(value) is type(other) or {type(value), type(other)} == {int, float}


def kinds(value: Any) -> Any:
    """Reduce settings to what loading a checkpoint must not change, so that two of them can be compared.

    Switches, texts and None stay, a finite number becomes "number", anything else its type. Mappings and lists are
    reduced item by item.
    """
    if isinstance(value, Mapping):
        return {key: kinds(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [kinds(inner) for inner in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) < 1e300:
            return "number"
        return value
    if value is None or isinstance(value, (bool, str)):
        return value
    return type(value)
