"""Checkpoints whose hashes fit and whose content does not: weights, moments, schedule, generators and counters written
by another program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from sync_r1.files import MANIFEST, write_manifest
from tests.fuzz.guard import Refused, attempt, bounded, snapshot, watched
from tests.fuzz.mutations import (
    Random,
    fresh_copy,
    hostile_value,
    mutate_bytes,
    mutate_json_file,
    mutate_safetensors,
    nodes,
)
from tests.rl import toys

# by a resume: the run has built its own model
UNREAD = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    MANIFEST,
}


class CheckpointTarget:
    """Resumes a run from a broken checkpoint and trains one step."""

    name = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self.folder, self.options = folder, ("rl.max_steps=3", "run.save_steps=2", "rl.beta=0", "run.name=run")
        first = toys.trainer(folder / "first", *self.options)
        first.train()
        self.base = first.config.run.folder / "checkpoints" / "step_00002"

    def run(self, r: Random) -> bool:
        """One input. Returns whether it was refused."""
        copy = fresh_copy(self.base, self.folder / "copy")
        names = sorted(
            path
            for path in copy.iterdir()
            if path.name not in UNREAD and path.suffix in (".pt", ".json", ".safetensors")
        )
        path = r.choice(names)
        harm = {".pt": mutate_state, ".json": mutate_json_file, ".safetensors": mutate_safetensors}[path.suffix]
        harm(r, path)
        write_manifest(copy, step=2)
        before, again = snapshot(copy), self.folder / "again"
        shutil.rmtree(again, ignore_errors=True)
        trainer = toys.trainer(again, *self.options)
        with watched([again]), bounded():
            done = attempt([str(copy)], trainer.train, resume_from_checkpoint=copy)
        assert snapshot(copy) == before, "reading changed a file"
        return isinstance(done, Refused)


def mutate_state(r: Random, path: Path) -> None:
    """What torch.save wrote: its bytes, or one value inside."""
    if r.random() < 0.3:
        path.write_bytes(mutate_bytes(r, path.read_bytes()))
        return
    tree = torch.load(path, weights_only=True)
    *parents, last = r.choice([place for place in nodes(tree) if place])
    holder: Any = tree
    for step in parents:
        holder = holder[step]
    if r.random() < 0.2:
        del holder[last]
    else:
        tensors = (torch.zeros(3), torch.zeros(0), torch.full((2, 2), torch.nan), torch.zeros((), dtype=torch.int64))
        holder[last] = r.choice((*tensors, hostile_value(r), hostile_value(r)))
    torch.save(tree, path)
