"""Stopping and going on. Checkpoints are written under a temporary name, manifest last, and renamed: only complete ones count."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.config import Config
from sync_r1.manifest import MANIFEST, manifest_problems, read_json, write_manifest
from sync_r1.processes import Processes

STATE_FILE = "sync_state.json"
FOLDER = re.compile(r"step_(\d+)")


@dataclass
class SyncState:
    """What a resumed run needs besides weights, optimizer and schedule. Sampling seeds derive from (seed, step), so no generator state."""

    seed: int
    step: int = 0
    skipped_steps: int = 0  # in all
    skipped_in_a_row: int = 0
    nfe: int = 0  # backbone evaluations spent on images so far
    scaling: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        (folder / STATE_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> SyncState:
        """Raises ValueError when the file is not there or is of another version."""
        try:
            state = SyncState(**read_json(folder / STATE_FILE))
            counts = (state.seed, state.step, state.skipped_steps, state.skipped_in_a_row, state.nfe)
            if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(state.scaling, dict):
                raise ValueError(f"{STATE_FILE} holds a value of another kind than a count")
            return state
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{folder} is no checkpoint of this trainer ({error}); resume from a folder like checkpoints/step_00020"
            ) from error


def checkpoint_name(step: int) -> str:
    return f"step_{step:05d}"


@contextmanager
def writing(target: Path, **facts: Any) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it gets its manifest and becomes `target`, on any error it vanishes.

    Raises:
        OSError: what the writer met (e.g. a full disk), saying that older checkpoints are untouched.
    """
    partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        write_manifest(partial, **facts)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        if isinstance(error, (OSError, RuntimeError, SafetensorError)):  # what torch and safetensors raise on a full disk
            last = latest_checkpoint(target.parent)
            kept = f"the last complete checkpoint is {last}" if last else "there is no complete checkpoint yet"
            raise OSError(
                getattr(error, "errno", None) or errno.EIO, f"{target} was not saved ({error}); {kept}; free some space and resume"
            ) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found) if (path / MANIFEST).is_file()]


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    complete = checkpoints(folder)
    return complete[-1] if complete else None


def rotate(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` complete checkpoints."""
    for path in checkpoints(folder)[:-keep]:
        (path / MANIFEST).unlink()  # incomplete from here on, whatever happens
        shutil.rmtree(path)


def resolve_checkpoint(resume: str | Path, folder: Path) -> Path:
    """The checkpoint that `--resume` means: a folder, or "latest" of this run; checked against its manifest.

    Raises:
        ValueError: there is none, or a file is missing or damaged (the file, and what to use instead).
    """
    path = latest_checkpoint(folder) if str(resume) == "latest" else Path(resume)
    if path is None:
        raise ValueError(f"{folder} holds no complete checkpoint to resume from; start without --resume")
    if not (path / MANIFEST).is_file():
        others = ", ".join(str(other) for other in checkpoints(path.parent)) or "none"
        raise ValueError(f"{path} is not a complete checkpoint; complete ones beside it: {others}")
    problems = manifest_problems(path)
    if problems:
        others = ", ".join(str(other) for other in checkpoints(path.parent) if other != path) or "none"
        raise ValueError(f"{path} is damaged: {'; '.join(problems)}; other complete checkpoints: {others}")
    return path


class Interrupt(TrainerCallback):
    """Ctrl-C once: finish the step, save, stop, say how to go on."""

    def __init__(self, config: Config, console: Console | None, processes: Processes | None = None) -> None:
        self.config, self.console, self.asked = config, console, False
        self.processes = processes or Processes()

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.asked = False
        try:
            before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # only the main thread may listen, e.g. not a web page's worker
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self.console is not None:
            self.console.print("[yellow]stopping after this step; press Ctrl-C again to stop at once[/yellow]")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.config.rl.num_iterations:
            return
        self.asked = any(self.processes.gather(self.asked))  # the signal may reach processes in different steps
        if not self.asked:
            return
        control.should_save = control.should_training_stop = True
        if self.console is not None and state.is_world_process_zero:
            folder = self.config.run.folder
            self.console.print(
                f"stopped at step {state.global_step}; go on with: sync-r1 train --config {folder}/config.yaml --resume latest"
            )
