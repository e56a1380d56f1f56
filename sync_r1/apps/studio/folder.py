"""The folder of a studio: what lies where, and how an id that a browser sent is found again below it.

Nothing is kept anywhere else, so that a page that is opened again shows what was there.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_r1.config_fields import shown
from sync_r1.data import Concept, list_concepts, load_concept
from sync_r1.run_folder import checkpoints, config_of, data_of, newest

BASE, THUMBS = "base", "thumbs"  # ids of the weights that no run has: untrained, and learned from thumbs
NEW_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Weights:
    """Weights that know a thing."""

    id: str  # "base", "thumbs", "run/<name>" or "run/<name>/step_00020"
    label: str
    place: Path | None  # a run or a checkpoint; None for the model that every thing starts from


@dataclass(frozen=True)
class StudioFolder:
    """Where everything lies. Runs have a folder of their own, as other commands read and write them, too."""

    root: Path
    runs: Path = Path("runs")
    model: str = "world"  # what every thing starts from

    @property
    def things(self) -> Path:
        """A data root in the known layout."""
        return self.root / "things"

    @property
    def drawings(self) -> Path:
        return self.root / "drawings"

    @property
    def feedback(self) -> Path:
        return self.root / "feedback"

    @property
    def stories(self) -> Path:
        return self.root / "stories"

    @property
    def lessons(self) -> Path:
        return self.root / "lessons"

    @property
    def chats(self) -> Path:
        return self.root / "chats"

    @property
    def comparisons(self) -> Path:
        return self.root / "comparisons"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def temporary(self) -> Path:
        """For uploads and what is shown; it is emptied after an hour and at the end."""
        return self.root / "temporary"

    def names(self) -> list[str]:
        """Ids of all things."""
        if not (self.things / "concept" / "train").is_dir():
            return []
        return list_concepts(self.things)

    def thing(self, name: str) -> Concept:
        """A thing by its id. ValueError for one that is not there or cannot be read."""
        if name not in self.names():
            raise ValueError(f"there is no thing {shown(name)} here; add it first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about training prompts; nothing is trained here
            return load_concept(self.things, name, allow_empty_facts=True, verify=False)

    def below(self, folder: Path, name: str, ending: str = "") -> Path:
        """The file or folder of an id. ValueError for what is no id, or leads out of the folder."""
        if not NEW_ID.fullmatch(name):
            raise ValueError(f"{shown(name)} is no id; ids have letters a to z, digits and -, at most 40")
        path = folder / f"{name}{ending}"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{shown(name)} leads out of {folder}")
        return path

    def runs_of(self, thing: str) -> list[Path]:
        """The runs that learned a thing of this studio and have a checkpoint, the newest first."""
        if not self.runs.is_dir():
            return []
        found = [run for run in self.runs.iterdir() if self._learned(run, thing)]
        return sorted(found, key=lambda run: (run / "config.yaml").stat().st_mtime, reverse=True)

    def _learned(self, run: Path, thing: str) -> bool:
        try:
            checkpoint = newest(run)
            if checkpoint is None or config_of(checkpoint).data.concepts != [thing]:
                return False
            return Path(data_of(checkpoint)).resolve() == self.things.resolve() and (run / "config.yaml").is_file()
        except (ValueError, OSError):  # a run of another program, or one that is damaged
            return False

    def weights(self, thing: str) -> list[Weights]:
        """Everything that a thing can be used with: what thumbs taught, its runs, and the model without training."""
        found = [Weights(f"run/{run.name}", f"trained: {run.name}", run) for run in self.runs_of(thing)]
        learned = self.feedback / thing
        if newest(learned) is not None:
            found.insert(0, Weights(THUMBS, "learned from thumbs", learned))
        return [*found, Weights(BASE, "not trained yet", None)]

    def steps(self, thing: str) -> list[Weights]:
        """The same, with every checkpoint of every run."""
        found = []
        for one in self.weights(thing):
            found.append(one)
            if one.place is None:
                continue
            for checkpoint in reversed(checkpoints(one.place)[:-1]):
                label = f"{one.label}, {checkpoint.name.replace('_', ' ')}"
                found.append(Weights(f"{one.id}/{checkpoint.name}", label, checkpoint))
        return found

    def find(self, thing: str, weights: str) -> Weights:
        """Weights by their id. ValueError for others."""
        found = next((one for one in self.steps(thing) if one.id == weights), None)
        if found is None:
            raise ValueError(f"there are no weights {shown(weights)} of {thing}; train it, or choose others")
        return found

    def best(self, thing: str, wanted: str = "") -> str:
        """The id of the wanted weights where they are there, else of the newest."""
        known = [one.id for one in self.weights(thing)]
        return wanted if wanted in known else known[0]

    def chosen(self, wanted: str = "") -> str:
        """The id of the wanted thing where it is there, else of the first; "" without things."""
        names = self.names()
        return wanted if wanted in names else next(iter(names), "")


class _Clock:
    """Milliseconds that are never the same twice in one process."""

    def __init__(self) -> None:
        self.last, self.lock = 0, threading.Lock()

    def tick(self) -> int:
        with self.lock:
            self.last = max(time.time_ns() // 1_000_000, self.last + 1)
            return self.last


_clock = _Clock()


def new_id() -> str:
    """An id that no other has; those that one process makes later sort behind its earlier ones."""
    return f"{_clock.tick():012x}-{secrets.token_hex(3)}"


def newest_first(paths: Sequence[Path]) -> list[Path]:
    """By their ids."""
    return sorted(paths, key=lambda path: path.name, reverse=True)
