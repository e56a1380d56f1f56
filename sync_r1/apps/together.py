"""Several things in one picture: one model in which each has the tokens of its own run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sync_r1.constants import WORLD
from sync_r1.data.names import is_called
from sync_r1.data.types import Concept
from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import copy_concept
from sync_r1.session import Session


def open_together(
    concepts: Sequence[str] = (),
    runs: Sequence[Path | str] = (),
    model: str | Path = WORLD,
    data: str | Path | None = None,
    device: str = "auto",
) -> Session:
    """A session whose prompts may mention several concepts: "a photo of <bo> and <ana> at the beach".

    Args:
        concepts: their names or ids. Those that no run learned start as new tokens of their class.
        runs: the first one gives the weights, every other one the tokens of its concept.
        model, data: as for `Session.open`, where there is no run.
    Raises:
        ValueError: what `Session.open` refuses, a concept named twice, or runs of models of different sizes.
    """
    session = Session.open(
        model, data, checkpoint=next(iter(runs), None), device=device, concepts=_first(concepts, runs)
    )
    for run in list(runs)[1:]:
        other = Session.open(checkpoint=run, data=data, device=device)
        add(session, other.concept, other.model)
        session.run += f", {other.run}"
    here = [session.concept, *session.others]
    missing = sorted(name for name in set(concepts) if not any(_means(name, concept) for concept in here))
    if missing:
        learned = ", ".join(sorted(concept.title for concept in here))
        raise ValueError(f"no run learned {', '.join(missing)}; the runs learned {learned}")
    return session


def _means(name: str, concept: Concept) -> bool:
    return is_called(concept.name, concept.display_name, name)


def _first(concepts: Sequence[str], runs: Sequence[Path | str]) -> Sequence[str]:
    """What is opened with the first run: its own concept where every run brings one, else all that are named."""
    if len(runs) > 1:
        return ()
    return concepts


def add(session: Session, concept: Concept, learned_by: UnifiedModel | None = None) -> None:
    """Let another concept be drawn beside the session's own.

    Args:
        learned_by: the model of another run, whose tokens of the concept are copied. They were trained with that run's
            weights, so the further the two runs have moved apart, the less they say here.
    Raises:
        ValueError: a concept that is here already, or a model of another size or without the concept.
    """
    if concept.name in (session.concept.name, *(other.name for other in session.others)):
        raise ValueError(f"{concept.title} is here already; name every concept once")
    if learned_by is not None:
        copy_concept(session.model, learned_by, concept.name)
    session.others.append(concept)
    session.with_tokens(concept.placeholder)  # a concept that is new to the model gets its tokens now
