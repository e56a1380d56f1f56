"""Files of the published archive that no public code reads, so that their form is unknown: read what can be understood,
count the rest.

They are positive_recognitions.json, random_recognitions.json, negative_example/score.json and
concept/test/<c>/{text_only,vqa}.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.data.layout import resolve_image
from sync_r1.data.pictures import is_picture_name
from sync_r1.files import read_json

QUESTION_KEYS = ("query", "question", "prompt")
ANSWER_KEYS = ("answer", "response")
IMAGE_KEYS = ("image", "image_path", "img", "path", "file")


@dataclass(frozen=True)
class LooseItem:
    """A question and its answer; `image` is the picture as the file names it, or ""."""

    image: str
    question: str
    answer: str


@dataclass(frozen=True)
class Loose:
    """What was understood of a file, out of `total` entries; an absent file has none."""

    path: Path
    items: list[LooseItem]
    total: int


def picture_of(root: Path, folder: Path, item: LooseItem) -> Path | None:
    """The picture that an item names: a bare file name in `folder`, a path by anchors below `root`.

    None when it is not there.
    """
    if "/" not in item.image.replace("\\", "/"):
        if item.image and os.path.isfile(folder / item.image):
            return folder / item.image
        return None
    try:
        return resolve_image(root, item.image, "")
    except ValueError:
        return None


def read_loose(path: Path) -> Loose:
    """Questions and answers of a list or object of entries in any of these forms; one that cannot be read at all counts
    as one entry.

    {"query" | "question" | "prompt", "answer" | "response"}, {"conversations": [question, answer, …]}, [question,
    answer], each with an optional picture; {picture or group: [entry, …]}; {question: answer}.
    """
    if not path.is_file():
        return Loose(path, [], 0)
    try:
        entries = list(_entries(read_json(path), ""))
    except (ValueError, RecursionError):
        return Loose(path, [], 1)
    return Loose(path, [item for item in entries if item is not None], len(entries))


def read_scores(path: Path) -> Loose:
    """negative_example/score.json: entries that say a number about a picture, as {picture: number} or [{"image",
    "score"}]."""
    if not path.is_file():
        return Loose(path, [], 0)
    try:
        data = read_json(path)
    except ValueError:
        return Loose(path, [], 1)
    if isinstance(data, dict):
        rows = list(data.items())
    elif isinstance(data, list):
        rows = [_score_row(row) for row in data]
    else:
        rows = [("", None)]
    scored = [LooseItem(str(name), "", str(value)) for name, value in rows if name and isinstance(value, (int, float))]
    return Loose(path, scored, len(rows))


def _score_row(row: Any) -> tuple[str, Any]:
    if isinstance(row, dict):
        return (_first(row, IMAGE_KEYS), row.get("score"))
    return ("", None)


def _entries(data: Any, image: str) -> Iterator[LooseItem | None]:
    """Every entry below `data`; None stands for one that is not understood."""
    if isinstance(data, list):
        if len(data) == 2 and all(isinstance(part, str) for part in data) and _asks(data[0]) and not _asks(data[1]):
            yield _item(image, *data)
        else:
            for entry in data:
                yield from _entries(entry, image)
    elif isinstance(data, dict):
        yield from _of_object(data, image)
    else:
        yield None


def _of_object(data: dict[str, Any], image: str) -> Iterator[LooseItem | None]:
    named = _first(data, IMAGE_KEYS) or image
    question, answer, talk = _first(data, QUESTION_KEYS), _first(data, ANSWER_KEYS), data.get("conversations")
    if question or answer:
        yield _item(named, question, answer)
    elif isinstance(talk, list):
        turns = [_first(turn, ("value", "content")) if isinstance(turn, dict) else "" for turn in talk]
        turns = [text.replace("<image>\n", "").replace("<image>", "").strip() for text in turns]
        if not turns or len(turns) % 2:
            yield None
        else:
            yield from (_item(named, *pair) for pair in zip(turns[::2], turns[1::2]))
    else:
        for key, value in data.items():
            if isinstance(value, str) and _asks(key):
                yield _item(named, key, value)
            elif isinstance(value, (list, dict)):
                yield from _entries(value, key if is_picture_name(Path(key)) else named)
            else:
                yield None


def _asks(text: str) -> bool:
    return text.strip().endswith("?")


def _item(image: str, question: str, answer: str) -> LooseItem | None:
    question, answer = question.strip(), answer.strip()
    if question and answer:
        return LooseItem(image, question, answer)
    return None


def _first(data: Any, keys: tuple[str, ...]) -> str:
    return next((data[key] for key in keys if isinstance(data.get(key), str) and data[key]), "")
