"""The model loader, concept files and checkpoints: broken weights, configurations, tokenizers, states, indices and
manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sync_r1.files import MANIFEST, manifest_problems, write_manifest
from sync_r1.models.concept_tokens import add_concept, load_concept, save_concept
from sync_r1.models.loading import load_model
from sync_r1.models.weight_files import WeightFiles
from sync_r1.rl.trainer_state import STATE_FILE, SyncState
from sync_r1.run_folder import checkpoint_to_resume
from tests.fuzz.guard import Refused, attempt, bounded, snapshot, watched
from tests.fuzz.mutations import (
    NAMES,
    Random,
    displace,
    fresh_copy,
    hostile_value,
    mutate_json_file,
    mutate_safetensors,
    to_json,
)
from tests.helpers import tiny_model

SIZES = ("codebook_size", "image_size", "num_image_tokens")  # what the two configurations must share
INDEX = "model.safetensors.index.json"


class ModelTarget:
    """Loads a broken model, a broken concept file, or a broken checkpoint."""

    name = "model"

    def __init__(self, folder: Path) -> None:
        self.folder, self.base, self.outside = folder, folder / "base", folder / "outside"
        self.model = tiny_model()
        self.model.save_pretrained(self.base / "model")
        self.taught = tiny_model()
        add_concept(self.taught, "bo", "robot", num_tokens=2)
        save_concept(self.taught, "bo", self.base / "bo.safetensors")
        (self.base / "shards").mkdir()
        for number in (1, 2):
            save_file({f"w{number}": torch.ones(3)}, self.base / "shards" / f"model-{number:05}-of-00002.safetensors")
        places = {f"w{number}": f"model-{number:05}-of-00002.safetensors" for number in (1, 2)}
        (self.base / "shards" / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
        state = self.base / "step_00002"
        state.mkdir()
        SyncState(seed=1, step=2, scaling={"threshold": 0.5}).save(state)
        write_manifest(state, step=2)
        self.outside.mkdir()
        (self.outside / "secret.txt").write_text("kept")

    def run(self, r: Random) -> bool:
        """One input. Returns whether it was refused."""
        copy = fresh_copy(self.base, self.folder / "copy")
        kind = r.choice((self._model, self._model, self._concept, self._shards, self._checkpoint))
        call = kind(r, copy)
        before = snapshot(copy) | snapshot(self.outside)
        with watched([]), bounded():
            refused = call()
        assert snapshot(copy) | snapshot(self.outside) == before, "reading changed a file"
        return refused

    def _model(self, r: Random, copy: Path) -> Any:
        folder = copy / "model"
        break_file(r, r.choice(sorted(path for path in folder.rglob("*") if path.is_file())), self.outside)

        def call() -> bool:
            model = attempt([str(folder), *SIZES], load_model, folder, device="cpu")
            if isinstance(model, Refused):
                return True
            assert all(torch.isfinite(value).all() for value in model.state_dict().values())
            return False

        return call

    def _concept(self, r: Random, copy: Path) -> Any:
        path = copy / "bo.safetensors"
        break_file(r, path, self.outside)
        model = r.choice((self.model, self.taught))
        rows, known = model.read_rows([0, 1]).embed.clone(), list(model.concepts)

        def call() -> bool:
            got = attempt([str(path), "concept", "vocabulary"], load_concept, model, path)
            if isinstance(got, Refused):
                assert model.concepts == known and torch.equal(model.read_rows([0, 1]).embed, rows), (
                    "refused, but the model changed"
                )
            elif model is self.model:  # it has learned a concept
                self.model = tiny_model()
            return isinstance(got, Refused)

        return call

    def _shards(self, r: Random, copy: Path) -> Any:
        folder = copy / "shards"
        index = folder / INDEX
        if r.random() < 0.4:
            content = json.loads(index.read_text())
            content["weight_map"]["w1"] = r.choice(
                (r.choice(NAMES), hostile_value(r), "../bo.safetensors", str(copy / "bo.safetensors"))
            )
            index.write_bytes(to_json(content))
        else:
            break_file(r, r.choice(sorted(folder.iterdir())), self.outside)

        def call() -> bool:
            files = attempt([str(folder), "model.safetensors"], WeightFiles, folder)
            if isinstance(files, Refused):
                return True
            assert all(file.parent == folder for file in files.files), "reads outside its folder"
            return isinstance(attempt([str(folder)], lambda: list(files.stream())), Refused)

        return call

    def _checkpoint(self, r: Random, copy: Path) -> Any:
        folder = copy / "step_00002"
        manifest = folder / MANIFEST
        if r.random() < 0.3:
            content = json.loads(manifest.read_text())
            content["files"][r.choice(("../bo.safetensors", str(copy / "bo.safetensors"), *NAMES))] = {
                "bytes": 1,
                "sha256": "0" * 64,
            }
            manifest.write_bytes(to_json(content))
        else:
            break_file(r, r.choice((manifest, folder / STATE_FILE)), self.outside)

        def call() -> bool:
            names = [str(folder), MANIFEST]
            if manifest.is_file():
                attempt(names, manifest_problems, folder)
            resolved = attempt(names, checkpoint_to_resume, folder, copy)
            return isinstance(attempt(names, SyncState.load, folder), Refused) or isinstance(resolved, Refused)

        return call


def break_file(r: Random, path: Path, outside: Path) -> None:
    if r.random() < 0.2:
        displace(r, path, outside)
    elif path.suffix == ".safetensors":
        mutate_safetensors(r, path)
    else:
        mutate_json_file(r, path)
