"""`sync-r1 data check`: read every file of a data root, go on after each mistake, and say per concept what is there and
what is wrong.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from sync_r1.data.add import is_class_noun
from sync_r1.data.concepts import list_concepts, named_pictures, random_images, soft_problems, split_problems
from sync_r1.data.json_fields import Fields
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.pictures import list_folder, list_pictures, verify_images
from sync_r1.data.read import (
    assemble,
    item_entries,
    read_conditions,
    read_conversations,
    read_info,
    read_item,
    read_items,
    read_num_testing,
    read_train_images,
)
from sync_r1.data.types import Concept, TestItem
from sync_r1.data.undocumented_files import read_loose, read_scores
from sync_r1.data.warm_up_items import STAGE_FILE, items_without_picture, read_turns, stage_entries, stage_picture
from sync_r1.files import read_json, sha256

LISTED = 5  # problems of one kind

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(kw_only=True)
class Problems:
    """`errors` make something unusable; `doubts` are worth checking."""

    errors: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def attempt(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The function's value, or None when its ValueError became an error; its warnings become doubts."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                self.errors.append(str(error))
                return None
            finally:
                self.doubts += [str(warning.message) for warning in caught if warning.category is UserWarning]

    def shorten(self) -> None:
        """Of many problems that differ only in numbers and quoted words keep a few, and say how many more there are."""
        self.errors, self.doubts = _shortened(self.errors), _shortened(self.doubts)


@dataclass(kw_only=True)
class ConceptReport(Problems):
    """Counts of one concept; None where a broken file hides the number."""

    name: str
    display_name: str = ""  # as the owner writes it; empty where that is the name above
    class_noun: str = ""
    category: str = ""
    conditions: str = ""  # "++" | "legacy" | "none"
    photos: int | None = None
    cropped: int = 0
    test_photos: int = 0
    negatives: int = 0
    facts: int = 0
    stages: list[int] = field(default_factory=list)  # warm-up files there are
    implicit: int = 0  # L
    test_prompts: int | None = None  # T
    rl_prompts: int | None = None
    overlap: int | None = None  # test prompts that the published rule would train on
    dense: int = 0
    dense_pairs: int = 0
    plain: int = 0  # legacy only
    rec: int = 0
    vqa: int = 0
    text_only: int = 0


@dataclass(kw_only=True)
class RootReport(Problems):
    """A data root: its concepts, and what is wrong with files that all of them share."""

    root: str
    random_images: int = 0
    concepts: list[ConceptReport] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether nothing is broken."""
        return bool(self.concepts) and not self.errors and not any(concept.errors for concept in self.concepts)


def check_root(root: Path | str) -> RootReport:
    """Check all concepts of a data root. Raises ValueError only when the folder is no data root at all."""
    layout = Layout(Path(root))
    report = RootReport(root=str(root))
    names = report.attempt(list_concepts, root) or []
    folder = layout.root / "concept" / "train"
    if not folder.is_dir():
        raise ValueError(report.errors[0])
    folders = sorted(path.name for path in list_folder(folder) if path.is_dir() and not path.name.startswith("."))
    if report.errors:  # concepts_list.json is broken
        names = [name for name in folders if layout.info(name).is_file()]
    elif layout.concepts_list.is_file():
        gone = sorted(set(read_json(layout.concepts_list)) - set(folders))
        if gone:
            report.doubts += [
                f"{layout.concepts_list}: names {', '.join(gone)}, of which there is no folder in {folder}"
            ]
    report.doubts += [
        f"{folder / name}: no info.json, so it is no concept" for name in folders if not layout.info(name).is_file()
    ]
    if layout.train_images.is_file():
        report.attempt(lambda: Fields(layout.train_images, read_json(layout.train_images)))
    if layout.template.is_file():
        report.attempt(read_json, layout.template)
    pictures = random_images(root)
    report.random_images = len(pictures)
    _check_pictures(report, dict.fromkeys(pictures, ""))
    if not pictures:
        report.doubts.append(
            f"{layout.random_images}: no pictures, so there are no easy negatives to learn and test recognition on"
        )
    if not names:
        report.errors.append(f"{folder}: no concept, which is a folder with an info.json")
    report.concepts = [check_concept(layout, name) for name in names]
    report.shorten()
    return report


def check_concept(layout: Layout, name: str) -> ConceptReport:
    """Counts and problems of one concept."""
    report = ConceptReport(name=name)
    if report.attempt(validate_name, name) is None:
        return report
    concept = _read(report, layout, name)
    if concept is not None:
        report.doubts += [*split_problems(concept), *soft_problems(concept)]
        report.rl_prompts, report.overlap = len(concept.rl_indices), concept.overlap
        if is_class_noun(name, concept.class_noun):
            report.doubts.append(
                f"{layout.info(name)}: field 'class' is {concept.class_noun!r}, also its name: ambiguous in texts"
            )
        if not concept.facts:
            report.doubts.append(f"{layout.info(name)}: field 'extra_info' is empty; prompts are rewritten with facts")
        _check_pictures(report, named_pictures(layout, concept))
        if not report.errors:
            _check_leaks(report, concept)
    report.test_photos = len(list_pictures(layout.test(name)))
    for folder, count in ((layout.cropped(name), "cropped"), (layout.negatives(name), "negatives")):
        pictures = list_pictures(folder)
        setattr(report, count, len(pictures))
        _check_pictures(report, dict.fromkeys(pictures, ""))
    for number in sorted(set(STAGE_FILE.values())):
        _check_stage(report, layout, number)
    _check_loose(report, layout)
    report.shorten()
    return report


