"""Stopping and going on. Checkpoints are written under a hidden name, manifest last, and renamed: only complete ones
count.

Hidden names: `.step_N.partial` is being written, `.step_N.old` gives way to a new one of its step, `.step_N.gone` is
being deleted.
"""

from __future__ import annotations

import errno
import json
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.config import Config, save_config
from sync_r1.distributed import Processes
from sync_r1.files import MANIFEST, manifest_problems, read_json, sync_folder, write_manifest

STATE_FILE, GENERATORS_FILE = "sync_state.json", "generators.pt"
FOLDER = re.compile(r"step_(\d+)")
HIDDEN = re.compile(r"\.(step_(\d+))\.(partial|old|gone)")
Say = Callable[[str], None]


@dataclass
class SyncState:
    """What a resumed run needs besides weights, optimizer and schedule.

    Sampling seeds derive from (seed, step), so no generator state.
    """

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

    def check(self, folder: Path, config: Config, scaling: dict[str, Any]) -> None:
        """Whether a run of `config`, with this state of its DGS, can go on from here. Raises ValueError."""
        seed, updates = config.run.seed, config.rl.num_iterations
        if self.seed != seed:
            raise ValueError(f"run.seed is {seed}; {folder} was trained with {self.seed}; set run.seed={self.seed}")
        if self.step % updates:
            limit = f"{folder} is in the middle of a rollout of rl.num_iterations={updates} updates"
            raise ValueError(f"{limit}; set rl.num_iterations as in its config.yaml")
        if self.scaling.keys() != scaling.keys():
            raise ValueError(
                f"{folder} was trained with another rl.dgs_enabled or rl.dgs_keep; set them as in its config.yaml"
            )


