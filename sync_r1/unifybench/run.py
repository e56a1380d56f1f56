"""The benchmark from end to end: models × concepts predicted, then scored, then summed up."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.data import Concept, find_concept, list_concepts, load_concept
from sync_r1.distributed import launched_processes
from sync_r1.unifybench.metrics import BenchmarkJudges
from sync_r1.unifybench.models_under_test import ModelUnderTest
from sync_r1.unifybench.predict import Progress, predict, silent, why_predicted, with_rewrites
from sync_r1.unifybench.prediction_store import PredictionStore
from sync_r1.unifybench.protocol import CONCEPT_LISTS, Protocol
from sync_r1.unifybench.results import ALL_TASKS, GENERATION, LOOKALIKES, TASKS
from sync_r1.unifybench.score import Outage, check_judges
from sync_r1.unifybench.score_files import score_task
from sync_r1.unifybench.tables import write_summaries
from sync_r1.unifybench.tasks import build_items, check_tasks, runnable, why_empty

# Shows one piece of work of a title and a number of items: a context that gives what is called as they are done.
Show = Callable[[str, int], AbstractContextManager[Progress]]


def unshown(title: str, total: int) -> AbstractContextManager[Progress]:
    """No progress shown."""
    return nullcontext(silent)


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """What is asked of every model."""

    root: Path
    concepts: Sequence[str]
    model: str = "world"  # where the weights are, which decides whether the world's judges can read the drawings
    tasks: Sequence[str] = ()
    protocol: Protocol = field(default_factory=Protocol)
    max_items: int | None = None
    batch_size: int = 16
    token_epoch: int = 0  # of the concept tokens under test, for the record

    def tasks_of(self, concept: Concept, able: Sequence[str] = ALL_TASKS) -> list[str]:
        """Tasks to run: those asked for, or all that concept and model can do.

        Raises ValueError for a task that was asked for and cannot run; the others are left out with a warning.
        """
        wanted = check_tasks(self.tasks or self.protocol.tasks)
        possible = runnable(concept) + (list(LOOKALIKES) if self.protocol.lookalikes else [])
        if refused := [task for task in wanted if task not in possible]:
            raise ValueError(why_empty(refused[0], concept))
        if impossible := [task for task in TASKS if task not in possible] if not wanted else []:
            warnings.warn(
                f"concept {concept.name}: {', '.join(impossible)} left out; {why_empty(impossible[0], concept)}",
                stacklevel=2,
            )
        if refused := [task for task in check_tasks(self.tasks) if task not in able]:
            raise ValueError(f"this model cannot do task {refused[0]}; it can do {', '.join(able)}")
        return [task for task in ALL_TASKS if task in (wanted or possible) and task in able]


def choose_concepts(root: Path, named: Sequence[str], protocol: Protocol) -> list[str]:
    """Names to run: those named ("all": every complete concept of the data), by default the protocol's list.

    Raises ValueError for names the data lacks.
    """
    present = list_concepts(root)
    wanted = list(named) or [protocol.concepts]
    names: list[str] = []
    for one in wanted:
        if one == "all":
            names += present
        else:
            names += CONCEPT_LISTS.get(one) or [_id_of(root, one)]
    if absent := [name for name in names if name not in present]:
        raise ValueError(
            f"{root} lacks concepts {', '.join(absent)}; it has {', '.join(present) or 'none'}; name some with "
            "--concept, or --concept all"
        )
    return list(dict.fromkeys(names))


def _id_of(root: Path, name: str) -> str:
    """The id of a concept; the name itself where there is none, as all absent names are reported together."""
    try:
        return find_concept(root, name)
    except ValueError:
        return name


def predict_all(plan: BenchmarkPlan, models: Sequence[ModelUnderTest], out: Path, progress: Show = unshown) -> int:
    """Predict every model and concept to `<out>/artifacts`; return how many items got no answer.

    *_rea_gen draws the model's own rewrites: where their task is not asked for it is predicted too, with a warning.
    """
    processes = launched_processes()  # gives every process its own device before a model is loaded
    known = {name: read_concept(plan, name) for name in plan.concepts}
    for concept in known.values():  # everything that can be refused is, before the first model is loaded
        build_items(
            concept, root=plan.root, tasks=plan.tasks_of(concept), max_items=plan.max_items, protocol=plan.protocol
        )
    failed = 0
    for model in models:
        for name, concept in known.items():
            adapter = model.open(concept, plan.root)
            items = build_items(
                concept,
                root=plan.root,
                tasks=_predicted(plan.tasks_of(concept, adapter.tasks), plan.protocol),
                max_items=plan.max_items,
                protocol=plan.protocol,
                epoch=model.epoch,
            )
            with progress(f"{model.label} {name}", len(items)) as advance:
                failed += predict(
                    adapter,
                    items,
                    PredictionStore(out=out, concept=name, token_epoch=plan.token_epoch, model_epoch=model.epoch),
                    processes,
                    model=model.label,
                    batch_size=plan.batch_size,
                    progress=advance,
                )
            del adapter
            gc.collect()  # one model at a time in memory
    return failed


def _predicted(asked: Sequence[str], protocol: Protocol) -> list[str]:
    tasks = with_rewrites(asked, protocol)
    for task in tasks:
        if task not in asked:
            warnings.warn(why_predicted(task), stacklevel=3)
    return tasks


def score_all(
    plan: BenchmarkPlan,
    epochs: Sequence[int],
    out: Path,
    judges: BenchmarkJudges,
    progress: Show = unshown,
) -> dict[int, dict[str, dict[str, Any]]]:
    """Score what `predict_all` wrote, on the main process; return epoch → table rows, also in `<out>/scores`.

    Raises:
        ValueError: nothing can be scored, or predictions that are missing or of another protocol.
    """
    if not launched_processes().main:
        return {}
    outage = Outage()
    for epoch in epochs:
        for name in plan.concepts:
            concept = read_concept(plan, name)
            store = PredictionStore(out=out, concept=name, token_epoch=plan.token_epoch, model_epoch=epoch)
            tasks = [task for task in plan.tasks_of(concept) if plan.tasks or store.folder(task).is_dir()]
            if not tasks:
                raise ValueError(
                    f"{out} holds no predictions of {name} at model epoch {epoch}; run `sync-r1 bench run` first"
                )
            check_judges(bool(set(tasks) & set(GENERATION)), judges.judge, judges.clip)
            with progress(f"score {name}, tasks", len(tasks)) as advance:
                for task in tasks:
                    score_task(store, task, concept, plan.protocol, judges, outage)
                    advance(task, 1, 1)
    return write_summaries(out, [])


def read_concept(plan: BenchmarkPlan, name: str) -> Concept:
    """The concept without its warnings about training prompts; nothing is trained here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_concept(plan.root, name, allow_empty_facts=True, verify=False)


def unfinished(tables: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    """Columns that are not completely scored, one sentence each."""
    return [
        f"model epoch {epoch}: {name} lacks {row['unscored']} of {row['n'] + row['unscored']} scores"
        for epoch, rows in tables.items()
        for name, row in rows.items()
        if not row["complete"]
    ]
