"""Where the files of the UniCTokens / UnifyBench++ layout lie below a data root."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sync_r1.config_fields import shown
from sync_r1.files import is_device_name

ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"  # of a concept: a folder and a token


@dataclass(frozen=True)
class Layout:
    """Where things lie below a data root."""

    root: Path

    @property
    def random_images(self) -> Path:
        return self.root / "random_images"

    @property
    def black_image(self) -> Path:
        return self.root / "black_512x512.png"

    @property
    def train_images(self) -> Path:
        return self.root / "concept" / "train" / "train_images.json"

    @property
    def concepts_list(self) -> Path:
        return self.root / "concepts_list.json"

    @property
    def template(self) -> Path:
        return self.root / "template.json"

    def train(self, name: str) -> Path:
        return self.root / "concept" / "train" / name

    def test(self, name: str) -> Path:
        return self.root / "concept" / "test" / name

    def info(self, name: str) -> Path:
        return self.train(name) / "info.json"

    def conversations(self, name: str) -> Path:
        return self.train(name) / "conversations.json"

    def conditions(self, name: str) -> Path:
        return self.test(name) / "t2i_conditions.json"

    def items(self, name: str) -> Path:
        return self.root / "test_data" / f"{name}.json"

    def stage(self, number: int, name: str) -> Path:
        return self.root / f"showo_training_data_stage_{number}" / f"{name}.json"

    def cropped(self, name: str) -> Path:
        return self.train(name) / "cropped"

    def is_black(self, stored: str) -> bool:
        """Whether a stored path names the black image, which stands for "no picture"."""
        return stored.replace("\\", "/").rsplit("/", 1)[-1] == self.black_image.name

    def negatives(self, name: str) -> Path:
        return self.train(name) / "negative_example"

    def lookalikes(self, name: str) -> tuple[Path, Path]:
        """Folders of pictures for testing alone, of the concept and of others that look like it."""
        folder = self.test(name) / "lookalikes"
        return folder / "same", folder / "other"


def validate_name(name: str) -> str:
    """A concept's id (`Concept.name`) is a folder name and a token.

    ASCII letters, digits, _ and -, at most 40, starting with a letter or digit.
    """
    if not re.fullmatch(ID, name):
        raise ValueError(
            f"concept id {shown(name)} is not allowed: use the letters a to z, digits, _ and - only, at most 40, "
            "starting with a letter or digit"
        )
    if is_device_name(name):
        raise ValueError(f"concept name {name!r} cannot be a folder on Windows; choose another name")
    if re.fullmatch(r"token_[0-9]+", name):
        raise ValueError(
            f"concept id {name!r} is taken: <token_0>, <token_1> … are the soft tokens of a concept; "
            "choose another name"
        )
    return name


def resolve_image(root: Path, stored: str, where: str, second_root: Path | None = None) -> Path:
    """Find a picture whose stored path was written on another machine.

    Tried in order: below `root` after each `unictokens_data/`, `concept/`, `random_images/` of the path or as the black
    image; the same below `second_root`; then as it is, if that is below `root`. A path never leads out of the two
    folders, as a data set comes from others; links that lie in them are followed. Raises ValueError that begins with
    `where`.
    """
    parts = [part for part in stored.replace("\\", "/").split("/") if part]
    after = [parts[i + 1 :] for i, part in enumerate(parts) if part == "unictokens_data"]
    after += [parts[i:] for i, part in enumerate(parts) if part in ("concept", "random_images")]
    if Layout(root).is_black(stored):
        after.append(parts[-1:])
    if second_root is None:
        roots = [root]
    else:
        roots = [root, second_root]
    candidates = [(base, base.joinpath(*rest)) for base in roots for rest in after if rest]
    below = [file for base, file in candidates if _is_below(file, base)]
    for candidate in [*below, *([root / stored] if _is_below(root / stored, root) else [])]:
        if os.path.isfile(candidate):
            return candidate
    if below:
        raise ValueError(
            f"{where} is {shown(stored)}, but {shown(str(below[0]))} is no file; copy the picture there or correct the "
            "path"
        )
    raise ValueError(
        f"{where} is {shown(stored)}, which is not below {root}; stored paths must hold unictokens_data/, concept/ or "
        "random_images/, or name the black image"
    )


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
