"""A study as declared in YAML: arms (what is compared), cells (concept and seed pairs, the same for every arm) and
claims."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.config import Config, load_config
from sync_r1.config_fields import parse_yaml, shown
from sync_r1.constants import WORLD
from sync_r1.files import read_text
from sync_r1.recipes import apply_recipes
from sync_r1.study import variance
from sync_r1.study.weights import world_weights
from sync_r1.suggestions import did_you_mean
from sync_r1.unifybench.results import ALL_TASKS

START = "start"  # the arm that is every run's own beginning
COMMANDS = ("train", "sft")
RULES = (
    "gain",
    "higher",
    "share",
    "reaches",
    "not-beaten",
    "cheaper",
    "cheaper-than-best",
    "less-noise",
)
CURVES = ("val/evaluator", "val/reward", "test/evaluator")  # for the two of "cheaper", along a run
MEASURES = ("understanding", "generation", *ALL_TASKS, *CURVES, *variance.MEASURES)  # the last for "less-noise"
# Options that let a run be watched and change nothing that it learns or is scored by.
WATCHING = ("test_prompts", "test_drawings")


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
    """A statement and the comparison that decides it; see rules.py for the rules."""

    id: str
    statement: str
    rule: str
    arm: str
    against: list[str]
    measures: list[str]  # of MEASURES
    at_least: float = 0.0
    at_most: float = 0.0
    in_cells: float = 0.0  # share of cells in which the arm must be above the other, for "higher"
    nfe_at_most: int = 0  # image evaluations of a run at most, for "higher"; 0 is no limit
    against_measure: str = ""  # the other arm by this task instead, of the same items
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


@dataclass(kw_only=True)
class Quick:
    """What `--quick` changes: a smaller study of the same file."""

    set: dict[str, Any] = field(default_factory=dict)  # on top of the study's
    cells: list[tuple[str, int]] = field(default_factory=list)  # instead of the study's, if there are any
    arms: list[str] = field(default_factory=list)  # the only ones that stay, if there are any


@dataclass(kw_only=True)
class _StudyFile(Study):
    """A study with the part of its file that `--quick` applies."""

    quick: Quick = field(default_factory=Quick)


def load_study(path: Path | str, *, quick: bool = False) -> Study:
    """Read and check a study; `quick` applies its `quick:` section (other cells, options and a subset of arms).

    Raises:
        ValueError: a field that is unknown, missing or of another kind, an arm, recipe or option that does not exist,
            arms that need each other in a circle. It names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such study file; those that come with the source are in its folder studies/")
    values = parse_yaml(read_text(path), str(path))
    if isinstance(values, Mapping) and "command" in values:
        raise ValueError(f"{path} is no study of trainings; it is run by: {values['command']}")
    try:
        study: _StudyFile = _record(_StudyFile, values, "")
        if quick:
            _shrink(study)
        _check(study)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return study


def _shrink(study: _StudyFile) -> None:
    small = study.quick
    study.name += "-quick"
    study.set |= small.set
    study.cells = small.cells or study.cells
    for name in small.arms:
        if name not in study.arms:
            raise ValueError(f"quick.arms names {name!r}, which is no arm; {did_you_mean(name, study.arms)}")
    if small.arms:
        study.arms = {name: arm for name, arm in study.arms.items() if name in small.arms}
    study.claims = [claim for claim in study.claims if {claim.arm, *claim.against} <= {*study.arms, START}]


# Every field of a record has one of these kinds, in its type hint, and is checked by them.
_ALLOWED: dict[Any, str] = {
    str: "a text, in quotes where YAML reads something else",
    int: "a whole number",
    float: "a number",
    list: "a list, such as [a, b]",
    dict: "a mapping, such as {a: 1}",
    tuple: "[concept, seed], for example [bo, 0]",
    Any: "a text, a number, true, false, or lists and mappings of these",
}


