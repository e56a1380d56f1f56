"""An edited test set → the layout on disk, checked first: what is tested was not trained, and what is trained is not
tested."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from sync_r1.data import Concept, Conditions, Layout, TestItem, load_image, write_concept
from sync_r1.data.check import ConceptReport, check_concept
from sync_r1.data.pictures import is_picture_name, list_folder, verify_images
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.unifybench.builder.propose import TestSet, read_concept, trained_questions, warm_up_pictures
from sync_r1.unifybench.builder.review_file import read_review
from sync_r1.unifybench.builder.rules import Pair, alike, malformed, normal, repeats, useless

LISTED = 8  # problems listed at once
LOOK_ALIKE = 3  # of 64 bits; photos that differ in fewer are of one moment

Problem = tuple[str, str]  # field, what is wrong with it


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was written, and what should be looked at."""

    concept: Concept
    report: ConceptReport
    doubts: list[str]


def apply_review(path: Path | str, root: Path | str | None = None) -> Applied:
    """Check an edited review file and write its test set. `root` defaults to the folder above the file's own.

    Raises ValueError, with nothing changed, naming line and field of everything that is wrong.
    """
    path = Path(path)
    made, lines = read_review(path)
    if root is not None:
        base = Path(root)
    else:
        base = path.resolve().parent.parent
    found = [(lines.get(field, 1), field, message) for field, message in problems(base, made)]
    if found:
        listed = [f"{path}, line {line}: field {field!r}: {message}" for line, field, message in sorted(found)]
        more = ""
        if len(listed) > LISTED:
            more = f" (and {len(listed) - LISTED} more)"
        raise ValueError("; ".join(listed[:LISTED]) + more)
    return apply_test_set(base, made, path.parent)


def problems(root: Path, made: TestSet) -> list[Problem]:
    """Everything that keeps a test set from being used, by field."""
    concept = read_concept(root, made.concept)
    placeholder = concept.placeholder
    if made.facts != concept.facts:
        return [("facts", f"they are not those of {Layout(root).info(concept.name)}; build again")]
    found = [*_pair_problems(made, placeholder), *_photo_problems(root, concept, made)]
    rows = [("dense", text) for text in made.dense]
    rows = [(f"dense[{number}]", text) for number, (_, text) in enumerate(rows)]
    found += [(field, f"lacks {placeholder}: {text!r}") for field, text in rows if placeholder not in text]
    trained = [text for pair in made.train for text in (pair.implicit, pair.explicit)]
    for field, text in rows:
        if any(alike(text, other, placeholder) for other in trained):
            found.append((field, "is like a training prompt"))
    asked = trained_questions(root, concept)
    for number, qa in enumerate(made.questions):
        if any(normal(qa.question) == normal(other) for other in asked):
            found.append((f"questions[{number}]", f"{qa.question!r} is asked in training"))
    for key, texts in (("questions", [qa.question for qa in made.questions]), ("dense", made.dense)):
        found += [(f"{key}[{i}]", f"repeats {key}[{j}]") for i, j in _repeated(texts)]
    asked_of = [f"{row.photo} {row.question}" for row in made.photo_questions]
    found += [(f"photo_questions[{i}]", f"repeats photo_questions[{j}]") for i, j in _repeated(asked_of)]
    return found


def _pair_problems(made: TestSet, placeholder: str) -> Iterator[Problem]:
    for key in ("train", "test", "dense_pairs"):
        pairs: list[Pair] = getattr(made, key)
        for number, pair in enumerate(pairs):
            if reason := malformed(pair, placeholder):
                yield f"{key}[{number}]", reason
        for i, j in _repeated([pair.implicit for pair in pairs]):
            yield (f"{key}[{i}]", f"repeats the implicit prompt of {key}[{j}]")
        if key != "train":
            copies = (number for number, pair in enumerate(pairs) if repeats(pair, made.train, placeholder))
            yield from (
                (f"{key}[{number}]", "is like a training prompt; change its setting, or take that one out")
                for number in copies
            )
    if len(made.train) < len(made.test):
        yield (
            "train",
            f"{len(made.train)} training pairs for {len(made.test)} test pairs; there must be as many or more, as the "
            "published rule trains on the first half of all",
        )


def _repeated(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for number, text in enumerate(texts):
        known = first.setdefault(normal(text), number)
        if known != number:
            yield number, known


def _photo_problems(root: Path, concept: Concept, made: TestSet) -> Iterator[Problem]:
    layout, used = Layout(root), warm_up_pictures(Layout(root), concept.name)
    train = {path.name: path for path in concept.train_images}
    for number, name in enumerate(made.held_out):
        if name not in train or made.held_out.index(name) != number:
            yield f"held_out[{number}]", f"{name!r} must be a training photo, named once; there are {', '.join(train)}"
        elif train[name] in used:
            yield f"held_out[{number}]", f"{name!r} is in a warm-up list, so it was trained"
    if len(made.held_out) >= len(train):
        yield "held_out", f"all {len(train)} photos are held out; at least one must be left to train on"
    trained = {path for path in concept.train_images if path.name not in made.held_out} | used
    rows = [(f"photo_questions[{i}]", row.photo) for i, row in enumerate(made.photo_questions)]
    rows += [(f"recognition[{i}]", row.photo) for i, row in enumerate(made.recognition)]
    for field, name in rows:
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()) or not is_picture_name(path):
            yield field, f"{name!r} must be a picture below {root}"
        elif path in trained:
            yield field, f"{name!r} is a training photo"
        else:
            try:
                verify_images([path])
            except ValueError as error:
                yield field, str(error)
    shows = {row.photo: row.shows_it for row in made.recognition}
    for number, row in enumerate(made.recognition):
        if shows[row.photo] != row.shows_it:
            yield f"recognition[{number}]", f"{row.photo!r} is said to show it and not to show it"
        elif not row.shows_it and (root / row.photo).parent == layout.test(concept.name):
            yield (
                f"recognition[{number}]",
                f"{row.photo!r} is a test photo of the concept, which are what drawings are compared with",
            )


