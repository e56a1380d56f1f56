"""A study as declared in YAML: arms (what is compared), cells (concept and seed pairs, the same for every arm) and
claims."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.config import Config, load_config
from sync_r1.config_fields import parse_yaml
from sync_r1.files import read_text
from sync_r1.recipes import apply_recipes
from sync_r1.unifybench.results import TASKS

START = "start"  # the arm that is every run's own beginning
COMMANDS = ("train", "sft")
RULES = ("gain", "higher", "share", "not-beaten", "cheaper")  # see claims.py
MEASURES = (
    "understanding",
    "generation",
    *TASKS,
    "val/evaluator",
    "val/reward",
)  # the last two for "cheaper", along a run


@dataclass(kw_only=True)
class Arm:
    """One way to train. An arm with `understanding` and `generation` trains nothing: it joins the models of two other
    arms."""

    command: str = "train"  # or "sft": only the supervised part
    recipes: list[str] = field(default_factory=list)  # on top of the study's
    set: dict[str, Any] = field(default_factory=dict)  # dotted option → value
    same_nfe_as: str = ""  # choose rl.max_steps so that as many image evaluations are spent as by this arm
    understanding: str = ""  # arm whose model answers and rewrites
    generation: str = ""  # arm whose model draws
    cells: int | None = None  # run on the first so many cells only

    @property
    def joined(self) -> bool:
        return bool(self.understanding)

    @property
    def needs(self) -> list[str]:
        """Arms whose cells must be finished first."""
        return [name for name in (self.same_nfe_as, self.understanding, self.generation) if name]


@dataclass(kw_only=True)
class Claim:
    """A statement and the comparison that decides it; see claims.py for the rules."""

    id: str
    statement: str
    rule: str
    arm: str
    against: list[str]
    measures: list[str]  # of MEASURES
    at_least: float = 0.0
    at_most: float = 0.0
    goal: str = ""  # in words, for the table


@dataclass(kw_only=True)
class Study:
    """Everything a study file says."""

    name: str
    recipes: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    cells: list[tuple[str, int]] = field(default_factory=list)  # (concept, seed)
    arms: dict[str, Arm] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def config(self, arm: str, concept: str, seed: int, folder: Path) -> Config:
        """The resolved configuration of one cell, run folder included."""
        chosen = self.arms[arm]
        overrides = [f"{key}={json.dumps(value)}" for key, value in {**self.set, **chosen.set}.items()]
        fixed = [
            f"data.concepts={json.dumps([concept])}",
            f"run.seed={seed}",
            f"run.output_dir={folder / arm}",
            f"run.name={concept}-{seed}",
        ]
        return load_config(None, [*overrides, *fixed], base=apply_recipes([*self.recipes, *chosen.recipes]))

    def pairs(self, arm: str) -> list[tuple[str, int]]:
        """The (concept, seed) pairs of an arm."""
        return self.cells[: self.arms[arm].cells]


def load_study(path: Path | str, *, quick: bool = False) -> Study:
    """Read and check a study; `quick` applies its `quick:` section (other cells, options and a subset of arms).

    Raises:
        ValueError: an unknown field, an arm or recipe that does not exist, arms that need each other in a circle.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such study file; those that come with the source are in its folder studies/")
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{path} holds {type(values).__name__}; it must be a mapping with name, cells, arms and claims"
        )
    values = dict(values)
    if "command" in values:
        raise ValueError(f"{path} is no study of trainings; it is run by: {values['command']}")
    small = values.pop("quick", None) or {}
    for field_name, kind in {"arms": Mapping, "set": Mapping, "cells": list, "claims": list, "quick": Mapping}.items():
        if field_name == "quick":
            value = small
        else:
            value = values.get(field_name)
        if value is not None and not isinstance(value, kind):
            wanted = "a list"
            if kind is Mapping:
                wanted = "a mapping"
            raise ValueError(f"{path}: {field_name} is {type(value).__name__}; it must be {wanted}")
    if quick:
        values["set"] = {**(values.get("set") or {}), **(small.get("set") or {})}
        values["cells"] = small.get("cells", values.get("cells"))
        values["name"] = f"{values.get('name')}-quick"
        arms = small.get("arms", list(values.get("arms") or {}))
        if unknown := [name for name in arms if name not in (values.get("arms") or {})]:
            raise ValueError(f"{path}: quick names arms {unknown}; there are {', '.join(values.get('arms') or {})}")
        values["arms"] = {name: arm for name, arm in (values.get("arms") or {}).items() if name in arms}
    study = _build(path, values)
    if quick:
        study.claims = [claim for claim in study.claims if {claim.arm, *claim.against} <= {*study.arms, START}]
    _check(path, study)
    return study


