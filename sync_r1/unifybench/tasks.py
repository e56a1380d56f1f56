"""The nine tasks of UnifyBench++ as a list of items: what is asked, what would be right, with which seed."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_r1.data import Concept, Layout, TestItem, verify_images
from sync_r1.data.pictures import list_pictures
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.suggestions import did_you_mean
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import ALL_TASKS, GENERATION, LOOKALIKES, REWRITTEN, TASKS
from sync_r1.unifybench.templates import read_templates

BASE_SEED = 3407
ALIASES = {"text_only": "qa"}
ITEM_KIND = {"rec": "rec", "vqa": "vqa", "qa": "text_only"}
REWRITING = tuple(REWRITTEN.values())  # understanding tasks whose answers rea_gen and dense_rea_gen draw


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One prompt of one task."""

    task: str
    id: str
    prompt: str  # the question, the prompt to rewrite, or the prompt to draw (for *_rea_gen the one to rewrite first)
    truth: str  # the right answer or rewrite; for drawings the words the picture is scored against
    seed: int
    image: Path | None = None  # the picture asked about


def item_seed(base: int, *parts: object) -> int:
    """First 8 hex digits of sha256 of the base seed and the parts, joined by "::" (UnifyBench++)."""
    return int(hashlib.sha256("::".join(map(str, (base, *parts))).encode()).hexdigest()[:8], 16)


def build_items(
    concept: Concept,
    *,
    root: Path | None = None,
    tasks: Sequence[str] = (),
    max_items: int | None = None,
    seed: int = BASE_SEED,
    protocol: Protocol | None = None,
    epoch: int = 0,
) -> list[EvalItem]:
    """All items of `tasks` (default: every published task the concept has items for), in the order of the tasks.

    Args:
        root: data root, for its pure_gen templates.
        max_items: at most so many per task, evenly spaced over the whole list.
        protocol: replaces `seed`, decides how pure_gen puts the name in, and whether look-alikes are asked too.
        epoch: of the model; part of the seeds when the protocol says so.
    Raises:
        ValueError: an unknown task, a task without items that was asked for, or an unreadable picture.
    """
    source = Source(concept, root, protocol or Protocol(seed=seed), epoch)
    wanted = check_tasks(tasks) or [*TASKS, *(LOOKALIKES if source.protocol.lookalikes else ())]
    items: list[EvalItem] = []
    for task in ALL_TASKS:
        if task not in wanted:
            continue
        found = SOURCES[task](task, source)
        if not found and (tasks or task in LOOKALIKES):
            raise ValueError(why_empty(task, concept))
        _warn_of_duplicates(task, concept, found)
        if max_items is None:
            items += found
        else:
            items += [found[i] for i in evenly(len(found), max_items)]
    if not items:
        raise ValueError(f"concept {concept.name!r} has no items for any task; {why_empty('rec', concept)}")
    verify_images(dict.fromkeys(item.image for item in items if item.image is not None))
    return items


def runnable(concept: Concept) -> list[str]:
    """Tasks the concept has items for."""
    source = Source(concept, None, Protocol(), 0)
    return [task for task in TASKS if SOURCES[task](task, source)]


def _warn_of_duplicates(task: str, concept: Concept, items: Sequence[EvalItem]) -> None:
    counts = Counter((item.prompt.strip(), item.image) for item in items)
    twice = [prompt for (prompt, _), count in counts.items() if count > 1]
    if twice:
        warnings.warn(
            f"concept {concept.name}: task {task} asks {len(twice)} prompts more than once, first {twice[0]!r}; "
            "each is scored against its own truth, where the published code keeps only the last",
            stacklevel=3,
        )


def check_tasks(tasks: Sequence[str]) -> list[str]:
    """Task names with aliases resolved. ValueError names an unknown one."""
    names = [ALIASES.get(task, task) for task in tasks]
    for name in names:
        if name not in ALL_TASKS:
            raise ValueError(f"unknown task {name!r}; {did_you_mean(name, ALL_TASKS)}")
    return names


def evenly(count: int, at_most: int) -> list[int]:
    """`at_most` of `count` indices, evenly spaced: recognition lists its positive pictures first, so the head alone
    would be lopsided."""
    if at_most < 1:
        raise ValueError(f"max_items is {at_most}; it must be at least 1, or empty for all")
    if count <= at_most:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * at_most) for i in range(at_most)]


@dataclass(frozen=True)
class Source:
    """Where items come from."""

    concept: Concept
    root: Path | None
    protocol: Protocol
    epoch: int

    def seed(self, task: str, item_id: str) -> int:
        family = "understanding"
        if task in GENERATION:
            family = "generation"
        epoch = 0
        if self.protocol.seed_epoch:
            epoch = self.epoch
        return item_seed(self.protocol.seed, self.protocol.seed_name, family, task, self.concept.name, epoch, item_id)


