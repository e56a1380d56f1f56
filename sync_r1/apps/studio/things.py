"""Things: shown as cards, checked field by field, saved all or nothing, deleted with a way back."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sync_r1.apps.studio.folder import StudioFolder, new_id
from sync_r1.apps.studio.uploads import stage_photos
from sync_r1.data import AddedConcept, Concept, Layout, add_concept_folder
from sync_r1.data.add import check_class_noun, check_new_name, check_sentence
from sync_r1.files import read_json, write_json
from sync_r1.folder_lock import hold

TRASH = ".trash"
ENTRY = "entry.json"  # what the lists of the data root said about a thing in the trash
LONGEST_FACT = 300
EXAMPLE = "bo"  # of the embedded world
WAIT_S = 30.0


@dataclass(frozen=True)
class Form:
    """What a person typed about a thing."""

    name: str = ""
    class_noun: str = ""
    info: str = ""
    facts: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)  # uploaded files
    source: str = ""  # the thing whose pictures are taken where none were uploaded
    replaces: str = ""  # the thing that is changed, or ""


@dataclass(frozen=True)
class Card:
    """A thing at one glance."""

    concept: Concept
    photos: int
    known_since: str  # "not trained yet", or which run


def cards(studio: StudioFolder) -> list[Card]:
    """All things that can be read."""
    found = []
    for name in studio.names():
        try:
            concept = studio.thing(name)
        except ValueError:  # `sync-r1 data check` says what is wrong with it
            continue
        known = studio.weights(name)[0].label
        found.append(Card(concept, len(concept.train_images) + len(concept.test_images), known))
    return found


def split_facts(text: str) -> list[str]:
    """One fact a line; empty lines count for nothing."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def problems(studio: StudioFolder, form: Form) -> dict[str, str]:
    """Field → what is wrong with what was typed there, of the fields that are not right. Pictures are not looked at."""
    checks = {
        "name": lambda: check_new_name(studio.things, form.name, bool(form.replaces), form.replaces or None),
        "class_noun": lambda: check_class_noun(form.name, form.class_noun),
        "info": lambda: check_sentence("the description", form.info),
        "facts": lambda: check_facts(form.facts),
    }
    found = {}
    for name, check in checks.items():
        try:
            check()
        except ValueError as error:
            found[name] = str(error)
    if not form.pictures and not form.source:
        found["pictures"] = "there are no pictures yet; bring at least 2, of which 5 to 10 are good"
    return found


def check_facts(facts: Sequence[str]) -> None:
    """ValueError for none, or for one that is too long."""
    if not facts:
        raise ValueError("there is no private fact yet; write at least one, for example: it has a green raincoat")
    for number, fact in enumerate(facts, 1):
        check_sentence(f"fact {number}", fact)
        if len(fact) > LONGEST_FACT:
            raise ValueError(f"fact {number} has {len(fact)} letters; at most {LONGEST_FACT} are kept, so shorten it")


def save(studio: StudioFolder, form: Form) -> AddedConcept:
    """Write a thing, whole or not at all. ValueError with what is wrong, the first field first."""
    wrong = problems(studio, form)
    if wrong:
        raise ValueError(next(iter(wrong.values())))
    with _staged(studio, form) as (folder, names):
        try:
            added = add_concept_folder(
                studio.things,
                form.name,
                folder,
                form.class_noun,
                form.info,
                form.facts,
                overwrite=bool(form.replaces),
                concept_id=form.replaces or None,
            )
        except ValueError as error:
            raise ValueError(_plain(str(error).replace(f"{folder}: ", "the pictures: "), names)) from error
    return AddedConcept(added.concept, [_plain(note, names) for note in added.notes])


@contextmanager
def _staged(studio: StudioFolder, form: Form) -> Iterator[tuple[Path, dict[str, str]]]:
    """The pictures of a form in a folder of their own, and their owner's names."""
    studio.temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="photos-", dir=studio.temporary) as place:
        folder = Path(place)
        if form.pictures:
            names = dict(stage_photos(form.pictures, folder))
        else:
            names = {}
            concept = studio.thing(form.source)
            for number, path in enumerate([*concept.train_images, *concept.test_images], 1):
                shutil.copy(path, folder / f"{number}{path.suffix}")
        yield folder, names