def _build(path: Path, values: Mapping[str, Any]) -> Study:
    def record(kind: type, entry: Mapping[str, Any] | None, where: str) -> Any:
        entry = {} if entry is None else entry
        if not isinstance(entry, Mapping):
            raise ValueError(f"{path}: {where} is {type(entry).__name__}; it must be a mapping")
        known = [f.name for f in dataclasses.fields(kind)]
        if unknown := sorted(set(entry) - set(known)):
            raise ValueError(f"{path}: {where} has unknown fields {unknown}; there are {', '.join(known)}")
        try:
            return kind(**entry)
        except TypeError as error:
            raise ValueError(f"{path}: {where} is incomplete ({error})") from error

    study = record(Study, values, "the study")
    study.arms = {name: record(Arm, arm, f"arm {name!r}") for name, arm in (study.arms or {}).items()}
    study.claims = [record(Claim, claim, f"claim {number}") for number, claim in enumerate(study.claims or [])]
    for cell in study.cells:
        if not (isinstance(cell, list) and len(cell) == 2 and isinstance(cell[0], str) and isinstance(cell[1], int)):
            raise ValueError(f"{path}: cells has {cell!r}; each must be [concept, seed], for example [bo, 0]")
    study.cells = [(concept, seed) for concept, seed in study.cells]
    return study


def _check(path: Path, study: Study) -> None:
    if not study.cells or not study.arms:
        raise ValueError(f"{path}: a study needs cells ([concept, seed] pairs) and arms")
    for name in (study.name, *study.arms):  # they become folders
        if not re.fullmatch(r"[\w-]+", str(name)) or name == START:
            raise ValueError(
                f"{path}: {name!r} cannot name a study or an arm; use letters, digits, - and _, and not {START!r}"
            )
    if len(set(study.cells)) < len(study.cells):
        raise ValueError(f"{path}: a cell is listed twice in {study.cells}; every [concept, seed] pair counts once")
    for claim in study.claims:
        _check_claim(path, study, claim)
    for name, arm in study.arms.items():
        _check_arm(path, study, name, arm)
    run_order(study.arms)


def _check_claim(path: Path, study: Study, claim: Claim) -> None:
    if claim.rule not in RULES:
        raise ValueError(
            f"{path}: claim {claim.id!r} has rule {claim.rule!r}, which is no rule; there are {', '.join(RULES)}"
        )
    for field_name in ("against", "measures"):
        if not isinstance(getattr(claim, field_name), list):
            raise ValueError(
                f"{path}: claim {claim.id!r} has {field_name} {getattr(claim, field_name)!r}; it must be a list"
            )
    for name in claim.against:
        if name not in {*study.arms, START}:
            raise ValueError(
                f"{path}: claim {claim.id!r} names arm {name!r}; there are {', '.join(study.arms)} and {START}"
            )
    if claim.arm not in study.arms:
        raise ValueError(f"{path}: claim {claim.id!r} is about arm {claim.arm!r}; there are {', '.join(study.arms)}")
    if unknown := [name for name in claim.measures if name not in MEASURES]:
        raise ValueError(f"{path}: claim {claim.id!r} has measures {unknown}; there are {', '.join(MEASURES)}")


def _check_arm(path: Path, study: Study, name: str, arm: Arm) -> None:
    for other in arm.needs:
        if other not in study.arms:
            raise ValueError(f"{path}: arm {name!r} needs {other!r}, which is no arm of this study")
        if len(study.pairs(other)) < len(study.pairs(name)):
            raise ValueError(f"{path}: arm {name!r} needs {other!r} on all of its cells; give {other!r} as many")
    if arm.command not in COMMANDS:
        raise ValueError(f"{path}: arm {name!r} has command {arm.command!r}; there are {' and '.join(COMMANDS)}")
    if bool(arm.understanding) != bool(arm.generation):
        raise ValueError(f"{path}: arm {name!r} must name both understanding and generation, or neither")
    if not arm.joined:
        rl = study.config(name, *study.cells[0], Path("runs")).rl
        if arm.same_nfe_as and (rl.dgs_enabled or rl.num_iterations > 1 or rl.optimise == "text"):
            raise ValueError(
                f"{path}: arm {name!r} has same_nfe_as, but how many evaluations a step takes is known beforehand "
                "only without DGS, with rl.num_iterations=1 and with pictures; give it rl.max_steps instead"
            )


def run_order(arms: Mapping[str, Arm]) -> list[str]:
    """Arms so that each comes after those it needs, else as declared. ValueError for a circle."""
    order: list[str] = []

    def visit(name: str, above: Sequence[str]) -> None:
        if name in above:
            raise ValueError(f"arms need each other in a circle: {' → '.join([*above, name])}")
        for other in arms[name].needs:
            visit(other, [*above, name])
        if name not in order:
            order.append(name)

    for name in arms:
        visit(name, [])
    return order


def _unlike(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Sections → options that differ from the defaults."""
    found: dict[str, Any] = {}
    for name, section in values.items():
        found[name] = {key: value for key, value in section.items() if value != defaults[name][key]}
    return found


def fingerprint(config: Config, command: str = "train") -> str:
    """Changes with every option of a cell that is not at its default, save the place of its folder.

    Options that a later version adds and a study leaves alone do not make its finished cells stale.
    """
    values = {**_unlike(dataclasses.asdict(config), dataclasses.asdict(Config())), "command": command}
    for key in ("output_dir", "name"):
        values["run"].pop(key, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
