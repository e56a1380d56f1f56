"""Your photos and facts → a complete concept in the layout, ready to train and to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sync_r1.config_fields import check_unicode
from sync_r1.constants import CATEGORIES
from sync_r1.data.category import Category, category_of
from sync_r1.data.concepts import display_names, load_concept, random_images
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.names import check_not_everyday, clean_name, make_id, same_name
from sync_r1.data.phrases import drawing_pairs, info_sentence, with_article, with_placeholder, without_article
from sync_r1.data.pictures import (
    HEIC_TYPES,
    PICTURE_TYPES,
    is_picture_name,
    list_folder,
    natural_key,
    subfolders_with_pictures,
    verify_images,
)
from sync_r1.data.types import QA, Concept, Conditions, TestItem
from sync_r1.data.write import write_concept
from sync_r1.files import sha256

_OTHER_PICTURES = (".gif", ".bmp", ".tif", ".tiff", ".svg", ".raw", ".dng")
_SCENES = ("", " at home", " outdoors")
_DENSE_SCENES = (
    "in a sunny garden, soft light, green leaves behind",
    "on a wooden floor, window light, plain wall behind",
)


@dataclass(frozen=True)
class AddedConcept:
    """What was written, and what was changed or left out on the way."""

    concept: Concept
    notes: list[str]


def add_concept_folder(
    root: Path | str,
    name: str,
    pictures: Path | str,
    class_noun: str,
    info: str,
    facts: Sequence[str],
    category: Category | None = None,
    test_fraction: float = 0.2,
    overwrite: bool = False,
    concept_id: str | None = None,
) -> AddedConcept:
    """Write the pictures of a folder, one visual sentence and the private facts as a concept below `root`.

    `name`: as its owner writes it, in any script. `concept_id` names its folders and tokens; by default it is made
    from the name, or numbered where no letters of the name fit. `class_noun`: "dog", "woman", "mug". `info`: "a small
    grey terrier with a folded ear". Facts without the placeholder `<id>` get it (see notes). A fixed
    share of the pictures (at least one, evenly spread) is kept for testing. Nothing appears below `root` unless all of
    it is right. Raises ValueError naming the value, what is allowed and the fix.
    """
    notes: list[str] = []
    display_name = clean_name(name)
    name = _choose_id(Path(root), display_name, concept_id, overwrite, notes)
    noun, sentence = _noun(class_noun), _filled("info", info)
    for called in dict.fromkeys((display_name, name)):
        _check_not_the_noun(called, noun)
    _check_values(name, facts, category, test_fraction)
    sources = _usable_pictures(Path(pictures), notes)
    train, test = _split(sources, test_fraction)
    kind: Category = category or category_of(noun)
    filled = [_filled(f"facts[{number}]", fact) for number, fact in enumerate(facts)]
    placed = [with_placeholder(fact, name, display_name) for fact in filled]
    described = info_sentence(sentence, name, display_name)
    notes += _changes("fact", facts, placed) + _changes("info", [sentence], [described])
    layout = Layout(Path(root))
    train_paths = [layout.train(name) / f"{i}{_kept_type(path)}" for i, path in enumerate(train)]
    test_paths = [layout.test(name) / f"{i}{_kept_type(path)}" for i, path in enumerate(test)]
    pairs = drawing_pairs(placed, name, kind)
    concept = Concept(
        name=name,
        display_name="" if display_name == name else display_name,
        class_noun=noun,
        category=kind,
        info=described,
        facts=placed,
        conversation_type="human" if kind == "person" else kind,
        generation_type="object" if kind == "object" else "live_subject",
        num_testing_info=len(pairs),
        train_images=train_paths,
        test_images=test_paths,
        conversations={path.name: [QA(f"What does <{name}> look like?", described)] for path in train_paths},
        items=_recognition_items(Path(root), name, test_paths, notes),
        conditions=_conditions(pairs, name, noun),
    )
    write_concept(root, concept, dict(zip([*train_paths, *test_paths], [*train, *test])), overwrite=overwrite)
    return AddedConcept(load_concept(root, name), notes)


def check_new_name(root: Path | str, name: str, overwrite: bool = False, concept_id: str | None = None) -> str:
    """The id that a new concept of this name would get below `root`. ValueError for a name that is taken or no name."""
    return _choose_id(Path(root), clean_name(name), concept_id, overwrite, [])


def check_class_noun(name: str, class_noun: str) -> str:
    """The noun in single spaces. ValueError for an empty one, one with an article, or one that is the name."""
    noun = _noun(class_noun)
    _check_not_the_noun(name, noun)
    return noun


def check_sentence(field: str, value: str) -> str:
    """A text in single spaces. ValueError for an empty one; `field` names it."""
    return _filled(field, value)


def _check_not_the_noun(name: str, noun: str) -> None:
    if is_class_noun(name, noun):
        raise ValueError(
            f"concept name {name!r} is also its class noun {noun!r}; choose a name that prompts use for nothing else"
        )


def _check_values(name: str, facts: Sequence[str], category: Category | None, test_fraction: float) -> None:
    if isinstance(facts, str) or not facts:
        raise ValueError(
            f"facts is {facts!r}; give a list of at least one private fact, for example '<{name}> has a green "
            "raincoat.'"
        )
    if category is not None and category not in CATEGORIES:
        raise ValueError(f"category is {category!r}; allowed are {', '.join(CATEGORIES)}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must lie between 0 and 1")


def is_class_noun(name: str, class_noun: str) -> bool:
    """Whether `name` is a word of the class noun, singular or plural, so that texts could not tell the concept from its
    kind.
    """
    letters = _letters(name)
    if not letters:
        return False
    words = [_letters(word) for word in class_noun.split()]
    return any(letters in (word, f"{word}s", f"{word}es") or word in (f"{letters}s", f"{letters}es") for word in words)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _choose_id(root: Path, name: str, wanted: str | None, overwrite: bool, notes: list[str]) -> str:
    """The id of a new concept: the one wanted, that of the concept it replaces, one made from the name, or a number.

    ValueError when the name or the id is taken by another concept, or is a word of every text.
    """
    folder = Layout(root).train_images.parent
    present = []
    if folder.is_dir():
        present = sorted(p.name for p in list_folder(folder) if p.is_dir())
    names = display_names(Layout(root), present)
    namesake = next((other for other in present if same_name(names[other], name) and names[other] != other), None)
    made = wanted or namesake or make_id(name)
    if not made:
        taken = {other.casefold() for other in present}
        made = next(free for number in count(1) if (free := f"concept-{number}") not in taken)
        notes.append(
            f"{name} has the id {made} in folders and tokens, as ASCII letters are needed there; --id chooses another"
        )
    concept_id = validate_name(made)
    warned = dict.fromkeys(filter(None, (check_not_everyday(called) for called in dict.fromkeys((name, concept_id)))))
    notes += warned
    clash = next((other for other in present if other.casefold() == concept_id.casefold()), None)
    replaces = overwrite and clash == concept_id and (wanted is not None or same_name(names[clash], name))
    if namesake not in (None, concept_id):
        raise ValueError(f"concept name {name!r} is taken by {namesake!r} in {folder}; choose another name")
    if clash is not None and not replaces:
        if names[clash] == clash:
            whose = clash
        else:
            whose = f"{names[clash]} ({clash})"
        raise ValueError(
            f"concept name {name!r} is taken by {whose!r} in {folder}; choose another name or overwrite it"
            + ("" if concept_id == name else f", or give another id than {concept_id!r}")
        )
    return concept_id


def _filled(field: str, value: str) -> str:
    text = ""
    if isinstance(value, str):
        text = " ".join(value.split())
    if not text:
        raise ValueError(f"{field} is {value!r}; it must be text that is not empty")
    return check_unicode(text, field)


def _noun(class_noun: str) -> str:
    noun = _filled("class_noun", class_noun)
    if (alone := without_article(noun)) != noun:
        raise ValueError(
            f"class_noun is {noun!r}; prompts put an article of their own before it, so give the noun alone: {alone!r}"
        )
    return noun


def _changes(what: str, given: Sequence[str], kept: Sequence[str]) -> list[str]:
    """One note per text that was changed, and one that the others were not."""
    changed = [(old, new) for old, new in zip(given, kept) if new != " ".join(old.split())]
    notes = [f"{what} {old!r} is kept as {new!r}" for old, new in changed]
    same = len(given) - len(changed)
    if changed and same:
        notes.append(
            f"the other {what} is kept as given" if same == 1 else f"the other {same} {what}s are kept as given"
        )
    return notes


def _kept_type(picture: Path) -> str:
    """The file type under which a picture is kept: as it is, but HEIC becomes JPEG, which every program opens."""
    suffix = picture.suffix.lower()
    if suffix in HEIC_TYPES:
        return ".jpg"
    return suffix


def _usable_pictures(folder: Path, notes: list[str]) -> list[Path]:
    """Readable pictures of the folder without exact copies.

    ValueError for picture types we cannot read, notes for what was left out.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; pictures must be a folder of {', '.join(PICTURE_TYPES)} files")
    kept: dict[str, Path] = {}
    for path in sorted((p for p in list_folder(folder) if p.is_file() and not p.name.startswith(".")), key=natural_key):
        if path.suffix.lower() in _OTHER_PICTURES:
            raise ValueError(
                f"{path}: file type {path.suffix!r} is not supported; convert it to {', '.join(PICTURE_TYPES)}, or "
                "remove it"
            )
        if not is_picture_name(path):
            notes.append(f"left out {path.name}: no picture")
            continue
        verify_images([path])
        digest = sha256(path)
        if digest in kept:
            notes.append(f"left out {path.name}: the same picture as {kept[digest].name}")
        else:
            kept[digest] = path
    if kept:
        below = []
    else:
        below = subfolders_with_pictures(folder)
    if below:
        raise ValueError(
            f"{folder}: its pictures lie in folders of their own: {', '.join(below)}; "
            "name one of these folders, or move the pictures into one"
        )
    if len(kept) < 2:
        raise ValueError(
            f"{folder}: different pictures: {len(kept)}; at least 2 are needed (train, test), 5 to 10 are good"
        )
    return list(kept.values())