def _read(report: ConceptReport, layout: Layout, name: str) -> Concept | None:
    """Read file by file, so that a mistake in one does not hide those in others. None when any has an error."""
    info = report.attempt(read_info, layout, name, allow_empty_facts=True)
    conditions = report.attempt(read_conditions, layout, name)
    testing = None
    if info and conditions:
        testing = report.attempt(read_num_testing, info, conditions)
    photos = report.attempt(read_train_images, layout, name)
    talks = report.attempt(read_conversations, layout, name)
    items = _read_items(report, layout, name)
    if info:
        report.display_name = info.display_name
        report.class_noun, report.category, report.facts = info.class_noun, info.category, len(info.facts)
    if conditions:
        if conditions.legacy:
            report.conditions = "legacy"
        elif layout.conditions(name).is_file():
            report.conditions = "++"
        else:
            report.conditions = "none"
        report.implicit, report.dense = len(conditions.implicit), len(conditions.dense)
        report.dense_pairs, report.plain = len(conditions.dense_implicit), len(conditions.plain)
    report.photos, report.test_prompts = None if photos is None else len(photos), testing
    for item in items:
        setattr(report, item.kind, getattr(report, item.kind) + 1)
    if report.errors or info is None or conditions is None or testing is None or photos is None or talks is None:
        return None
    return assemble(layout, name, info, conditions, testing, photos, talks, items)


def _read_items(report: ConceptReport, layout: Layout, name: str) -> list[TestItem]:
    if not layout.items(name).is_file():
        found = report.attempt(read_items, layout, name) or []
        if not found:
            report.doubts.append(f"{layout.items(name)}: no such file, so rec, vqa and qa cannot be tested")
        return found
    entries = report.attempt(item_entries, layout, name) or []
    items = [report.attempt(read_item, layout, entry) for entry in entries]
    return [item for item in items if item is not None]


def _check_pictures(report: Problems, places: dict[Path, str]) -> None:
    for path, place in places.items():
        before = len(report.errors)
        report.attempt(verify_images, [path])
        if place and len(report.errors) > before:
            report.errors[-1] += f" (named in {place})"


def _check_leaks(report: ConceptReport, concept: Concept) -> None:
    """The same bytes among training and test pictures would test what was trained."""
    trained = {sha256(path): path for path in concept.train_images}
    for path in concept.test_images:
        twin = trained.get(sha256(path))
        if twin is not None:
            report.doubts.append(f"{path}: the same picture as the training photo {twin.name}")


def _check_stage(report: ConceptReport, layout: Layout, number: int) -> None:
    path = layout.stage(number, report.name)
    if not path.is_file():
        return
    report.stages.append(number)
    entries = report.attempt(stage_entries, path) or []
    bare = items_without_picture(path, entries)
    report.doubts += [bare] if bare else []
    pictures: dict[Path, str] = {}
    for entry in entries:
        report.attempt(read_turns, entry)
        picture = report.attempt(stage_picture, layout, entry)
        if picture:
            pictures[picture] = f"{path}, field 'image'"
    _check_pictures(report, pictures)
    tested = sum(layout.test(report.name) in picture.parents for picture in pictures)
    if tested:
        report.doubts.append(
            f"{path}: {tested} of its pictures lie in {layout.test(report.name)}, which is for testing"
        )


def _check_loose(report: ConceptReport, layout: Layout) -> None:
    train, test = layout.train(report.name), layout.test(report.name)
    files = [read_loose(train / "positive_recognitions.json"), read_loose(train / "random_recognitions.json")]
    files += [read_scores(layout.negatives(report.name) / "score.json")]
    if layout.items(report.name).is_file():
        files += [read_loose(test / "vqa.json"), read_loose(test / "text_only.json")]
    for loose in files:
        lost = loose.total - len(loose.items)
        if lost:
            report.doubts.append(f"{loose.path}: {lost} of {loose.total} entries are not understood and left out")


def _shortened(problems: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        groups.setdefault(re.sub(r"'[^']*'|[0-9]+", "", problem), []).append(problem)
    return [line for group in groups.values() for line in _first_of(group)]


def _first_of(group: list[str]) -> list[str]:
    more = len(group) - LISTED
    if more <= 0:
        return group
    return [*group[: LISTED - 1], f"{group[LISTED - 1]} (and {more} more like this)"]