def generator_states() -> dict[str, Any]:
    """Python's, NumPy's and PyTorch's global generators.

    Training draws from none of them, but a reward or a model's dropout may.
    """
    numpy: Any = np.random.get_state(legacy=False)
    plain_numpy = {
        **numpy,
        "state": {**numpy["state"], "key": numpy["state"]["key"].tolist()},
    }  # plain values load safely
    state: dict[str, Any] = {"numpy": plain_numpy, "python": random.getstate(), "torch": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_generator_states(state: dict[str, Any]) -> None:
    """Undo `generator_states`; a GPU that was not there then keeps its own."""
    numpy = state["numpy"]
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": np.array(numpy["state"]["key"], dtype=np.uint32)}})
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def checkpoint_name(step: int) -> str:
    return f"step_{step:05d}"


def hidden(target: Path, role: str) -> Path:
    """`checkpoints/.step_00020.<role>`, a name that never counts as a finished checkpoint of its step."""
    return target.with_name(f".{target.name}.{role}")


def plain(path: Path) -> Path:
    """A checkpoint under its own name, `.step_00020.old` as `step_00020`."""
    waiting = HIDDEN.fullmatch(path.name)
    return path.with_name(waiting[1]) if waiting else path


@contextmanager
def writing(target: Path, **facts: Any) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it gets its manifest, reaches the disk and becomes `target`; on any
    error it vanishes.

    Raises:
        OSError: what the writer met (e.g. a full disk), saying that older checkpoints are untouched.
    """
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
        if isinstance(
            error, (OSError, RuntimeError, SafetensorError)
        ):  # what torch and safetensors raise on a full disk
            last = latest_checkpoint(target.parent)
            kept = f"the last complete checkpoint is {last}" if last else "there is no complete checkpoint yet"
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"{target} was not saved ({error}); {kept}; free some space and resume",
            ) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first.

    One that was to be replaced counts while its successor is not there.
    """
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        named, waiting = FOLDER.fullmatch(path.name), HIDDEN.fullmatch(path.name)
        if named and (path / MANIFEST).is_file():
            found[int(named[1])] = path
        elif waiting and waiting[3] == "old" and (path / MANIFEST).is_file():
            found.setdefault(int(waiting[2]), path)
    return [found[step] for step in sorted(found)]


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    complete = checkpoints(folder)
    return complete[-1] if complete else None


def rotate(newest: Path, keep: int) -> None:
    """Delete old checkpoints beside `newest`, which was just written and stays: `keep` remain. Remains of killed
    writers go too.

    What is damaged can only be among the others, so a good one is always left.
    """
    others = [path for path in checkpoints(newest.parent) if path != newest]
    for path in others[: max(len(others) - (keep - 1), 0)]:
        shutil.rmtree(hidden(plain(path), "gone"), ignore_errors=True)  # of a rotation that was killed
        path.rename(hidden(plain(path), "gone"))  # at once: half a deleted checkpoint must not count
    for path in list(newest.parent.iterdir()):
        if (match := HIDDEN.fullmatch(path.name)) and (match[3] != "old" or path.with_name(match[1]).exists()):
            shutil.rmtree(path, ignore_errors=True)


def resolve_checkpoint(resume: str | Path, folder: Path, say: Say = lambda message: None) -> Path:
    """The checkpoint that `--resume` means: a folder, or "latest" of this run: the newest one whose files match its
    manifest.

    Args:
        say: is told which damaged checkpoints are passed over, and which one is used.
    Raises:
        ValueError: there is none, or a file is missing or damaged (the file, and what to use instead).
    """
    if str(resume) == "latest":
        return _newest_good(folder, say)
    path = Path(resume)
    if not (path / MANIFEST).is_file():
        others = ", ".join(str(other) for other in checkpoints(path.parent)) or "none"
        raise ValueError(f"{path} is not a complete checkpoint; complete ones beside it: {others}")
    problems = _problems(path)
    if problems:
        others = ", ".join(str(other) for other in checkpoints(path.parent) if other != path) or "none"
        raise ValueError(f"{path} is damaged: {'; '.join(problems)}; other complete checkpoints: {others}")
    return path


def _newest_good(folder: Path, say: Say) -> Path:
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        problems = _problems(path)
        if not problems:
            for damage in damaged:
                say(f"{damage}; going on from {path} instead")
            return path
        damaged.append(f"{path} is damaged: {'; '.join(problems)}")
    if damaged:
        raise ValueError(
            f"every checkpoint in {folder} is damaged: {'. '.join(damaged)}; put one back, or start a new run"
        )
    raise ValueError(f"{folder} holds no complete checkpoint to resume from; start without --resume")


def _problems(path: Path) -> list[str]:
    try:
        return manifest_problems(path)
    except (ValueError, OSError) as error:  # the manifest itself is damaged, or gone by now
        return [str(error)]


def set_aside(folder: Path, step: int, say: Say) -> None:
    """Checkpoints after `step`, where a run starts or goes on, would be taken for its newest: they become
    `aside_step_N`.

    They are damaged, or of another continuation. Nothing is deleted.
    """
    for path in checkpoints(folder):
        name = plain(path).name
        if int(name.removeprefix("step_")) <= step:
            continue
        aside, number = folder / f"aside_{name}", 1
        while aside.exists():
            number += 1
            aside = folder / f"aside_{name}_{number}"
        path.rename(aside)
        say(
            f"{path} is newer than step {step}, where this run goes on; it is kept as {aside.name}; delete it when you do not need it"
        )


class Start(TrainerCallback):
    """When training really begins: later checkpoints step aside, and config.yaml says how the run goes on."""

    def __init__(self, config: Config, say: Say) -> None:
        self.config, self.say = config, say

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            set_aside(self.config.run.folder / "checkpoints", state.global_step, self.say)
            save_config(self.config, self.config.run.folder / "config.yaml")


class GlobalGenerators(TrainerCallback):
    """Puts the global generators back before the first step of a resumed run: setting up a trainer draws from them."""

    def __init__(self) -> None:
        self.waiting: dict[str, Any] | None = None

    def save(self, folder: Path, states: list[dict[str, Any]]) -> None:
        """One state per process."""
        torch.save(states, folder / GENERATORS_FILE)

    def load(self, folder: Path, process: int) -> None:
        """Take this process's state; a process that was not there then starts as its seed says."""
        if not (folder / GENERATORS_FILE).is_file():
            return  # written before generators were saved
        states = torch.load(folder / GENERATORS_FILE, weights_only=True)
        self.waiting = states[process] if process < len(states) else None
        if self.waiting is not None:  # tried now, so that a misfit is refused here and not in the first step
            now = generator_states()
            try:
                set_generator_states(self.waiting)
            finally:
                set_generator_states(now)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.waiting is not None:
            set_generator_states(self.waiting)
            self.waiting = None


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