def _questions(task: str, source: Source) -> list[EvalItem]:
    chosen = [item for item in source.concept.items if item.kind == ITEM_KIND[task]]
    ids = [f"{task}_{number:03d}" for number in range(len(chosen))]
    return [
        EvalItem(
            task=task,
            id=item_id,
            prompt=item.question,
            truth=item.answer,
            seed=source.seed(task, item_id),
            image=_picture_of(item),
        )
        for item_id, item in zip(ids, chosen)
    ]


def _picture_of(item: TestItem) -> Path | None:
    """A text-only item names the black picture; models that want one for text bring their own."""
    black = Layout(Path()).black_image.name
    if item.kind == "text_only" and (item.image is None or item.image.name == black):
        return None
    return item.image


def _rewrites(task: str, source: Source) -> list[EvalItem]:
    conditions, prefix = source.concept.conditions, "prompt" if task in GENERATION else task
    if task.startswith("dense"):
        pairs = list(zip(conditions.dense_implicit, conditions.dense_explicit))
    else:
        pairs = [(conditions.implicit[index], conditions.explicit[index]) for index in source.concept.test_indices]
    ids = [f"{prefix}_{number:03d}" for number in range(len(pairs))]
    return [
        EvalItem(task=task, id=item_id, prompt=implicit, truth=explicit, seed=source.seed(task, item_id))
        for item_id, (implicit, explicit) in zip(ids, pairs)
    ]


def _dense(task: str, source: Source) -> list[EvalItem]:
    prompts = source.concept.conditions.dense
    ids = [f"prompt_{number:03d}" for number in range(len(prompts))]
    return [
        EvalItem(task=task, id=item_id, prompt=prompt, truth=prompt, seed=source.seed(task, item_id))
        for item_id, prompt in zip(ids, prompts)
    ]


def _lookalikes(task: str, source: Source) -> list[EvalItem]:
    """Pictures of the concept somewhere new, and of others in such a place."""
    if source.root is None:
        return []
    folders = Layout(source.root).lookalikes(source.concept.name)
    question = RECOGNITION_QUESTION.format(name=source.concept.placeholder)
    shown = []
    for folder, truth in zip(folders, ("Yes.", "No."), strict=True):
        shown += [(picture, truth) for picture in list_pictures(folder)]
    found = []
    for number, (picture, truth) in enumerate(shown):
        item_id = f"lookalike_{number:03d}"
        found.append(
            EvalItem(
                task=task,
                id=item_id,
                prompt=question,
                truth=truth,
                seed=source.seed(task, item_id),
                image=picture,
            )
        )
    return found


def _plain(task: str, source: Source) -> list[EvalItem]:
    name, placeholder = source.concept.name, source.concept.placeholder
    templates = read_templates(source.root, source.concept)
    truths = [template.replace("{name}", placeholder) for template in templates]
    if source.protocol.pure_name == "everywhere":  # the published slip: also inside words such as rainbow
        prompts = [template.replace("{name}", name).replace(name, placeholder) for template in templates]
    else:
        prompts = truths
    ids = [f"prompt_{number:03d}" for number in range(len(templates))]
    return [
        EvalItem(task=task, id=item_id, prompt=prompt, truth=truth, seed=source.seed(task, item_id))
        for item_id, prompt, truth in zip(ids, prompts, truths)
    ]


SOURCES: dict[str, Callable[[str, Source], list[EvalItem]]] = {
    **dict.fromkeys(("rec", "vqa", "qa"), _questions),
    **dict.fromkeys(LOOKALIKES, _lookalikes),
    **dict.fromkeys(("rea", "dense_rea", "rea_gen", "dense_rea_gen"), _rewrites),
    "pure_gen": _plain,
    "dense_gen": _dense,
}


def why_empty(task: str, concept: Concept) -> str:
    """Why the concept has no items for a task, and what to do."""
    if task in LOOKALIKES:
        return (
            f"task {task!r} needs pictures in concept/test/{concept.name}/lookalikes/same and /other; add some, "
            "write the embedded world with --lookalikes, or set lookalikes=false"
        )
    if task in ITEM_KIND:
        return (
            f"task {task!r} needs items of type {ITEM_KIND[task]!r} in test_data/{concept.name}.json; add some or "
            "leave the task out"
        )
    if concept.conditions.legacy:
        return (
            f"task {task!r} needs the prompts of UnifyBench++, but t2i_conditions.json of {concept.name!r} has the old "
            f"list form; tasks that can run are {', '.join(runnable(concept))}"
        )
    return (
        f"task {task!r} needs prompts in concept/test/{concept.name}/t2i_conditions.json; add some or leave the task "
        "out"
    )
