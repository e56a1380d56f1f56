"""The nine tasks of UnifyBench++ as a list of items: what is asked, what would be right, with which seed."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_r1.bench.result import TASKS, UNDERSTANDING
from sync_r1.data import Concept, Layout, TestItem, verify_images

BASE_SEED = 3407
ALIASES = {"text_only": "qa"}
ITEM_KIND = {"rec": "rec", "vqa": "vqa", "qa": "text_only"}

# The public DreamBooth evaluation prompts (Ruiz et al., CVPR 2023): ten places for both types, ten more places for objects or outfits
# for live subjects, five properties. Each continues "a {name}".
SCENES = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric", "on top of a wooden floor",
    "with a city in the background", "with a mountain in the background", "with a blue house in the background",
    "on top of a purple rug in a forest",
)  # fmt: skip
MORE_SCENES = (
    "with a wheat field in the background", "with a tree and autumn leaves in the background", "with the Eiffel Tower in the background",
    "floating on top of water", "floating in an ocean of milk", "on top of green grass with sunflowers around it", "on top of a mirror",
    "on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug",
)  # fmt: skip
OUTFITS = (
    "wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf", "wearing a black top hat and a monocle", "in a chef outfit",
    "in a firefighter outfit", "in a police outfit", "wearing pink glasses", "wearing a yellow shirt", "in a purple wizard outfit",
)  # fmt: skip
PROPERTIES = ("red", "purple", "shiny", "wet", "cube shaped")


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


def plain_templates(generation_type: str) -> list[str]:
    """The 25 DreamBooth prompts of "object" or "live_subject", with `{name}`."""
    middle = MORE_SCENES if generation_type == "object" else OUTFITS
    return [*(f"a {{name}} {end}" for end in (*SCENES, *middle)), *(f"a {word} {{name}}" for word in PROPERTIES)]


def read_templates(root: Path | None, concept: Concept) -> list[str]:
    """pure_gen prompts with `{name}`: "pure_gen" of <root>/template.json, else the DreamBooth list. ValueError for a malformed list."""
    path = root / "template.json" if root is not None else None
    if path is None or not path.is_file():
        return plain_templates(concept.generation_type)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file ({error})") from error
    if not isinstance(values, dict) or "pure_gen" not in values:  # published archives hold a file of this name with other content
        return plain_templates(concept.generation_type)
    templates = values["pure_gen"]
    if not isinstance(templates, list) or not templates or not all(isinstance(t, str) and "{name}" in t for t in templates):
        raise ValueError(f"{path}: field 'pure_gen' must be a list of prompts that each hold {{name}}")
    return templates


def build_items(
    concept: Concept, *, root: Path | None = None, tasks: Sequence[str] = (), max_items: int | None = None, seed: int = BASE_SEED
) -> list[EvalItem]:
    """All items of `tasks` (default: every task the concept has items for), in the order of the nine tasks.

    Args:
        root: data root, for its pure_gen templates.
        max_items: at most so many per task, evenly spaced over the whole list.
    Raises:
        ValueError: an unknown task, a task without items that was asked for, or an unreadable picture.
    """
    wanted = check_tasks(tasks) or list(TASKS)
    items: list[EvalItem] = []
    for task in TASKS:
        if task not in wanted:
            continue
        found = SOURCES[task](task, concept, root, seed)
        if not found and tasks:
            raise ValueError(_why_empty(task, concept))
        items += found if max_items is None else [found[i] for i in evenly(len(found), max_items)]
    if not items:
        raise ValueError(f"concept {concept.name!r} has no items for any task; {_why_empty('rec', concept)}")
    verify_images(dict.fromkeys(item.image for item in items if item.image is not None))
    return items


def check_tasks(tasks: Sequence[str]) -> list[str]:
    """Task names with aliases resolved. ValueError names an unknown one."""
    names = [ALIASES.get(task, task) for task in tasks]
    for name in names:
        if name not in TASKS:
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TASKS)}"
            raise ValueError(f"unknown task {name!r}; {hint}")
    return names


def evenly(count: int, at_most: int) -> list[int]:
    """`at_most` of `count` indices, evenly spaced: recognition lists its positive pictures first, so the head alone would be lopsided."""
    if at_most < 1:
        raise ValueError(f"max_items is {at_most}; it must be at least 1, or empty for all")
    if count <= at_most:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * at_most) for i in range(at_most)]


def _seed(base: int, task: str, concept: Concept, item_id: str) -> int:
    family = "understanding" if task in UNDERSTANDING else "generation"
    return item_seed(base, "sync_r1", family, task, concept.name, 0, item_id)  # 0: every phase gets the seeds of the first


def _questions(task: str, concept: Concept, root: Path | None, base: int) -> list[EvalItem]:
    chosen = [item for item in concept.items if item.kind == ITEM_KIND[task]]
    ids = [f"{task}_{number:03d}" for number in range(len(chosen))]
    return [
        EvalItem(
            task=task,
            id=item_id,
            prompt=item.question,
            truth=item.answer,
            seed=_seed(base, task, concept, item_id),
            image=_picture_of(item),
        )
        for item_id, item in zip(ids, chosen)
    ]


def _picture_of(item: TestItem) -> Path | None:
    """A text-only item names the black picture; models that want one for text bring their own."""
    black = Layout(Path()).black_image.name
    return None if item.kind == "text_only" and (item.image is None or item.image.name == black) else item.image


def _rewrites(task: str, concept: Concept, root: Path | None, base: int) -> list[EvalItem]:
    conditions, prefix = concept.conditions, "prompt" if task.endswith("_gen") else task
    if task.startswith("dense"):
        pairs = list(zip(conditions.dense_implicit, conditions.dense_explicit))
    else:
        pairs = [(conditions.implicit[index], conditions.explicit[index]) for index in concept.test_indices]
    ids = [f"{prefix}_{number:03d}" for number in range(len(pairs))]
    return [
        EvalItem(task=task, id=item_id, prompt=implicit, truth=explicit, seed=_seed(base, task, concept, item_id))
        for item_id, (implicit, explicit) in zip(ids, pairs)
    ]


def _drawings(task: str, concept: Concept, root: Path | None, base: int) -> list[EvalItem]:
    if task == "dense_gen":
        prompts = concept.conditions.dense
    else:
        prompts = [template.replace("{name}", concept.placeholder) for template in read_templates(root, concept)]
    ids = [f"prompt_{number:03d}" for number in range(len(prompts))]
    return [
        EvalItem(task=task, id=item_id, prompt=prompt, truth=prompt, seed=_seed(base, task, concept, item_id))
        for item_id, prompt in zip(ids, prompts)
    ]


SOURCES: dict[str, Callable[[str, Concept, Path | None, int], list[EvalItem]]] = {
    **dict.fromkeys(("rec", "vqa", "qa"), _questions),
    **dict.fromkeys(("rea", "dense_rea", "rea_gen", "dense_rea_gen"), _rewrites),
    **dict.fromkeys(("pure_gen", "dense_gen"), _drawings),
}


def _why_empty(task: str, concept: Concept) -> str:
    if task in ITEM_KIND:
        return f"task {task!r} needs items of type {ITEM_KIND[task]!r} in test_data/{concept.name}.json; add some or leave the task out"
    if concept.conditions.legacy:
        return f"task {task!r} needs the prompts of UnifyBench++, but t2i_conditions.json of {concept.name!r} has the old list form"
    return f"task {task!r} needs prompts in concept/test/{concept.name}/t2i_conditions.json; add some or leave the task out"
