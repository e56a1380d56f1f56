"""What feedback changed: the changed tensors, before and after, kept as a checkpoint that sessions open."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sync_r1.apps.feedback.events import FOLDER
from sync_r1.config import Config, save_config
from sync_r1.constants import WORLD
from sync_r1.files import read_tensors
from sync_r1.folder_lock import hold
from sync_r1.models.base import UnifiedModel
from sync_r1.models.weight_files import put_parameters
from sync_r1.run_folder import (
    AFTER_FILE,
    CHECKPOINTS,
    base_of,
    checkpoint_name,
    checkpoint_to_use,
    config_of,
    hidden,
    newest,
    record_data,
    step_of,
)
from sync_r1.session import Session
from sync_r1.training.checkpoint import atomic_checkpoint
from sync_r1.world.export import TEMPORARY

BEFORE_FILE = "before.safetensors"


@dataclass(frozen=True)
class Guarded:
    """Questions that must not be forgotten: the share that is answered right, and whether that fell."""

    before: float
    after: float
    standard_error: float  # of the difference
    count: int

    @property
    def fell(self) -> bool:
        """By more than two standard errors."""
        return self.after - self.before < -2 * self.standard_error


@dataclass(frozen=True)
class Update:
    """One round of learning. An update that was rolled back holds no tensors."""

    before: Mapping[str, Tensor] = field(repr=False)  # changed tensors by name, on the CPU
    after: Mapping[str, Tensor] = field(repr=False)
    understood: list[str]  # what was learned, in words
    steps: int
    seconds: float  # of practice, by the clock
    guard: Guarded

    @property
    def rolled_back(self) -> bool:
        """Whether everything was put back because the guard fell."""
        return self.guard.fell


class Snapshot:
    """Copies of a model's parameters and of which of them train."""

    def __init__(self, model: UnifiedModel) -> None:
        self.model = model
        self.tensors = {name: value.detach().cpu().clone() for name, value in model.named_parameters()}
        self.trained = {name: value.requires_grad for name, value in model.named_parameters()}

    def restore(self) -> None:
        """Put everything back, bit for bit."""
        put_parameters(self.model, self.tensors)
        self.release()

    def release(self) -> None:
        """Let the model be used as before: evaluation mode, no gradients kept, the same weights open to training."""
        for name, value in self.model.named_parameters():
            value.requires_grad_(self.trained[name])
            value.grad = None
        self.model.eval()

    def changed(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors that differ by now: (before, after)."""
        now = dict(self.model.named_parameters())
        names = [name for name, old in self.tensors.items() if not torch.equal(old, now[name].detach().cpu())]
        return {name: self.tensors[name] for name in names}, {name: now[name].detach().cpu().clone() for name in names}


def undo(session: Session, update: Update) -> None:
    """Put back what an update changed: the model is bit for bit as before it.

    Raises ValueError for an update of another model or concept.
    """
    put_parameters(session.model, update.before)


def save_update(session: Session, update: Update, folder: Path | str = FOLDER, source: Path | str = WORLD) -> Path:
    """Write an update to `<folder>/<thing>/checkpoints/step_N`, whole or not at all; `--run <folder>/<thing>` opens it.

    Args:
        source: what the session was opened from: a run, a checkpoint, another update, or the model's folder or id.
    Raises:
        ValueError: an update that was rolled back, or a folder that another process works in.
        OSError: it could not be written; what was there before stays.
    """
    if update.rolled_back:
        raise ValueError("the update was rolled back, so there is nothing to keep")
    run, start = Path(folder) / session.concept.name, _start(source)
    with hold(run):
        last = newest(run)
        target = run / CHECKPOINTS / checkpoint_name(1 + (step_of(last) if last is not None else 0))
        after = {**start.earlier, **update.after}
        facts: dict[str, Any] = {
            "base": str(start.base),
            "understood": update.understood,
            "guard": asdict(update.guard),
            "steps": update.steps,
            "seconds": round(update.seconds, 1),
        }
        config = _with_data(start.config, session, run)
        with atomic_checkpoint(target, **facts) as partial:
            save_file(dict(update.before), partial / BEFORE_FILE)
            save_file(after, partial / AFTER_FILE)
            save_config(config, partial / "config.yaml")
    return target


def _with_data(config: Config, session: Session, run: Path) -> Config:
    """The configuration with the session's concept and where its data are, which the run's folder records too."""
    config.data.concepts = [session.concept.name]
    if session.root is None or session.root.name.startswith(TEMPORARY):
        config.data.root = WORLD
    else:
        config.data.root = str(session.root)
        record_data(run, session.root)
    return config


def undo_saved(thing: str, folder: Path | str = FOLDER) -> tuple[Path, Path | str]:
    """Delete the newest update of a thing. Returns its folder, and what to open instead: the update before it, or the
    model that the first one began from.

    Raises ValueError when there is none, or another process works in the folder.
    """
    run = Path(folder) / thing
    if not run.is_dir() or newest(run) is None:
        there = sorted(path.name for path in Path(folder).glob("*") if newest(path) is not None)
        others = f"; {folder} holds updates of {', '.join(there)}" if there else ""
        raise ValueError(f"{run} holds no update; nothing was learned from feedback, or it was undone already{others}")
    with hold(run):
        last = newest(run)
        if last is None:
            raise ValueError(f"{run} holds no update; it was undone by another process")
        base = base_of(last)
        gone = hidden(last, "gone")
        last.rename(gone)  # at once: half a deleted checkpoint must not count
        shutil.rmtree(gone, ignore_errors=True)
        if newest(run) is not None:
            return last, run
    return last, base


@dataclass(frozen=True)
class _Start:
    base: Path | str
    config: Config
    earlier: dict[str, Tensor]  # what updates before this one changed


def _start(source: Path | str) -> _Start:
    """What the weights began as, the configuration, and what earlier updates changed."""
    place = Path(source)
    if not place.is_dir():
        return _Start(source, _of_model(str(source)), {})
    if (place / "config.json").is_file():
        return _Start(place.resolve(), _of_model(str(place.resolve())), {})
    checkpoint = checkpoint_to_use(place)
    if (checkpoint / AFTER_FILE).is_file():
        return _Start(base_of(checkpoint), config_of(checkpoint), read_tensors(checkpoint / AFTER_FILE))
    return _Start(checkpoint.resolve(), config_of(checkpoint), {})


def _of_model(path: str) -> Config:
    config = Config()
    config.model.path = path
    return config
