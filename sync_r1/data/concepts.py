"""The personal concepts of a data root in the UniCTokens / UnifyBench++ folder layout; `write.py` is the exact inverse
of this reader.

A `Concept` is the value both sides know: `write_concept(root, c)` then `load_concept(root, c.name)` gives an equal
value. Legacy UnifyBench archives (t2i_conditions.json holds a list) load too, with plain prompts only.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from sync_r1.config_fields import shown
from sync_r1.data.category import Category, category_of
from sync_r1.data.json_fields import Fields
from sync_r1.data.layout import ID, Layout, resolve_image, validate_name
from sync_r1.data.names import is_called
from sync_r1.data.pictures import list_folder, list_pictures, load_image, verify_images
from sync_r1.data.read import read_layout
from sync_r1.data.types import CONDITION_KEYS, QA, TEXT_ONLY, Concept, Conditions, TestItem
from sync_r1.files import read_json

__all__ = [
    "QA", "Category", "Concept", "Conditions", "Layout", "TestItem", "category_of", "list_concepts", "load_concept",
    "load_image", "named_pictures", "random_images", "resolve_image", "soft_problems", "split_problems",
    "validate_name", "verify_images",
]  # fmt: skip


def list_concepts(root: Path | str) -> list[str]:
    """Complete concepts (folders of concept/train with an info.json): first in the order of concepts_list.json, then
    the others by name."""
    layout = Layout(Path(root))
    folder = layout.root / "concept" / "train"
    if not folder.is_dir():
        near = _root_nearby(layout.root)
        hint = ""
        if near:
            hint = f"; did you mean {near}?"
        raise ValueError(
            f"{folder}: no such folder; --data must point at a folder that holds concept/train/<name>/{hint}"
        )
    found = sorted(p.name for p in list_folder(folder) if not p.name.startswith(".") and (p / "info.json").is_file())
    listed: list[str] = []
    if layout.concepts_list.is_file():
        listed = Fields(layout.concepts_list, {"(list)": read_json(layout.concepts_list)}).strings(
            "(list)", allow_empty=True
        )
    first = [name for name in dict.fromkeys(listed) if name in found]
    return first + [name for name in found if name not in first]


def _root_nearby(folder: Path) -> Path | None:
    """A data root one or two levels up or one level down."""
    inside = []
    if folder.is_dir():
        inside = sorted(path for path in list_folder(folder) if path.is_dir())
    around = []
    if folder.name in ("concept", "train"):
        around = [folder.parent, folder.parent.parent]
    return next((path for path in [*around, *inside] if (path / "concept" / "train").is_dir()), None)


def random_images(root: Path | str) -> list[Path]:
    """The easy negatives, naturally sorted; an absent folder has none."""
    return list_pictures(Layout(Path(root)).random_images)


def find_concept(root: Path | str, name: str) -> str:
    """The id of the concept that is called `name` by its id or by its owner. ValueError when there is none."""
    layout = Layout(Path(root))
    if re.fullmatch(ID, name) and layout.info(name).is_file():
        return name
    known = list_concepts(root)
    names = display_names(layout, known)
    found = [concept_id for concept_id in known if is_called(concept_id, names[concept_id], name)]
    if len(found) == 1:
        return validate_name(found[0])
    listed = ", ".join(f"{names[one]} ({one})" if names[one] != one else one for one in known)
    if found:
        raise ValueError(
            f"{root}: {len(found)} concepts are called {shown(name)}; name one by its id: {', '.join(found)}"
        )
    raise ValueError(
        f"{layout.train_images.parent}: no concept {shown(name)} here; known concepts are {listed or 'none yet'}"
    )


def display_names(layout: Layout, ids: Sequence[str]) -> dict[str, str]:
    """Id → name as the owner writes it; the id where info.json gives no other, or cannot be read."""
    names = {}
    for concept_id in ids:
        try:
            fields = Fields(layout.info(concept_id), read_json(layout.info(concept_id)))
            names[concept_id] = fields.text("display_name", default=concept_id)
        except (ValueError, OSError):  # reading the concept itself says what is wrong
            names[concept_id] = concept_id
    return names


def load_concept(root: Path | str, name: str, *, allow_empty_facts: bool = False, verify: bool = True) -> Concept:
    """Read and validate one concept. Every picture it names is decoded once unless `verify` is False.

    Raises ValueError naming file and field. Warns when there is no test split or the published training rule (first
    half) would reach into it, and about prompts that lack the placeholder.
    """
    layout = Layout(Path(root))
    name = find_concept(root, name)
    concept = read_layout(layout, name, allow_empty_facts=allow_empty_facts)
    if verify:
        for path, place in named_pictures(layout, concept).items():
            try:
                verify_images([path])
            except ValueError as error:
                raise ValueError(f"{error} (named in {place})") from error
    for problem in split_problems(concept):
        warnings.warn(f"concept {concept.title}: {problem}", stacklevel=2)
    problems = soft_problems(concept)
    if problems:
        warnings.warn(f"concept {concept.title}: {len(problems)} doubtful entries, first: {problems[0]}", stacklevel=2)
    return concept


def named_pictures(layout: Layout, concept: Concept) -> dict[Path, str]:
    """Every picture a concept uses → the file and field, or the folder, that it comes from."""
    name = concept.name
    if layout.train_images.is_file():
        photos = f"{layout.train_images}, field {name!r}"
    else:
        photos = str(layout.train(name))
    places = {item.image: f"{layout.items(name)}, field 'image'" for item in concept.items if item.image}
    return (
        places
        | dict.fromkeys(concept.test_images, str(layout.test(name)))
        | dict.fromkeys(concept.train_images, photos)
    )


def split_problems(concept: Concept) -> list[str]:
    """What is wrong with the split of the implicit prompts into training and testing, and what it keeps from
    running."""
    length, testing, conditions = len(concept.conditions.implicit), concept.num_testing_info, concept.conditions
    works = ["the warm-up", "pure_gen"] + (["training on questions about its photos"] if concept.conversations else [])
    kinds = {item.kind for item in concept.items}
    works += [task for task, kind in (("rec", "rec"), ("vqa", "vqa"), ("qa", "text_only")) if kind in kinds]
    runs = f"{', '.join(works)} can still run"
    if conditions.legacy:
        return [
            (
                "t2i_conditions.json has the old list form of UnifyBench, which has no prompts to rewrite and no test "
                f"split; {runs}"
            )
        ]
    if conditions == Conditions():
        return [
            (
                f"no test split: concept/test/{concept.name}/t2i_conditions.json holds no prompts to rewrite or draw; "
                f"{runs}"
            )
        ]
    problems = []
    if concept.overlap:
        problems.append(
            f"{length} implicit prompts, the last {testing} are for testing; the published rule would train on the "
            f"first {concept.published_rl_count}, {concept.overlap} of them test prompts. Training uses the first "
            f"{concept.published_rl_count - concept.overlap} only"
        )
    copies = concept.published_rl_count - concept.overlap - len(concept.rl_indices)
    if copies:
        problems.append(f"{copies} training prompts are asked word for word in testing; training leaves them out")
    repeats = length - len(set(concept.conditions.implicit))
    if repeats:
        problems.append(
            f"{repeats} of {length} implicit prompts repeat another word for word, so that nothing tells which fact is "
            "meant"
        )
    if length and not testing:
        problems.append("num_testing_info is 0, so that no implicit prompt is for testing: rea and rea_gen cannot run")
    if length and not concept.rl_indices:
        problems.append(f"all {length} implicit prompts are for testing, so that none is left to train on; {runs}")
    return problems


def soft_problems(concept: Concept) -> list[str]:
    """What a published archive may contain but we never write: prompts or facts without the placeholder, recognition
    answers that are neither yes nor no, questions about unknown pictures."""
    placeholder = concept.placeholder
    problems = [
        f"info.json extra_info[{i}] lacks {placeholder}: {fact!r}"
        for i, fact in enumerate(concept.facts)
        if placeholder not in fact
    ]
    for field_name, key in CONDITION_KEYS.items():
        prompts: list[str] = getattr(concept.conditions, field_name)
        problems += [
            f"t2i_conditions.json {key}[{i}] lacks {placeholder}: {text!r}"
            for i, text in enumerate(prompts)
            if placeholder not in text
        ]
    for i, item in enumerate(concept.items):
        if item.kind == "rec" and not re.match(r"(yes|no)\b", item.answer, re.IGNORECASE):
            problems.append(
                f"test_data item {i} of type rec has the answer {item.answer!r}; it must begin with Yes or No"
            )
    known = {path.name for path in concept.train_images} | {TEXT_ONLY}
    problems += [
        f"conversations.json key {key!r} is no training picture" for key in concept.conversations if key not in known
    ]
    return problems
