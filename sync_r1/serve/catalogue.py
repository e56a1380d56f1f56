"""Which models a server offers: the shipped base or runs, one id per concept, opened when they are first asked for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.constants import WORLD
from sync_r1.data import find_concept
from sync_r1.files import MANIFEST
from sync_r1.opening import concept_names
from sync_r1.run_folder import checkpoint_to_use, config_of, data_of
from sync_r1.serve.errors import ApiError
from sync_r1.session import Session

KEPT = 2  # models in memory
LOOK_EVERY_S = 2.0  # how often a run is looked at for a newer checkpoint

Stamp = tuple[Path, int] | None  # a checkpoint and when its manifest was written


@dataclass(frozen=True)
class Source:
    """Where a served model comes from."""

    id: str
    concept: str
    run: Path | None = None  # its newest complete checkpoint is served
    model: str = WORLD  # where there is no run
    data: str | None = None

    def stamp(self) -> Stamp:
        """Which weights an opened session would have. ValueError where the run is gone or holds none."""
        if self.run is None:
            return None
        checkpoint = checkpoint_to_use(self.run)
        return checkpoint, (checkpoint / MANIFEST).stat().st_mtime_ns


@dataclass
class _Opened:
    session: Session
    stamp: Stamp
    looked: float


class Catalogue:
    """The served models. Sessions are opened and used by the worker's thread alone."""

    def __init__(self, sources: Sequence[Source], device: str = "auto") -> None:
        self.sources = {source.id: source for source in sources}
        if len(self.sources) < len(sources):
            names = [source.id for source in sources]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two of the served models would be called {twice!r}; rename one of the run folders")
        self.device = device
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    def find(self, name: str) -> Source:
        """The source of a model id. ApiError 404 for an unknown one."""
        if name in self.sources:
            return self.sources[name]
        known = ", ".join(self.sources)
        raise ApiError(
            404, f"the model {name[:80]!r} does not exist; known are {known}", code="model_not_found", param="model"
        )

    def session(self, name: str) -> Session:
        """An open session; of a run that is being trained with its newest complete checkpoint.

        A run that was deleted is served from memory while it is there. ApiError 404 where it is not.
        """
        source, opened = self.find(name), self._opened.get(name)
        if opened is not None and time.monotonic() - opened.looked < LOOK_EVERY_S:
            self._opened.move_to_end(name)
            return opened.session
        try:
            stamp = source.stamp()
            if opened is None or opened.stamp != stamp:
                opened = _Opened(self._open(source), stamp, 0.0)
        except (ValueError, OSError) as error:
            if opened is None:
                raise ApiError(404, f"the model {name!r} cannot be opened: {error}", code="model_not_found") from error
        opened.looked = time.monotonic()
        self._opened[name] = opened
        self._opened.move_to_end(name)
        while len(self._opened) > KEPT:
            self._opened.popitem(last=False)
        return opened.session

    def _open(self, source: Source) -> Session:
        return Session.open(
            model=source.model, data=source.data, concept=source.concept, checkpoint=source.run, device=self.device
        )

    def rows(self) -> list[dict[str, Any]]:
        """The models as GET /v1/models lists them."""
        return [describe(source) for source in self.sources.values()]


def describe(source: Source) -> dict[str, Any]:
    """A model in OpenAI's form, with its concept and where it comes from."""
    created = 0
    if source.run is not None and source.run.is_dir():
        created = int(source.run.stat().st_mtime)
    row = {"id": source.id, "object": "model", "created": created, "owned_by": "sync-r1"}
    return {**row, "concept": source.concept, "base": source.run is None}


def sources_of(
    runs: Sequence[Path], model: str = WORLD, data: str | None = None, concepts: Sequence[str] = ()
) -> list[Source]:
    """What to serve: every concept of the runs, or, without runs, of a base model's data.

    Args:
        concepts: only these; by default all.
    Raises:
        ValueError: a run without a complete checkpoint, or an unknown concept.
    """
    found: list[Source] = []
    for run in runs:
        step = checkpoint_to_use(run)
        names = list(config_of(step).data.concepts) or concept_names(data or data_of(step))
        chosen = _chosen(names, concepts, str(data or data_of(step)), str(run))
        name = run.resolve().name
        found += [Source(_id(name, one, chosen), one, run=run, data=data) for one in chosen]
    if not runs:
        chosen = _chosen(concept_names(data or WORLD), concepts, str(data or WORLD), str(data or WORLD))
        name = WORLD if model == WORLD else Path(model).name
        found = [Source(_id(name, one, chosen), one, model=model, data=data) for one in chosen]
    return found


def _chosen(names: Sequence[str], wanted: Sequence[str], source: str, where: str) -> list[str]:
    """Ids of the concepts that are wanted, by id or by name, among the `names` of what is served from `source`."""
    ids = [_concept_id(source, name) for name in names]
    chosen = [_concept_id(source, name) for name in wanted]
    if unknown := [name for name, found in zip(wanted, chosen, strict=True) if found not in ids]:
        raise ValueError(f"{where} has no concept {unknown[0]!r}; known are {', '.join(names) or 'none'}")
    return chosen or ids


def _concept_id(source: str, name: str) -> str:
    """The id of a concept of the data; the name itself where there is none, as all names are checked together."""
    try:
        return name if source == WORLD else find_concept(source, name)
    except ValueError:
        return name


def _id(name: str, concept: str, chosen: Sequence[str]) -> str:
    if len(chosen) == 1:
        return name
    return f"{name}/{concept}"
