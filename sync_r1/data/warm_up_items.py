"""What the warm-up of a concept trains on: questions about pictures and from memory, and the pictures to draw.

Published archives hold lists of them (showo_training_data_stage_1 and _3); otherwise the same kinds of items follow
from the concept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_r1.data.concepts import list_concepts, random_images
from sync_r1.data.json_fields import Fields
from sync_r1.data.layout import Layout, resolve_image
from sync_r1.data.phrases import with_article
from sync_r1.data.pictures import list_pictures, verify_images, without_masks
from sync_r1.data.types import QA, TEXT_ONLY, Concept
from sync_r1.data.undocumented_files import picture_of, read_loose
from sync_r1.files import read_json

STAGE_FILE = {1: 1, 2: 1, 3: 3}  # stage 2 reuses the questions of stage 1
ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")


@dataclass(frozen=True)
class TrainingItem:
    """A dialogue about one picture, or from memory (`image` is None)."""

    image: Path | None
    turns: list[QA]


def load_training_items(root: Path | str, concept: Concept, stage: int) -> list[TrainingItem]:
    """The questions of a warm-up stage (1, 2 or 3): those of the published file, else derived from the concept itself.

    Every picture is found by anchors and decoded once, so nothing trains on blanks. Items without a picture, or with
    the black one, are kept as questions from memory and counted in a warning. Raises ValueError naming file, item and
    field.
    """
    if stage not in STAGE_FILE:
        raise ValueError(f"stage is {stage!r}; it must be 1, 2 or 3")
    layout = Layout(Path(root))
    if not layout.info(concept.name).is_file():
        list_concepts(root)  # says more when there is no data root at all
        raise ValueError(
            f"{layout.info(concept.name)}: no concept {concept.name!r} here; name the data root it was read from"
        )
    path = layout.stage(STAGE_FILE[stage], concept.name)
    if path.is_file():
        items = read_stage(layout, path)
    else:
        items = derived_items(layout.root, concept)
    if not items:
        raise ValueError(
            f"{path}: field '(list)' is []; it must hold at least one item, or remove the file to use the concept's own"
        )
    verify_images(dict.fromkeys(item.image for item in items if item.image))
    return items


def cropped_images(root: Path | str, concept: Concept) -> list[Path]:
    """Close-ups to learn drawing from: concept/train/<c>/cropped without masks, else the training photos.

    All are decoded once.
    """
    pictures = without_masks(list_pictures(Layout(Path(root)).cropped(concept.name))) or concept.train_images
    verify_images(pictures)
    return pictures


def read_stage(layout: Layout, path: Path) -> list[TrainingItem]:
    """A showo_training_data file, without opening pictures. Warns how many items have no picture."""
    entries = stage_entries(path)
    items = [TrainingItem(stage_picture(layout, entry), read_turns(entry)) for entry in entries]
    bare = items_without_picture(path, entries)
    if bare:
        warnings.warn(bare, stacklevel=3)
    return items


def stage_entries(path: Path) -> list[Fields]:
    """The items of the file as they are."""
    return Fields(path, {"item": read_json(path)}).objects("item")


def items_without_picture(path: Path, entries: Sequence[Fields]) -> str:
    """A sentence with the count, or ""."""
    bare = sum(not entry.data.get("image") for entry in entries)
    if bare:
        return f"{path}: {bare} of {len(entries)} items have no field 'image'; they train as questions from memory"
    return ""


def derived_items(root: Path, concept: Concept) -> list[TrainingItem]:
    """Questions about each photo, recognition on the photos and on as many other pictures, and questions about info and
    facts.

    Pictures and memory questions of the concept's test items never appear.
    Warns when there is no other picture, as all answers are then "Yes.".
    """
    photos, placeholder = concept.train_images, concept.placeholder
    train = Layout(root).train(concept.name)
    asked = QA(f"Is {placeholder} in this picture?", "Yes.")
    items = [TrainingItem(photo, [qa]) for photo in photos for qa in concept.conversations.get(photo.name, [])]
    items += _recognition(root, train / "positive_recognitions.json", train, photos, asked, concept)
    others = negative_images(root, concept)[: len(photos)]
    denied = QA(asked.question, "No.")
    items += _recognition(root, train / "random_recognitions.json", Layout(root).random_images, others, denied, concept)
    if not others:
        places = f"{Layout(root).random_images} and {Layout(root).negatives(concept.name)}"
        warnings.warn(
            f"concept {concept.name}: no pictures in {places}; recognition only ever learns to say yes", stacklevel=3
        )
    remembered = [
        QA(f"What does {placeholder} look like?", concept.info),
        QA(f"What is {placeholder}?", f"{placeholder} is {with_article(concept.class_noun)}."),
    ]
    if concept.facts:
        remembered.append(QA(f"What do you know about {placeholder}?", " ".join(concept.facts)))
    tested = {item.question for item in concept.items if item.kind == "text_only"}
    remembered = [qa for qa in [*remembered, *concept.conversations.get(TEXT_ONLY, [])] if qa.question not in tested]
    return items + [TrainingItem(None, [qa]) for qa in remembered]


def negative_images(root: Path | str, concept: Concept) -> list[Path]:
    """Pictures of something else that no test item asks about: negative_example and random_images in turns, then what
    is left of either."""
    asked = {item.image for item in concept.items}
    hard = [path for path in list_pictures(Layout(Path(root)).negatives(concept.name)) if path not in asked]
    easy = [path for path in random_images(root) if path not in asked]
    return [path for pair in zip(hard, easy) for path in pair] + hard[len(easy) :] + easy[len(hard) :]


def _recognition(
    root: Path, path: Path, folder: Path, pictures: Sequence[Path], default: QA, concept: Concept
) -> list[TrainingItem]:
    """What the file asks about its own pictures.

    Its questions without a picture (else `default`) take turns over `pictures`.
    """
    loose = read_loose(path)
    held_out = {item.image for item in concept.items}
    items: list[TrainingItem] = []
    phrases = [QA(entry.question, entry.answer) for entry in loose.items if not entry.image]
    for entry in loose.items:
        picture = picture_of(root, folder, entry)
        if picture is not None and picture not in held_out:
            items.append(TrainingItem(picture, [QA(entry.question, entry.answer)]))
    lost = loose.total - len(items) - len(phrases)
    if lost:
        warnings.warn(
            f"{path}: {lost} of {loose.total} entries are not understood or ask about test pictures; left out",
            stacklevel=4,
        )
    if items and not phrases:
        return items
    phrases = phrases or [default]
    return items + [TrainingItem(picture, [phrases[i % len(phrases)]]) for i, picture in enumerate(pictures)]


def stage_picture(layout: Layout, entry: Fields) -> Path | None:
    """The picture of an item; None for a question from memory, which has none or the black one."""
    stored = entry.text("image", default="")
    if not stored or layout.is_black(stored):
        return None
    return resolve_image(layout.root, stored, f"{entry.place}: field 'image'")


def read_turns(entry: Fields) -> list[QA]:
    """Questions and answers must alternate, beginning with a question."""
    turns = [(turn, turn.text("from").lower(), turn.text("value")) for turn in entry.objects("conversations")]
    if not turns or len(turns) % 2:
        raise ValueError(
            f"{entry.place}: field 'conversations' has {len(turns)} turns; it must be pairs of a question and its "
            "answer"
        )
    for number, (turn, speaker, _) in enumerate(turns):
        if speaker not in (ANSWERS if number % 2 else ASKS):
            allowed = "gpt" if number % 2 else "human"
            raise ValueError(f"{turn.place}: field 'from' is {speaker!r}; turns take turns, so it must be {allowed!r}")
    texts = [value.replace("<image>\n", "").replace("<image>", "").strip() for _, _, value in turns]
    if not all(texts):
        raise ValueError(
            f"{entry.place}: field 'conversations[{texts.index('')}]' holds no words besides <image>; write a question"
        )
    return [QA(question, answer) for question, answer in zip(texts[::2], texts[1::2])]