def _record(kind: Any, values: Any, where: str) -> Any:
    """A mapping of the file as a dataclass. Fields that are left empty keep their defaults."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'the file'} is {shown(values)}; it must be {_ALLOWED[dict]}")
    hints, start = typing.get_type_hints(kind), f"{where}." if where else ""
    known = {record.name: record for record in dataclasses.fields(kind)}
    given = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where or 'the study'} has an unknown field {shown(name)}; {did_you_mean(name, known)}")
        if value is not None:
            given[name] = _value(value, hints[name], f"{start}{name}")
    absent = [name for name, record in known.items() if name not in given and _is_needed(record)]
    if absent:
        raise ValueError(f"{where or 'the study'} is incomplete; add {', '.join(absent)}")
    return kind(**given)


def _is_needed(record: dataclasses.Field[Any]) -> bool:
    return record.default is dataclasses.MISSING and record.default_factory is dataclasses.MISSING


def _value(value: Any, kind: Any, where: str) -> Any:
    """A value of the file, checked to be of a field's kind, with records and cells inside it built.

    Raises:
        ValueError: where it stands, what it is and what it must be.
    """
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    shape, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if shape is types.UnionType:  # int | None; None never comes here
        return _value(value, inner[0], where)
    if not _is_of(value, shape, inner):
        raise ValueError(f"{where} is {shown(value)}; it must be {_ALLOWED[shape]}")
    if shape is list:
        return [_value(item, inner[0], f"{where}[{number}]") for number, item in enumerate(value)]
    if shape is tuple:
        return tuple(_value(item, part, f"{where}[{number}]") for number, (item, part) in enumerate(zip(value, inner)))
    if shape is dict:
        for key in value:
            _value(key, str, f"the name {shown(key)} in {where}")
        return {key: _value(item, inner[1], f"{where}.{key}") for key, item in value.items()}
    return value


def _is_of(value: Any, shape: Any, inner: Sequence[Any]) -> bool:
    if shape is Any:  # an option's value, which is handed to the configuration as JSON
        return _is_json(value)
    if shape is tuple:
        return isinstance(value, list) and len(value) == len(inner)
    if isinstance(value, bool):
        return False
    if shape is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, shape)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):  # dates, sets and bytes of YAML
        return False
    return True


def _check(study: Study) -> None:
    if not study.cells or not study.arms:
        raise ValueError("a study needs cells ([concept, seed] pairs) and arms")
    for name in (study.name, *study.arms):  # they become folders
        if not re.fullmatch(r"[\w-]+", name) or name == START:
            raise ValueError(f"{name!r} cannot name a study or an arm; use letters, digits, - and _, and not {START!r}")
    if len(set(study.cells)) < len(study.cells):
        raise ValueError(f"a cell is listed twice in {study.cells}; every [concept, seed] pair counts once")
    ids = [claim.id for claim in study.claims]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise ValueError(f"claim {twice[0]!r} is listed twice; give each claim an id of its own")
    for claim in study.claims:
        _check_claim(study, claim)
    for name, arm in study.arms.items():
        _check_arm(study, name, arm)
    run_order(study.arms)


def _check_claim(study: Study, claim: Claim) -> None:
    about = f"claim {claim.id!r}"
    if claim.rule not in RULES:
        raise ValueError(f"{about} has rule {claim.rule!r}, which is no rule; {did_you_mean(claim.rule, RULES)}")
    if claim.arm not in study.arms:
        raise ValueError(f"{about} is about arm {claim.arm!r}; {did_you_mean(claim.arm, study.arms)}")
    for name, known in (("against", [*study.arms, START]), ("measures", MEASURES)):
        named: list[str] = getattr(claim, name)
        if not named:
            raise ValueError(f"{about} has an empty {name}; name at least one of {', '.join(known)}")
        for one in named:
            if one not in known:
                raise ValueError(f"{about} names {one!r} in {name}; {did_you_mean(one, known)}")
    if claim.against_measure and claim.against_measure not in MEASURES:
        near = did_you_mean(claim.against_measure, MEASURES)
        raise ValueError(f"{about} names {claim.against_measure!r} in against_measure; {near}")


def _check_arm(study: Study, name: str, arm: Arm) -> None:
    if arm.cells is not None and arm.cells < 1:
        raise ValueError(f"arm {name!r} has cells {arm.cells}; it must be at least 1, or be left out for all cells")
    for other in arm.needs:
        if other not in study.arms:
            raise ValueError(f"arm {name!r} needs {other!r}, which is no arm of this study")
        if len(study.pairs(other)) < len(study.pairs(name)):
            raise ValueError(f"arm {name!r} needs {other!r} on all of its cells; give {other!r} as many")
    if arm.command not in COMMANDS:
        raise ValueError(f"arm {name!r} has command {arm.command!r}; there are {' and '.join(COMMANDS)}")
    if bool(arm.understanding) != bool(arm.generation):
        raise ValueError(f"arm {name!r} must name both understanding and generation, or neither")
    if not arm.joined:
        _check_options(study, name, arm)


def _check_options(study: Study, name: str, arm: Arm) -> None:
    try:
        rl = study.config(name, *study.cells[0], Path("runs")).rl
    except ValueError as error:
        raise ValueError(f"arm {name!r}: {error}") from error
    if arm.same_nfe_as and (rl.dgs_enabled or rl.num_iterations > 1 or not rl.draws):
        raise ValueError(
            f"arm {name!r} has same_nfe_as, but how many evaluations a step takes is known beforehand only without "
            "DGS, with rl.num_iterations=1 and with pictures; give it rl.max_steps instead"
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
    """Changes with every option of a cell that is not at its default, save the place of its folder and what only
    watches it, and with the weights of the embedded world.

    Options that a later version adds and a study leaves alone do not make its finished cells stale.
    """
    values = {**_unlike(dataclasses.asdict(config), dataclasses.asdict(Config())), "command": command}
    for key in ("output_dir", "name"):
        values["run"].pop(key, None)
    for key in WATCHING:
        values["rl"].pop(key, None)
    if config.data.root == WORLD and (weights := world_weights()):
        values["weights"] = weights
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