def _plain(text: str, names: dict[str, str]) -> str:
    """A message with the owner's names of the pictures."""
    return re.sub(r"\d+\.(?:png|jpg)\b", lambda found: names.get(found[0], found[0]), text)


def form_of(studio: StudioFolder, name: str, copy: bool = False) -> Form:
    """The form of a thing that is there, to change it or, with `copy`, to make another from it."""
    concept = studio.thing(name)
    mark = concept.placeholder
    return Form(
        name="" if copy else concept.called,
        class_noun=concept.class_noun,
        info=concept.info.replace(mark, "it"),
        facts=[fact.replace(mark, "it") for fact in concept.facts],
        source=name,
        replaces="" if copy else name,
    )


def add_example(studio: StudioFolder) -> str:
    """Put a thing of the embedded world here, to try everything with. Returns its id."""
    from sync_r1.world.export import export_world

    if EXAMPLE not in studio.names():
        export_world(studio.things, [EXAMPLE])
    return EXAMPLE


# away and back


def parts(layout: Layout, name: str) -> list[Path]:
    """The files and folders that belong to one thing alone."""
    return [path for path in (layout.test(name), layout.items(name), layout.train(name)) if path.exists()]


def delete(studio: StudioFolder, name: str) -> str:
    """Move a thing to the trash. Returns the id by which it can be put back."""
    studio.thing(name)
    layout, key = Layout(studio.things), new_id()
    trash = studio.things / TRASH / key
    with hold(studio.things, wait_s=WAIT_S):
        index = read_json(layout.train_images)
        names = read_json(layout.concepts_list)
        entry = {"name": name, "pictures": index.pop(name, None), "deleted": datetime.now().isoformat()}
        write_json(trash / ENTRY, entry)
        for path in reversed(parts(layout, name)):  # the training folder, which makes it count as there, goes first
            _move(path, trash / path.relative_to(layout.root))
        write_json(layout.train_images, index)
        write_json(layout.concepts_list, [one for one in names if one != name])
    return key


def last_deleted(studio: StudioFolder) -> tuple[str, str]:
    """The id and the name of what was deleted last; two empty texts where there is nothing."""
    found = sorted((studio.things / TRASH).glob(f"*/{ENTRY}"), reverse=True)
    if not found:
        return "", ""
    return found[0].parent.name, str(read_json(found[0])["name"])


def put_back(studio: StudioFolder, key: str) -> str:
    """Put back what `delete` took away. Returns the thing's id. ValueError where its name is taken by now."""
    layout = Layout(studio.things)
    trash = studio.below(studio.things / TRASH, key)
    entry = read_json(trash / ENTRY)
    name = str(entry["name"])
    if name in studio.names():
        raise ValueError(f"another thing is called {name} by now; rename or delete it first")
    with hold(studio.things, wait_s=WAIT_S):
        for path in sorted(parts(Layout(trash), name), key=lambda path: "train" in path.parts):
            _move(path, layout.root / path.relative_to(trash))
        index, names = read_json(layout.train_images), read_json(layout.concepts_list)
        if entry["pictures"] is not None:
            write_json(layout.train_images, {**index, name: entry["pictures"]})
        write_json(layout.concepts_list, [*names, name])
    shutil.rmtree(trash, ignore_errors=True)
    return name


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def export_zip(studio: StudioFolder, name: str) -> Path:
    """The thing's files as one archive in the temporary folder."""
    studio.thing(name)
    layout, buffer = Layout(studio.things), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts(layout, name):
            files = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
            for path in files:
                archive.write(path, path.relative_to(layout.root))
    target = studio.temporary / "downloads" / f"{name}.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    return target


def details(concept: Concept) -> dict[str, Any]:
    """What is known about a thing, as its owner reads it."""
    return {
        "name": concept.called,
        "kind": concept.class_noun,
        "looks": concept.info.replace(concept.placeholder, concept.called),
        "facts": [fact.replace(concept.placeholder, concept.called) for fact in concept.facts],
    }
