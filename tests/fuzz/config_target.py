"""Configurations: a valid file with broken values, names or bytes, something else in its place, and broken
overrides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from sync_r1.config import Config, load_config
from tests.fuzz.guard import Refused, attempt, bounded, snapshot, watched
from tests.fuzz.mutations import Random, displace, hostile_value, mutate_bytes, mutate_tree

SECTIONS = [field.name for field in dataclasses.fields(Config)]
TAGS = (
    "!!python/object/apply:os.system [touch escaped]",
    "!!binary zz",
    "!x y",
    "&a [*a]",
    "<<: 3",
    "? [a]\n: b",
    "2026-99-99",
    "{a: 1, a: 2}",
)


class ConfigTarget:
    """One broken file, or up to three broken overrides."""

    name = "config"

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.outside = folder, folder / "run.yaml", folder / "outside"
        self.tree = dataclasses.asdict(Config())
        self.options = [f"{section}.{option}" for section in SECTIONS for option in self.tree[section]]
        self.outside.mkdir()
        (self.outside / "secret.txt").write_text("kept: 1")

    def run(self, r: Random) -> bool:
        """One input. Returns whether it was refused."""
        overrides: list[str] = []
        if r.random() < 0.6:
            self._break_file(r)
            path: Path | None = self.path
        else:
            path, overrides = None, [self._override(r) for _ in range(r.randrange(1, 4))]
        names = [str(path or "override"), "override", *SECTIONS, *self.options]
        before = snapshot(self.folder)
        with watched([]), bounded():
            got = attempt(names, load_config, path, overrides)
            if isinstance(got, Config):
                got.validate()
        assert snapshot(self.folder) == before, "reading changed a file"
        return isinstance(got, Refused)

    def _break_file(self, r: Random) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            for inner in self.path.iterdir():
                inner.unlink()
            self.path.rmdir()
        self.path.unlink(missing_ok=True)
        tree: Any = dataclasses.asdict(Config())
        tree = {section: tree[section] for section in r.sample(SECTIONS, r.randrange(1, 4))}
        action = r.random()
        if action < 0.6:
            for _ in range(r.choice((1, 1, 2, 4))):
                tree = mutate_tree(r, tree)
        self.path.write_text(yaml.safe_dump(tree, allow_unicode=False))
        if 0.6 <= action < 0.8:
            self.path.write_bytes(mutate_bytes(r, self.path.read_bytes()))
        elif 0.8 <= action < 0.9:
            self.path.write_text(f"rl:\n  max_steps: {r.choice(TAGS)}\n" if r.random() < 0.5 else r.choice(TAGS))
        elif action >= 0.9:
            displace(r, self.path, self.outside)
            if not self.path.exists():  # a missing file is FileNotFoundError by contract
                self.path.unlink(missing_ok=True)
                self.path.write_text("[")

    def _override(self, r: Random) -> str:
        option = r.choice(self.options)
        value = hostile_value(r)
        text = r.choice(
            (str(value) if not isinstance(value, int) else f"{value:x}", yaml.safe_dump(value), r.choice(TAGS))
        )[:60_000]
        if r.random() < 0.25:
            option = r.choice(
                (
                    option + ".x",
                    option + "." * 3,
                    "",
                    "rl",
                    "__class__.x",
                    "rl.__class__",
                    "rl.sampling",
                    option * 300,
                    "RL.Beta",
                )
            )
        return r.choice(
            (f"{option}={text}", f"{option}={text}", f"{option}={text}", option, f"={text}", f"{option}=={text}")
        )