def doubts(concept: Concept, made: TestSet) -> list[str]:
    """What is allowed but probably not meant."""
    found = [
        f"{key}[{number}]: {reason}"
        for key, pairs in (("test", made.test), ("dense_pairs", made.dense_pairs))
        for number, pair in enumerate(pairs)
        if (reason := useless(pair, concept.facts, concept.placeholder))
    ]
    if not made.test:
        found.append("test: there is no pair, so rea and rea_gen cannot run")
    if len({row.shows_it for row in made.recognition}) == 1:
        found.append("recognition: all pictures have the same answer")
    return found


def look_alikes(train: Sequence[Path], test: Sequence[Path]) -> list[str]:
    """Test photos that look nearly like a training photo, by the signs of 64 brightness differences between
    neighbours."""
    known = {path: _outline(path) for path in [*train, *test]}
    pairs = ((one, other) for one in test for other in train if (known[one] ^ known[other]).bit_count() <= LOOK_ALIKE)
    return [f"{one.name}: looks nearly like the training photo {other.name}" for one, other in pairs]


def _outline(path: Path) -> int:
    small = load_image(path).convert("L").resize((9, 8), Image.Resampling.BILINEAR)
    values = small.tobytes()
    bits = (values[9 * y + x] < values[9 * y + x + 1] for y in range(8) for x in range(8))
    return sum(bit << place for place, bit in enumerate(bits))


def apply_test_set(root: Path, made: TestSet, backup: Path) -> Applied:
    """Write a checked test set; the files it replaces are copied to `<backup>/<concept>-before/` first, unless copies
    are there.

    Either all of it is written or nothing.
    """
    old = read_concept(root, made.concept)
    layout, name = Layout(root), made.concept
    _keep_old(layout, name, backup)
    moved = _moves(layout, old, made.held_out)
    held = set(made.held_out)
    pairs = [*made.train, *made.test]
    new = replace(
        old,
        train_images=[path for path in old.train_images if path.name not in held],
        test_images=[*old.test_images, *moved.values()],
        conversations={key: talk for key, talk in old.conversations.items() if key not in held},
        items=_items(root, made, moved),
        num_testing_info=len(made.test),
        conditions=Conditions(
            dense=made.dense,
            implicit=[pair.implicit for pair in pairs],
            explicit=[pair.explicit for pair in pairs],
            dense_implicit=[pair.implicit for pair in made.dense_pairs],
            dense_explicit=[pair.explicit for pair in made.dense_pairs],
        ),
    )
    gone = [other for path in moved for other in _with_crops(layout, name, path)]
    write_concept(
        root, new, {target: source for source, target in moved.items()}, overwrite=True, keep=True, leave_out=gone
    )
    report = check_concept(layout, name)
    return Applied(
        concept=new, report=report, doubts=[*doubts(new, made), *look_alikes(new.train_images, new.test_images)]
    )


def _moves(layout: Layout, concept: Concept, held_out: Sequence[str]) -> dict[Path, Path]:
    """Training photo → its place among the test photos, numbered after those there."""
    sources = [layout.train(concept.name) / name for name in held_out]
    numbers = [int(path.stem) for path in concept.test_images if path.stem.isdecimal()]
    start = max(numbers, default=-1) + 1
    return {path: layout.test(concept.name) / f"{start + i}{path.suffix.lower()}" for i, path in enumerate(sources)}


def _with_crops(layout: Layout, name: str, photo: Path) -> list[Path]:
    """A photo, its close-up and its masks: all of them show what must not be trained."""
    folders = [folder for folder in (photo.parent, layout.cropped(name)) if folder.is_dir()]
    stems = (photo.stem, f"{photo.stem}_mask")
    return [path for folder in folders for path in list_folder(folder) if path.stem in stems and is_picture_name(path)]


def _items(root: Path, made: TestSet, moved: dict[Path, Path]) -> list[TestItem]:
    def place(photo: str) -> Path:
        return moved.get(root / photo, root / photo)

    asked = RECOGNITION_QUESTION.format(name=f"<{made.concept}>")
    items = [TestItem("rec", place(row.photo), asked, "Yes." if row.shows_it else "No.") for row in made.recognition]
    items += [TestItem("vqa", place(row.photo), row.question, row.answer) for row in made.photo_questions]
    return items + [TestItem("text_only", None, qa.question, qa.answer) for qa in made.questions]


def _keep_old(layout: Layout, name: str, backup: Path) -> None:
    folder = backup / f"{name}-before"
    files = {
        layout.conditions(name): "",
        layout.items(name): "test_data-",
        layout.info(name): "",
        layout.conversations(name): "",
    }
    if not folder.exists():
        folder.mkdir(parents=True)
        for path, prefix in files.items():
            if path.is_file():
                shutil.copyfile(path, folder / f"{prefix}{path.name}")
