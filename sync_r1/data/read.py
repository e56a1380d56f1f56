"""One function per file of a concept in the UniCTokens / UnifyBench++ layout. Every error names file and field."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sync_r1.constants import CATEGORIES
from sync_r1.data.category import Category, category_of
from sync_r1.data.json_fields import Fields
from sync_r1.data.layout import Layout, resolve_image
from sync_r1.data.pictures import list_pictures, natural_key, without_masks
from sync_r1.data.types import CONDITION_KEYS, ITEM_KINDS, QA, Concept, Conditions, ItemKind, TestItem
from sync_r1.data.undocumented_files import picture_of, read_loose
from sync_r1.files import read_json

GENERATION_TYPES = {"object": "object", "objects": "object", "live_subject": "live_subject", "live": "live_subject"}


@dataclass(frozen=True)
class Info:
    """What info.json says; `fields` is the file, for what depends on other files."""

    display_name: str
    class_noun: str
    category: Category
    info: str
    facts: list[str]
    conversation_type: str
    generation_type: str
    fields: Fields


def read_layout(
    layout: Layout, name: str, *, allow_empty_facts: bool = False, pictures_root: Path | None = None
) -> Concept:
    """The concept as the files say, without opening pictures.

    `pictures_root`: a second place to look for the pictures of test items.
    """
    info = read_info(layout, name, allow_empty_facts)
    conditions = read_conditions(layout, name)
    return assemble(
        layout,
        name,
        info,
        conditions,
        read_num_testing(info, conditions),
        read_train_images(layout, name),
        read_conversations(layout, name),
        read_items(layout, name, pictures_root),
    )


def assemble(
    layout: Layout,
    name: str,
    info: Info,
    conditions: Conditions,
    num_testing_info: int,
    train_images: list[Path],
    conversations: dict[str, list[QA]],
    items: list[TestItem],
) -> Concept:
    """The concept from what its files say, and the pictures of its test folder."""
    return Concept(
        name=name,
        display_name=info.display_name,
        class_noun=info.class_noun,
        category=info.category,
        info=info.info,
        facts=info.facts,
        conversation_type=info.conversation_type,
        generation_type=info.generation_type,
        num_testing_info=num_testing_info,
        train_images=train_images,
        test_images=list_pictures(layout.test(name)),
        conversations=conversations,
        items=items,
        conditions=conditions,
    )


def read_info(layout: Layout, name: str, allow_empty_facts: bool = False) -> Info:
    """info.json."""
    fields = Fields(layout.info(name), read_json(layout.info(name)))
    conversation_type = fields.text("conversation_type", default="")
    class_noun = fields.text("class")
    category = cast(Category, fields.one_of("category", CATEGORIES, default=category_of(class_noun, conversation_type)))
    if conversation_type.lower() == "human" and category != "person":
        raise ValueError(
            f"{fields.place}: field 'category' is {category!r} but 'conversation_type' is 'human'; a human is a person"
        )
    display_name = fields.text("display_name", default="")
    return Info(
        "" if display_name == name else display_name,
        class_noun,
        category,
        info=fields.text("info"),
        facts=fields.strings("extra_info", allow_empty=allow_empty_facts, allow_bare=True),
        conversation_type=conversation_type,
        generation_type=_generation_type(fields, category),
        fields=fields,
    )


def _generation_type(info: Fields, category: Category) -> str:
    default = "live_subject"
    if category == "object":
        default = "object"
    seen = info.text("generation_type", default=default)
    kind = GENERATION_TYPES.get(re.sub(r"[\s-]+", "_", seen.strip().lower()))
    if kind is None:
        raise ValueError(f"{info.place}: field 'generation_type' is {seen!r}; allowed are object and live_subject")
    return kind


def read_num_testing(info: Info, conditions: Conditions) -> int:
    """T, the number of implicit prompts kept for testing; 0 where there are none to count."""
    if conditions.legacy or conditions == Conditions():
        return 0
    count, length = info.fields.count("num_testing_info"), len(conditions.implicit)
    if count > length:
        raise ValueError(
            f"{info.fields.place}: field 'num_testing_info' is {count}; "
            f"allowed are 0 to {length}, the number of {CONDITION_KEYS['implicit']}"
        )
    return count


def read_conditions(layout: Layout, name: str) -> Conditions:
    """t2i_conditions.json in either form: a list (UnifyBench) or an object of five lists (UnifyBench++).

    No test folder: no prompts.
    """
    path = layout.conditions(name)
    if not layout.test(name).is_dir():
        return Conditions()
    data = read_json(path)
    if isinstance(data, list):
        return Conditions(plain=Fields(path, {"(list)": data}).strings("(list)"), legacy=True)
    fields = Fields(path, data)
    values: dict[str, Any] = {name: fields.strings(key, allow_empty=True) for name, key in CONDITION_KEYS.items()}
    for first, second in (("implicit", "explicit"), ("dense_implicit", "dense_explicit")):
        if len(values[first]) != len(values[second]):
            raise ValueError(
                f"{path}: field {CONDITION_KEYS[first]!r} has {len(values[first])} prompts and "
                f"{CONDITION_KEYS[second]!r} has {len(values[second])}; they are pairs and must be equally many"
            )
    return Conditions(**values)


def read_train_images(layout: Layout, name: str) -> list[Path]:
    """The photos that train_images.json names, or all but masks in the folder when there is no such list.

    Naturally sorted.
    """
    folder, index = layout.train(name), layout.train_images
    if not index.is_file():
        paths = without_masks(list_pictures(folder))
        if not paths:
            raise ValueError(f"{folder}: no pictures; put PNG, JPEG, WebP, AVIF or HEIC files there")
        return paths
    names = Fields(index, read_json(index)).strings(name)
    for file_name in names:
        if Path(file_name).name != file_name or "\\" in file_name:
            raise ValueError(
                f"{index}: field {name!r} holds {file_name!r}; allowed are bare file names of pictures in {folder}"
            )
        if not os.path.isfile(folder / file_name):
            raise ValueError(
                f"{index}: field {name!r} names {file_name!r}, which is not in {folder}; remove the name or add the "
                "picture"
            )
    if len(set(names)) < len(names):
        raise ValueError(
            f"{index}: field {name!r} names a picture twice: {sorted(n for n in set(names) if names.count(n) > 1)}"
        )
    return [folder / file_name for file_name in sorted(names, key=natural_key)]


def read_conversations(layout: Layout, name: str) -> dict[str, list[QA]]:
    """conversations.json by the exact file name of the photo: `1.png` is never `11.png`."""
    path = layout.conversations(name)
    if not path.is_file():
        return {}
    fields = Fields(path, read_json(path))
    talks: dict[str, list[QA]] = {}
    for key in fields.data:
        file_name = key.replace("\\", "/").rsplit("/", 1)[-1]
        if file_name in talks:
            raise ValueError(f"{path}: two fields are about {file_name!r}; put their questions in one")
        talks[file_name] = [QA(entry.text("query"), entry.text("answer")) for entry in fields.objects(key)]
    return talks


def read_items(layout: Layout, name: str, pictures_root: Path | None = None) -> list[TestItem]:
    """The benchmark's questions: test_data/<c>.json, else what can be understood of vqa.json and text_only.json in the
    test folder.
    """
    if not layout.items(name).is_file():
        return _loose_items(layout, name)
    return [read_item(layout, entry, pictures_root) for entry in item_entries(layout, name)]


def item_entries(layout: Layout, name: str) -> list[Fields]:
    """The items of test_data/<c>.json without multiple choice, which old archives hold and none of the nine tasks
    uses."""
    entries = Fields(layout.items(name), {"item": read_json(layout.items(name))}).objects("item")
    return [entry for entry in entries if "choice" not in entry.text("type")]


def read_item(layout: Layout, entry: Fields, pictures_root: Path | None = None) -> TestItem:
    """One item; a question from memory does without the black picture when the archive lacks it."""
    kind = cast(ItemKind, entry.one_of("type", ITEM_KINDS))
    turns = entry.objects("conversations")
    if len(turns) < 2:
        raise ValueError(
            f"{entry.place}: field 'conversations' has {len(turns)} turns; it needs a question and an answer"
        )
    stored = entry.text("image", default="")
    if not stored and kind != "text_only":
        raise ValueError(f"{entry.place}: field 'image' is missing; items of type {kind} need a picture")
    try:
        image = None
        if stored:
            image = resolve_image(layout.root, stored, f"{entry.place}: field 'image'", pictures_root)
    except ValueError:
        if kind != "text_only" or not layout.is_black(stored):
            raise
        image = None
    return TestItem(kind, image, turns[0].text("value").replace("<image>\n", "").strip(), turns[1].text("value"))


def _loose_items(layout: Layout, name: str) -> list[TestItem]:
    """These two files are documented nowhere, so what is not understood is left out and counted in a warning."""
    found: list[TestItem] = []
    for kind in ("vqa", "text_only"):
        loose = read_loose(layout.test(name) / f"{kind}.json")
        items = [
            TestItem("text_only", None, entry.question, entry.answer) for entry in loose.items if kind == "text_only"
        ]
        if kind == "vqa":
            pictures = [(picture_of(layout.root, layout.test(name), entry), entry) for entry in loose.items]
            items = [TestItem("vqa", picture, entry.question, entry.answer) for picture, entry in pictures if picture]
        lost = loose.total - len(items)
        if lost:
            warnings.warn(
                f"{loose.path}: {lost} of {loose.total} entries are not understood or name no picture and are left out",
                stacklevel=4,
            )
        found += items
    return found
