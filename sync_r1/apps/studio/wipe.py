"""Remove everything about a thing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sync_r1.apps.studio.folder import StudioFolder
from sync_r1.apps.studio.things import ENTRY, TRASH, delete
from sync_r1.config_fields import shown
from sync_r1.data.layout import ID
from sync_r1.files import read_object


@dataclass(frozen=True)
class Wiped:
    """What is gone, and what still tells of the thing."""

    removed: list[Path]
    remains: list[Path]


def wipe(studio: StudioFolder, thing: str) -> Wiped:
    """Remove a thing's photos, drawings, stories, thumbs, chats and runs.

    Lessons of learners stay, as they are about other things, too. ValueError for what is no id, or a run at work.
    """
    if not re.fullmatch(ID, thing):
        raise ValueError(f"{shown(thing)} is no id of a thing; see sync-r1 concept list --data {studio.things}")
    gone = [*studio.runs_of(thing), *_thumbs(studio, thing), *_drawings(studio, thing), *_folders(studio, thing)]
    if thing in studio.names():
        delete(studio, thing)
    gone += [file.parent for file in (studio.things / TRASH).glob(f"*/{ENTRY}") if _about(file, "name", thing)]
    removed = []
    for path in dict.fromkeys(gone):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    remains = []
    for path in sorted(studio.lessons.glob("*.jsonl")):
        if f'"{thing}/' in path.read_text(encoding="utf-8"):
            remains.append(path)
    return Wiped(removed, remains)


def _thumbs(studio: StudioFolder, thing: str) -> list[Path]:
    names = (thing, f"{thing}.jsonl", f".{thing}.jsonl.lock")
    return [studio.feedback / name for name in names if (studio.feedback / name).exists()]


def _drawings(studio: StudioFolder, thing: str) -> list[Path]:
    found = []
    for file in studio.drawings.glob("*.json"):
        if _about(file, "thing", thing):
            found += [file, file.with_suffix(".png")]
    return found


def _folders(studio: StudioFolder, thing: str) -> list[Path]:
    """Stories, comparisons and chats about it."""
    found = [studio.chats / f"{thing}.jsonl"] if (studio.chats / f"{thing}.jsonl").exists() else []
    for folder, name in ((studio.stories, "story.json"), (studio.comparisons, "comparison.json")):
        found += [file.parent for file in folder.glob(f"*/{name}") if _about(file, "thing", thing)]
    return found


def _about(file: Path, key: str, thing: str) -> bool:
    stored = read_object(file)
    return stored is not None and json.dumps(stored.get(key)) == json.dumps(thing)
