"""A personal concept and the reader of the UniCTokens / UnifyBench++ folder layout; `write.py` is its exact inverse.

A `Concept` is the value both sides know: `write_concept(root, c)` then `load_concept(root, c.name)` gives an equal value.
Legacy UnifyBench archives (t2i_conditions.json holds a list) load too, with plain prompts only.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from sync_r1.data.category import CATEGORIES, Category, category_of
from sync_r1.data.json_fields import Fields, read_json
from sync_r1.data.layout import Layout, resolve_image, validate_name
from sync_r1.data.pictures import list_pictures, load_image, natural_key, verify_images

__all__ = [
    "QA", "Category", "Concept", "Conditions", "Layout", "TestItem", "category_of", "list_concepts",
    "load_concept", "load_image", "random_images", "resolve_image", "soft_problems", "validate_name", "verify_images",
]  # fmt: skip

ItemKind = Literal["rec", "vqa", "text_only"]

ITEM_KINDS = ("rec", "vqa", "text_only")
GENERATION_TYPES = {"object": "object", "objects": "object", "live_subject": "live_subject", "live": "live_subject"}
CONDITION_KEYS = {
    "dense": "dense_prompt_generation",
    "implicit": "personalized_driven_generation",
    "explicit": "explicit_personalized_driven_generation",
    "dense_implicit": "personalized_dense_prompt_generation",
    "dense_explicit": "explicit_personalized_dense_prompt_generation",
}
TEXT_ONLY = "text_only"  # the one key of conversations.json that is not a picture


@dataclass(frozen=True)
class QA:
    """A question about a photo of the concept, and the answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class TestItem:
    """One benchmark question. rec: "Yes."/"No." about the picture; vqa: about the picture; text_only: from memory."""

    __test__ = False  # pytest would collect the class by its name

    kind: ItemKind
    image: Path | None
    question: str
    answer: str


