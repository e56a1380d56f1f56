"""What a benchmark folder is about: `<out>/bench.json`, so that scoring needs no options and no folder mixes two
models or protocols."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sync_r1.files import read_object
from sync_r1.unifybench.models_under_test import ModelUnderTest
from sync_r1.unifybench.prediction_store import stored_path
from sync_r1.unifybench.protocol import Protocol, read_protocol
from sync_r1.unifybench.results import write_result
from sync_r1.unifybench.run import BenchmarkPlan

NAME = "bench.json"


def open_run_manifest(out: Path, plan: BenchmarkPlan, models: Sequence[ModelUnderTest]) -> None:
    """Note what is about to run; concepts and checkpoints of earlier calls are kept.

    Raises ValueError when the folder holds another model, data root, item limit, token epoch or protocol.
    """
    for partial in out.glob(f".{NAME}.*.tmp"):
        partial.unlink(missing_ok=True)
    old = read_object(out / NAME) or {}
    new = _content(out, plan, models)
    for name in ("root", "max_items", "token_epoch"):
        if old and old[name] != new[name]:
            raise ValueError(f"{out} was made with {name} {old[name]!r}, now it is {new[name]!r}; choose another --out")
    if old and old["protocol"] != new["protocol"]:
        differ = [key for key, value in new["protocol"].items() if old["protocol"].get(key) != value]
        raise ValueError(
            f"{out} was made with protocol {old['protocol']['name']!r}, now it is {new['protocol']['name']!r}, which "
            f"differs in {', '.join(differ)}; choose another --out"
        )
    for epoch, label in old.get("models", {}).items():
        if new["models"].setdefault(epoch, label) != label:
            raise ValueError(
                f"{out} holds {label!r} as model epoch {epoch}, now it is {new['models'][epoch]!r}; choose another "
                "--out"
            )
    concepts = list(dict.fromkeys([*old.get("concepts", []), *new["concepts"]]))
    write_result(out / NAME, {**new, "concepts": concepts})


def _content(out: Path, plan: BenchmarkPlan, models: Sequence[ModelUnderTest]) -> dict[str, Any]:
    return {
        "root": stored_path(plan.root, out),
        "model": plan.model,
        "concepts": list(plan.concepts),
        "max_items": plan.max_items,
        "token_epoch": plan.token_epoch,
        "protocol": asdict(plan.protocol),
        "models": {str(model.epoch): model.label for model in models},
    }


def read_run_manifest(out: Path) -> tuple[BenchmarkPlan, dict[int, str]]:
    """The plan and the label of every model epoch. ValueError when `out` is no benchmark folder."""
    content = read_object(out / NAME)
    if content is None:
        raise ValueError(f"{out / NAME} is missing; benchmark folders are written by `sync-r1 bench run --out {out}`")
    protocol: Protocol = read_protocol(content["protocol"])
    plan = BenchmarkPlan(
        root=Path(os.path.relpath(out / content["root"])),
        concepts=content["concepts"],
        model=content["model"],
        protocol=protocol,
        max_items=content["max_items"],
        token_epoch=content["token_epoch"],
    )
    return plan, {int(epoch): label for epoch, label in content["models"].items()}
