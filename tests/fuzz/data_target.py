"""The data reader and writer on broken concept folders, photo folders and arguments."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from sync_r1.data.add import AddedConcept, add_concept_folder
from sync_r1.data.check import RootReport, check_root
from sync_r1.data.concepts import list_concepts, load_concept, random_images
from sync_r1.data.layout import Layout
from sync_r1.data.pictures import load_image
from sync_r1.data.types import Concept
from sync_r1.data.warm_up_items import cropped_images, load_training_items, negative_images
from sync_r1.data.write import write_concept, write_root
from tests.data.concept_samples import picture, sample_concept, sample_pictures
from tests.fuzz.guard import Refused, attempt, bounded, snapshot, watched
from tests.fuzz.mutations import (
    NAMES,
    Random,
    displace,
    files_of,
    fresh_copy,
    hostile_value,
    mutate_bytes,
    mutate_json_file,
    mutate_picture,
    mutate_tree,
)

ARGUMENTS = ("concept name", "concept id", "class_noun", "info", "facts", "category", "test_fraction", "pictures")
TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]
LOOSE = {
    "concept/train/zed/positive_recognitions.json": [
        {"query": "Is <zed> here?", "answer": "Yes."},
        {"image": "0.png", "conversations": TALK},
    ],
    "concept/train/zed/random_recognitions.json": {"0.png": [["Is <zed> here?", "No."]]},
    "concept/train/zed/negative_example/score.json": {"0.png": 0.4, "1.png": 0.3},
    "concept/test/zed/vqa.json": {"0.png": [{"question": "What is on the floor?", "answer": "A rug."}]},
    "concept/test/zed/text_only.json": [{"question": "Who is <zed>?", "answer": "A dog."}],
    "showo_training_data_stage_1/zed.json": [
        {"image": "unictokens_data/concept/train/zed/0.png", "conversations": TALK}
    ],
    "showo_training_data_stage_3/zed.json": [{"image": "unictokens_data/random_images/0.png", "conversations": TALK}],
}


class DataTarget:
    """Reads a broken data root in every way there is, or adds a concept with broken photos, names and facts."""

    name = "data"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base, self.photos, self.outside = folder / "base", folder / "base_photos", folder / "outside"
        write_root(self.base, [picture(9), picture(99)])
        concept = sample_concept(self.base)
        write_concept(self.base, concept, sample_pictures(concept))
        for name, content in LOOSE.items():
            path = self.base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        for place in ("cropped", "negative_example"):
            (Layout(self.base).train("zed") / place).mkdir(exist_ok=True)
            picture(130).save(Layout(self.base).train("zed") / place / "0.png")
        self.photos.mkdir()
        for number in range(4):
            picture(number * 50).save(self.photos / f"{number}.png")
        picture(7).save(self.photos / "4.jpg")
        picture(8).save(self.photos / "5.webp")
        self.outside.mkdir()
        (self.outside / "secret.txt").write_text("kept")

    def run(self, r: Random) -> bool:
        """One input. Returns whether it was refused."""
        return self._read(r) if r.random() < 0.7 else self._write(r)

    def _read(self, r: Random) -> bool:
        root = fresh_copy(self.base, self.folder / "root")
        for _ in range(r.choice((1, 1, 1, 2, 3))):
            break_root(r, root, self.outside)
        name = r.choice(NAMES) if r.random() < 0.05 else "zed"
        before = snapshot(self.folder)
        with watched([]), bounded():
            refused = read_everything(root, name)
        assert snapshot(self.folder) == before, "reading changed a file"
        return refused

    def _write(self, r: Random) -> bool:
        root, photos = fresh_copy(self.base, self.folder / "root"), fresh_copy(self.photos, self.folder / "photos")
        for _ in range(r.choice((0, 1, 2))):
            break_photos(r, photos, self.outside)
        if r.random() < 0.2:
            break_root(r, root, self.outside)
        before, other = snapshot(root), snapshot(photos) | snapshot(self.outside)
        with watched([root]), bounded():
            got = add_something(r, root, photos) if r.random() < 0.6 else write_something(r, root)
        assert snapshot(photos) | snapshot(self.outside) == other, "writing changed its source"
        after = snapshot(root)
        if isinstance(got, Refused):
            assert after == before, (
                f"refused ({got.message:.200}), but changed {sorted(set(after.items()) ^ set(before.items()))[:3]}"
            )
        assert not [name for name in after if name.split("/")[0].startswith(".") and name not in before], (
            "left its working folder behind"
        )
        return isinstance(got, Refused)


def read_everything(root: Path, name: str) -> bool:
    """Every way to read a root; whether the concept was refused.

    What reads must lie below the root, and `data check` must agree.
    """
    names = [str(root), "stage is"]
    attempt(names, list_concepts, root)
    attempt(names, random_images, root)
    report = attempt(names, check_root, root)
    concept = attempt([*names, "concept id"], load_concept, root, name, allow_empty_facts=True)
    if isinstance(concept, Refused):
        sound = isinstance(report, RootReport) and [c for c in report.concepts if c.name == name and not c.errors]
        assert not sound, f"data check finds nothing wrong, but {concept.message}"
        return True
    assert isinstance(concept, Concept)
    found = [*concept.train_images, *concept.test_images, *(item.image for item in concept.items if item.image)]
    for stage in (1, 2, 3):
        items = attempt(names, load_training_items, root, concept, stage)
        found += [] if isinstance(items, Refused) else [item.image for item in items if item.image]
    for pictures in (attempt(names, cropped_images, root, concept), attempt(names, negative_images, root, concept)):
        found += [] if isinstance(pictures, Refused) else pictures
    for path in dict.fromkeys(found):
        assert Path(os.path.abspath(path)).is_relative_to(root), f"{path} lies outside"
        attempt(names, load_image, path)
    return isinstance(report, Refused) or bool(report.errors or any(c.errors or c.doubts for c in report.concepts))


def break_root(r: Random, root: Path, outside: Path) -> None:
    action, texts, pictures = r.random(), files_of(root, ".json"), files_of(root, ".png", ".jpg")
    if action < 0.6:
        mutate_json_file(r, r.choice(texts))
    elif action < 0.75:
        mutate_picture(r, r.choice(pictures))
    elif action < 0.9:
        displace(r, r.choice([*texts, *pictures]), outside)
    else:
        break_folder(
            r, r.choice(sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())), outside
        )


def break_folder(r: Random, folder: Path, outside: Path) -> None:
    """The folder is gone, a file, a link; or holds things of odd kinds and names."""
    action = r.randrange(6)
    if action < 4:
        shutil.rmtree(folder)
        (lambda: None, folder.touch, lambda: folder.symlink_to(outside), lambda: folder.symlink_to(folder))[action]()
    elif action == 4:
        os.mkfifo(folder / "9.png")
        (folder / "info.json").mkdir(exist_ok=True) if not (folder / "info.json").exists() else None
        (folder / "8.png").symlink_to("/dev/zero")
    else:
        for name in ("Zed", "\u202e.png", "a" * 250, "new\nline.jpg", os.fsdecode(b"\xff\xfe.png"), " ", "७.png"):
            (folder / name).mkdir(exist_ok=True) if r.random() < 0.5 else (folder / name).touch()


def break_photos(r: Random, photos: Path, outside: Path) -> None:
    pictures = files_of(photos, ".png", ".jpg", ".webp")
    action = r.randrange(5)
    if not pictures or action == 0:
        names = ("a.gif", "b.txt", "c.png", "d.JPEG", "e\n.png", os.fsdecode(b"\xff.png"), "f" * 200 + ".png")
        (photos / r.choice(names)).write_bytes(b"GIF89a")
    elif action == 1:
        displace(r, r.choice(pictures), outside)
    elif action == 2:
        r.choice(pictures).write_bytes(mutate_bytes(r, r.choice(pictures).read_bytes()))
    else:
        mutate_picture(r, r.choice(pictures))


def add_something(r: Random, root: Path, photos: Path) -> AddedConcept | Refused:
    """`add_concept_folder`, half of the time with one argument that is none."""
    given: dict[str, Any] = {
        "name": "bo",
        "class_noun": "dog",
        "info": "a small terrier",
        "facts": ["has a green raincoat.", "sleeps."],
    }
    given |= {"category": None, "test_fraction": 0.2, "overwrite": r.random() < 0.3}
    if r.random() < 0.2:
        given["name"] = "zed"
    if r.random() < 0.6:
        field = r.choice(("name", "class_noun", "info", "facts", "category", "test_fraction"))
        texts = (*NAMES, "x" * 100_000, "🐕", "<", "\x1b[2J", "bo", "<bo>", "<zed>", "<token_0>")
        given[field] = {
            "facts": lambda: r.choice(
                ([], "has one", [r.choice(texts)], ["ok", hostile_value(r)], [r.choice(texts)] * 50, None)
            ),
            "category": lambda: r.choice(("", "plant", "Person", 3)),
            "test_fraction": lambda: r.choice((0, 1, -1, 2.0, float("nan"), float("inf"), 1e-9, 1 - 1e-9)),
        }.get(field, lambda: r.choice(texts))()
    return attempt([str(root), str(photos), *ARGUMENTS, ".json"], add_concept_folder, root, pictures=photos, **given)


def write_something(r: Random, root: Path) -> Refused | None:
    """`write_concept` of a valid concept with one broken field; one that is written must read back equal."""
    concept = sample_concept(root)
    texts = (*NAMES, "x" * 100_000, " padded ", "<image>", "a\nb", "\u2028")
    text = r.choice(texts)
    layout = Layout(root)
    changed: dict[str, Any] = r.choice((
        {"name": text}, {"class_noun": text}, {"info": text}, {"facts": [text]}, {"facts": []},
        {"num_testing_info": r.choice((-1, 7, 6, 2**70))}, {"generation_type": text}, {"conversation_type": text},
        {"category": text}, {"train_images": []}, {"train_images": [layout.train("zed") / text.replace("\0", "")]},
        {"test_images": [root / ".." / "escaped.png"]},
        {"test_images": [layout.test("zed") / "../../../../escaped.png"]},
        {"conversations": {text: concept.conversations["10.jpg"]}},
        {"items": [dataclasses.replace(concept.items[0], question=text)]},
        {"items": [dataclasses.replace(concept.items[0], answer=text)]},
        {"items": [dataclasses.replace(concept.items[0], image=layout.root / "../outside/secret.txt")]},
        {"conditions": dataclasses.replace(concept.conditions,
            implicit=mutate_tree(r, list(concept.conditions.implicit)))},
    ))  # fmt: skip
    broken = dataclasses.replace(concept, **changed)
    got = attempt(
        [str(root), *ARGUMENTS, "concept '", ".json"],
        write_concept,
        root,
        broken,
        sample_pictures(broken),
        overwrite=r.random() < 0.8,
    )
    if not isinstance(got, Refused):
        assert load_concept(root, broken.name, verify=False) == broken
    return got
