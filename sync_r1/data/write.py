"""The writer of the UniCTokens / UnifyBench++ layout, exact inverse of the reader in `concepts.py`.

Files are staged in a hidden folder, read back and compared before anything appears; the training folder, which makes a
concept count as present, is moved in last. One process at a time moves its files in, so that concepts added at once all
come into the lists that they share.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.data.concepts import soft_problems
from sync_r1.data.json_fields import Fields
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.pictures import (
    PICTURE_TYPES,
    is_picture_name,
    list_folder,
    list_pictures,
    load_image,
    verify_images,
    without_masks,
)
from sync_r1.data.read import read_layout
from sync_r1.data.types import CONDITION_KEYS, Concept, Conditions, TestItem
from sync_r1.file_errors import writing
from sync_r1.files import read_json, write_bytes, write_json
from sync_r1.folder_lock import hold

Picture = Image.Image | Path  # pixels in memory, or a file to copy
WAIT_S = 60.0  # for another process that writes to the same data: it holds the lock while it renames folders
INSTEAD = "write to another folder"
ARCHIVE_NAME = "unictokens_data"  # what other readers of the layout look for in stored paths
FORMATS = {  # file ending → Pillow's name of the format
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
}
QUALITY = 95  # of pictures that are written as JPEG


def write_root(root: Path | str, random_images: Sequence[Picture] = ()) -> None:
    """Write what a data root has beside its concepts, unless it is there: the two lists, template.json, the black
    image, easy negatives.

    `random_images` become random_images/0.png …; given ones replace files of the same number.
    """
    with hold(Path(root), INSTEAD, WAIT_S):
        _write_root(Layout(Path(root)), random_images)


def _write_root(layout: Layout, random_images: Sequence[Picture] = ()) -> None:
    layout.random_images.mkdir(parents=True, exist_ok=True)
    layout.train_images.parent.mkdir(parents=True, exist_ok=True)
    for path, empty in (
        (layout.concepts_list, []),
        (layout.train_images, _photos_present(layout)),
        (layout.template, {}),
    ):
        if not path.exists():
            _write(path, empty)
    if not layout.black_image.exists():
        _write_picture(layout.black_image, Image.new("RGB", (512, 512)))
    for number, picture in enumerate(random_images):
        _write_picture(layout.random_images / f"{number}.png", picture)


def _photos_present(layout: Layout) -> dict[str, list[str]]:
    """The index as a reader without one sees it, so that a new index with one concept does not hide the photos of the
    others.
    """
    folders = [path.parent for path in sorted(layout.train_images.parent.glob("*/info.json"))]
    found: dict[str, list[str]] = {}
    for folder in folders:
        found[folder.name] = [path.name for path in without_masks(list_pictures(folder))]
    return found


def write_concept(
    root: Path | str,
    concept: Concept,
    pictures: Mapping[Path, Picture] | None = None,
    *,
    overwrite: bool = False,
    keep: bool = False,
    leave_out: Sequence[Path] = (),
) -> None:
    """Write one concept so that `load_concept(root, concept.name)` gives an equal value.

    The paths in `concept` say where its pictures will lie (`Layout(root).train(name)/"0.png"`, …); `pictures` maps such
    a path to pixels or to a file to copy (converted where the types differ), and paths it lacks must exist. Pictures of
    test items may lie anywhere below `root`; pictures for cropped/ and negative_example/ of the concept need no field
    that names them. With `keep`, files of a replaced concept that no field names stay, but for those to `leave_out`.
    Raises ValueError, with nothing changed, when the concept is there and `overwrite` is False, or when it would not
    read back equal.
    """
    root = Path(root)
    layout = Layout(root)
    validate_name(concept.name)
    check_free(root, concept.name, overwrite)
    new = not root.exists()
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{concept.name}-", dir=root))
    try:
        if keep:
            _carry_over(concept.name, layout, Layout(stage), leave_out)
        _stage(concept, layout, Layout(stage), pictures or {})
        _check(concept, layout, stage)
        with hold(root, INSTEAD, WAIT_S):
            check_free(root, concept.name, overwrite)  # another process may have taken the name meanwhile
            _write_root(layout)
            _move_in(concept, layout, stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if new:
            with suppress(OSError):  # something lies in it by now
                root.rmdir()


def check_free(root: Path, name: str, overwrite: bool) -> None:
    """No other concept may carry the name, not even in other letter case: some file systems hold only one of the
    two."""
    folder = Layout(root).train(name).parent
    present = []
    if folder.is_dir():
        present = [path.name for path in list_folder(folder) if path.is_dir()]
    clash = next((other for other in present if other.casefold() == name.casefold() and other != name), None)
    if clash or (name in present and not overwrite):
        raise ValueError(
            f"concept name {name!r} is taken by {clash or name!r} in {folder}; choose another name or overwrite it"
        )


def _carry_over(name: str, layout: Layout, staged: Layout, leave_out: Sequence[Path]) -> None:
    gone = set(leave_out)
    for part in (Layout.train, Layout.test):
        if part(layout, name).is_dir():
            shutil.copytree(
                part(layout, name),
                part(staged, name),
                ignore=lambda folder, names: {n for n in names if Path(folder) / n in gone},
            )


def _stage(concept: Concept, layout: Layout, staged: Layout, pictures: Mapping[Path, Picture]) -> None:
    name, own = concept.name, (layout.train(concept.name), layout.test(concept.name))
    staged.train(name).mkdir(parents=True, exist_ok=True)
    staged.test(name).mkdir(parents=True, exist_ok=True)
    used = dict.fromkeys(
        [*concept.train_images, *concept.test_images, *(item.image for item in concept.items if item.image)]
    )
    beside = (layout.negatives(name), layout.cropped(name))  # read as folders, so no field names what lies there
    used |= dict.fromkeys(path for path in pictures if path.parent in beside)
    for path in pictures:
        if path not in used:
            raise ValueError(f"{path}: a picture was given for this path, but no field of concept {name!r} uses it")
    for path in used:
        if ".." in path.parts:
            raise ValueError(f"{path}: the path of a picture must not hold '..'")
        if any(path.is_relative_to(folder) for folder in own):
            _write_picture(staged.root / path.relative_to(layout.root), pictures.get(path, path))
        elif not path.is_relative_to(layout.root) or path in pictures:
            raise ValueError(
                f"{path}: pictures must lie below {own[0]} or {own[1]}, or exist below {layout.root} already"
            )
    named = {}
    if concept.display_name:
        named = {"display_name": concept.display_name}
    info = {
        **named,
        "class": concept.class_noun,
        "info": concept.info,
        "extra_info": concept.facts,
        "conversation_type": concept.conversation_type,
        "generation_type": concept.generation_type,
        "num_testing_info": concept.num_testing_info,
        "category": concept.category,
    }
    talks = {}
    for key, talk in concept.conversations.items():
        talks[key] = [{"query": qa.question, "answer": qa.answer} for qa in talk]
    _write(staged.info(name), info)
    _write(staged.conversations(name), talks)
    _write(staged.conditions(name), _conditions_json(concept.conditions))
    _write(staged.items(name), [_item_json(item, layout.root) for item in concept.items])
    _write(staged.train_images, {name: [path.name for path in concept.train_images]})


def _conditions_json(conditions: Conditions) -> Any:
    if conditions.legacy:
        return conditions.plain
    return {key: getattr(conditions, field) for field, key in CONDITION_KEYS.items()}


def _item_json(item: TestItem, root: Path) -> dict[str, Any]:
    if item.kind == "text_only":
        question = item.question
    else:
        question = f"<image>\n{item.question}"
    image = {}
    if item.image:
        image = {"image": f"{ARCHIVE_NAME}/{item.image.relative_to(root).as_posix()}"}
    return {
        "type": item.kind,
        **image,
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": item.answer}],
    }


def _check(concept: Concept, layout: Layout, stage: Path) -> None:
    """Read the staged files back: their own pictures must decode, every field must be equal."""

    def final(path: Path) -> Path:
        if path.is_relative_to(stage):
            return layout.root / path.relative_to(stage)
        return path

    try:
        seen = read_layout(Layout(stage), concept.name, pictures_root=layout.root)
        staged = [path for path in sorted(stage.rglob("*")) if path.is_file() and is_picture_name(path)]
        verify_images(dict.fromkeys([*staged, *(item.image for item in seen.items if item.image)]))
    except ValueError as error:
        raise ValueError(str(error).replace(str(stage), str(layout.root))) from error
    seen = replace(
        seen,
        train_images=[final(path) for path in seen.train_images],
        test_images=[final(path) for path in seen.test_images],
        items=[replace(item, image=final(item.image)) if item.image else item for item in seen.items],
    )
    for field in fields(concept):
        given, read = getattr(concept, field.name), getattr(seen, field.name)
        if given != read:
            raise ValueError(
                f"concept {concept.name!r}: field {field.name!r} is {given!r} but would be read back as {read!r}"
            )
    problems = soft_problems(concept)
    if problems:
        raise ValueError(
            f"concept {concept.name!r}: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        )


def _move_in(concept: Concept, layout: Layout, stage: Path) -> None:
    """Move the staged parts to their places, the training folder last; on an error put back what was there."""
    name, staged = concept.name, Layout(stage)
    undo: list[Callable[[], object]] = []
    lists = {path: path.read_bytes() for path in (layout.train_images, layout.concepts_list)}
    try:
        for number, part in enumerate((Layout.test, Layout.items, Layout.train)):
            source, target = part(staged, name), part(layout, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if part is Layout.train:
                undo += [partial(write_bytes, path, content) for path, content in lists.items()]
                _add_to_lists(layout, concept)
            if target.exists():
                old = stage / f"old-{number}"
                os.rename(target, old)
                undo.append(partial(os.rename, old, target))
            os.rename(source, target)
            undo.append(partial(os.rename, target, source))
    except BaseException:
        for step in reversed(undo):
            step()
        raise


def _add_to_lists(layout: Layout, concept: Concept) -> None:
    index = Fields(layout.train_images, read_json(layout.train_images)).data
    names = Fields(layout.concepts_list, {"(list)": read_json(layout.concepts_list)}).strings(
        "(list)", allow_empty=True
    )
    _write(layout.train_images, {**index, concept.name: [path.name for path in concept.train_images]})
    _write(layout.concepts_list, [*names, *([] if concept.name in names else [concept.name])])


def _write(path: Path, data: Any) -> None:
    """Write JSON. ValueError for half a character, which no file takes."""
    try:
        write_json(path, data)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path.name}: a text holds half a character ({error.reason}), which no file takes; write it again"
        ) from error


def _write_picture(path: Path, picture: Picture) -> None:
    if not is_picture_name(path):
        raise ValueError(
            f"{path}: file type {path.suffix or 'without ending'!r} is not supported; allowed are "
            f"{', '.join(PICTURE_TYPES)}"
        )
    if isinstance(picture, Path) and not picture.is_file():
        raise ValueError(f"{picture}: no such picture")
    if isinstance(picture, Path) and picture.suffix.lower() == path.suffix.lower():
        write_bytes(path, picture.read_bytes())
        return
    encoded = io.BytesIO()
    if isinstance(picture, Path):
        pixels = load_image(picture)
    else:
        pixels = picture
    pixels.save(encoded, FORMATS[path.suffix.lower()], quality=QUALITY)
    write_bytes(path, encoded.getvalue())