def _split(paths: Sequence[Path], test_fraction: float) -> tuple[list[Path], list[Path]]:
    """Every so many-th picture is for testing: neighbours in a folder often come from one moment, so a tail would be a
    biased choice."""
    count = min(len(paths) - 1, max(1, round(len(paths) * test_fraction)))
    chosen = {int((i + 0.5) * len(paths) / count) for i in range(count)}
    return [p for i, p in enumerate(paths) if i not in chosen], [p for i, p in enumerate(paths) if i in chosen]


def _conditions(pairs: Sequence[tuple[str, str]], name: str, noun: str) -> Conditions:
    """Scene by scene all facts, so the last scene (the test prompts) covers every fact in a setting that training has
    not seen.
    """
    scenes = [(implicit + scene, explicit + scene) for scene in _SCENES for implicit, explicit in pairs]
    dense = [
        (f"{implicit}, {scene}", f"{explicit}, {scene}") for implicit, explicit in pairs for scene in _DENSE_SCENES
    ]
    return Conditions(
        dense=[f"A photo of <{name}>, {with_article(noun)}, {scene}." for scene in _DENSE_SCENES],
        implicit=[f"{implicit}." for implicit, _ in scenes],
        explicit=[f"{explicit}." for _, explicit in scenes],
        dense_implicit=[f"{implicit}." for implicit, _ in dense],
        dense_explicit=[f"{explicit}." for _, explicit in dense],
    )


def _recognition_items(root: Path, name: str, test_paths: Sequence[Path], notes: list[str]) -> list[TestItem]:
    question = f"Is <{name}> in this picture?"
    negatives = random_images(root)[: len(test_paths)]
    if not negatives:
        notes.append("no pictures in random_images: recognition is tested on pictures that show the concept only")
    return [TestItem("rec", path, question, "Yes.") for path in test_paths] + [
        TestItem("rec", path, question, "No.") for path in negatives
    ]