@dataclass(frozen=True)
class Conditions:
    """Drawing prompts. implicit and explicit are pairs by index (as asked, and with the fact spelled out); so are the dense two."""

    dense: list[str] = field(default_factory=list)
    implicit: list[str] = field(default_factory=list)
    explicit: list[str] = field(default_factory=list)
    dense_implicit: list[str] = field(default_factory=list)
    dense_explicit: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)  # legacy UnifyBench only
    legacy: bool = False


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A personal thing: pictures, a class noun, one visual sentence, private facts, questions and drawing prompts."""

    name: str
    class_noun: str
    category: Category
    info: str
    facts: list[str]
    conversation_type: str
    generation_type: str  # "object" | "live_subject": which DreamBooth prompts suit it
    num_testing_info: int  # T: the last T implicit prompts are for testing only
    train_images: list[Path]
    test_images: list[Path]
    conversations: dict[str, list[QA]]  # picture file name (or "text_only") → questions
    items: list[TestItem]
    conditions: Conditions

    @property
    def placeholder(self) -> str:
        return f"<{self.name}>"

    @property
    def rl_indices(self) -> range:
        """Implicit prompts RL may train on: the published first half (⌊(L+1)/2⌋ of L), never reaching into the last T."""
        length = len(self.conditions.implicit)
        return range(max(0, min((length + 1) // 2, length - self.num_testing_info)))

    @property
    def test_indices(self) -> range:
        """Implicit prompts for testing: the last T."""
        length = len(self.conditions.implicit)
        return range(max(0, length - self.num_testing_info), length)


def list_concepts(root: Path | str) -> list[str]:
    """Complete concepts (folders of concept/train with an info.json): first in the order of concepts_list.json, then the others by name."""
    layout = Layout(Path(root))
    folder = layout.root / "concept" / "train"
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; --data must point at a folder that holds concept/train/<name>/")
    found = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and (p / "info.json").is_file())
    listed: list[str] = []
    if layout.concepts_list.is_file():
        listed = Fields(layout.concepts_list, {"(list)": read_json(layout.concepts_list)}).strings("(list)", allow_empty=True)
    first = [name for name in dict.fromkeys(listed) if name in found]
    return first + [name for name in found if name not in first]


def random_images(root: Path | str) -> list[Path]:
    """The easy negatives, naturally sorted; an absent folder has none."""
    return list_pictures(Layout(Path(root)).random_images)


def load_concept(root: Path | str, name: str, *, allow_empty_facts: bool = False, verify: bool = True) -> Concept:
    """Read and validate one concept. Every picture it names is decoded once unless `verify` is False.

    Raises ValueError naming file and field. Warns when the published training rule (first half) would reach into the test prompts,
    and about prompts that lack the placeholder.
    """
    layout = Layout(Path(root))
    validate_name(name)
    if not layout.info(name).is_file():
        known = list_concepts(root)
        raise ValueError(f"{layout.info(name)}: no concept {name!r} here; known concepts are {', '.join(known) or 'none yet'}")
    concept = read_layout(layout, name, allow_empty_facts=allow_empty_facts)
    if verify:
        verify_images(dict.fromkeys([*concept.train_images, *concept.test_images, *(i.image for i in concept.items if i.image)]))
    _warn(concept)
    return concept


def read_layout(layout: Layout, name: str, *, allow_empty_facts: bool = False, pictures_root: Path | None = None) -> Concept:
    """The concept as the files say, without opening pictures. `pictures_root`: a second place to look for the pictures of test items."""
    info = Fields(layout.info(name), read_json(layout.info(name)))
    conversation_type = info.text("conversation_type", default="")
    class_noun = info.text("class")
    category = cast(Category, info.one_of("category", CATEGORIES, default=category_of(class_noun, conversation_type)))
    if conversation_type == "human" and category != "person":
        raise ValueError(f"{info.place}: field 'category' is {category!r} but 'conversation_type' is 'human'; a human is a person")
    conditions = _read_conditions(layout.conditions(name))
    return Concept(
        name=name,
        class_noun=class_noun,
        category=category,
        info=info.text("info"),
        facts=info.strings("extra_info", allow_empty=allow_empty_facts, allow_bare=True),
        conversation_type=conversation_type,
        generation_type=_generation_type(info, category),
        num_testing_info=_read_num_testing(info, conditions),
        train_images=_read_train_images(layout, name),
        test_images=list_pictures(layout.test(name)),
        conversations=_read_conversations(layout, name),
        items=_read_items(layout, name, pictures_root),
        conditions=conditions,
    )


def _warn(concept: Concept) -> None:
    length, testing = len(concept.conditions.implicit), concept.num_testing_info
    overlap = (length + 1) // 2 - (length - testing)
    if overlap > 0:
        warnings.warn(
            f"concept {concept.name}: {length} implicit prompts, the last {testing} are for testing; the published rule would train on the "
            f"first {(length + 1) // 2}, {overlap} of them test prompts. Training uses the first {len(concept.rl_indices)} only",
            stacklevel=3,
        )
    problems = soft_problems(concept)
    if problems:
        warnings.warn(f"concept {concept.name}: {len(problems)} doubtful entries, first: {problems[0]}", stacklevel=3)


def soft_problems(concept: Concept) -> list[str]:
    """What a published archive may contain but we never write: prompts or facts without the placeholder, recognition answers that are
    neither yes nor no, questions about unknown pictures."""
    mark = concept.placeholder
    problems = [f"info.json extra_info[{i}] lacks {mark}: {fact!r}" for i, fact in enumerate(concept.facts) if mark not in fact]
    for field_name, key in CONDITION_KEYS.items():
        prompts: list[str] = getattr(concept.conditions, field_name)
        problems += [f"t2i_conditions.json {key}[{i}] lacks {mark}: {text!r}" for i, text in enumerate(prompts) if mark not in text]
    for i, item in enumerate(concept.items):
        if item.kind == "rec" and not re.match(r"(yes|no)\b", item.answer, re.IGNORECASE):
            problems.append(f"test_data item {i} of type rec has the answer {item.answer!r}; it must begin with Yes or No")
    known = {path.name for path in concept.train_images} | {TEXT_ONLY}
    problems += [f"conversations.json key {key!r} is no training picture" for key in concept.conversations if key not in known]
    return problems


def _generation_type(info: Fields, category: Category) -> str:
    default = "object" if category == "object" else "live_subject"
    seen = info.text("generation_type", default=default)
    kind = GENERATION_TYPES.get(re.sub(r"[\s-]+", "_", seen.strip().lower()))
    if kind is None:
        raise ValueError(f"{info.place}: field 'generation_type' is {seen!r}; allowed are object and live_subject")
    return kind


def _read_num_testing(info: Fields, conditions: Conditions) -> int:
    if conditions.legacy:
        return 0
    count, length = info.count("num_testing_info"), len(conditions.implicit)
    if count > length:
        raise ValueError(
            f"{info.place}: field 'num_testing_info' is {count}; allowed are 0 to {length}, the number of {CONDITION_KEYS['implicit']}"
        )
    return count


def _read_conditions(path: Path) -> Conditions:
    data = read_json(path)
    if isinstance(data, list):
        return Conditions(plain=Fields(path, {"(list)": data}).strings("(list)"), legacy=True)
    fields = Fields(path, data)
    values: dict[str, Any] = {name: fields.strings(key, allow_empty=True) for name, key in CONDITION_KEYS.items()}
    for first, second in (("implicit", "explicit"), ("dense_implicit", "dense_explicit")):
        if len(values[first]) != len(values[second]):
            raise ValueError(
                f"{path}: field {CONDITION_KEYS[first]!r} has {len(values[first])} prompts and {CONDITION_KEYS[second]!r} has "
                f"{len(values[second])}; they are pairs and must be equally many"
            )
    return Conditions(**values)


def _read_train_images(layout: Layout, name: str) -> list[Path]:
    folder, index = layout.train(name), layout.train_images
    if not index.is_file():
        paths = list_pictures(folder)
        if not paths:
            raise ValueError(f"{folder}: no pictures; put PNG, JPEG or WebP files there")
        return paths
    names = Fields(index, read_json(index)).strings(name)
    for file_name in names:
        if Path(file_name).name != file_name or "\\" in file_name:
            raise ValueError(f"{index}: field {name!r} holds {file_name!r}; allowed are bare file names of pictures in {folder}")
        if not (folder / file_name).is_file():
            raise ValueError(f"{index}: field {name!r} names {file_name!r}, which is not in {folder}; remove the name or add the picture")
    if len(set(names)) < len(names):
        raise ValueError(f"{index}: field {name!r} names a picture twice: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return [folder / file_name for file_name in sorted(names, key=natural_key)]


def _read_conversations(layout: Layout, name: str) -> dict[str, list[QA]]:
    path = layout.conversations(name)
    if not path.is_file():
        return {}
    fields = Fields(path, read_json(path))
    return {
        key.replace("\\", "/").rsplit("/", 1)[-1]: [QA(entry.text("query"), entry.text("answer")) for entry in fields.objects(key)]
        for key in fields.data
    }


def _read_items(layout: Layout, name: str, pictures_root: Path | None) -> list[TestItem]:
    path = layout.items(name)
    if not path.is_file():
        return []
    entries = Fields(path, {"item": read_json(path)}).objects("item")
    # Old archives also hold multiple-choice items; none of the nine tasks uses them.
    return [_read_item(layout.root, entry, pictures_root) for entry in entries if "choice" not in entry.text("type")]


def _read_item(root: Path, entry: Fields, pictures_root: Path | None) -> TestItem:
    kind = cast(ItemKind, entry.one_of("type", ITEM_KINDS))
    turns = entry.objects("conversations")
    if len(turns) < 2:
        raise ValueError(f"{entry.place}: field 'conversations' has {len(turns)} turns; it needs a question and an answer")
    stored = entry.text("image", default="")
    if not stored and kind != "text_only":
        raise ValueError(f"{entry.place}: field 'image' is missing; items of type {kind} need a picture")
    image = resolve_image(root, stored, f"{entry.place}: field 'image'", pictures_root) if stored else None
    return TestItem(kind, image, turns[0].text("value").replace("<image>\n", "").strip(), turns[1].text("value"))
