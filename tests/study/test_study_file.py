"""A study file says what is compared, or is refused with the reason."""

from __future__ import annotations

import copy
import dataclasses
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_r1.study.study_file import Arm, Claim, Quick, Study, fingerprint, load_study, run_order

STUDIES = Path(__file__).parents[2] / "studies"
SHIPPED = STUDIES / "claims.yaml"
SMALL: dict[str, Any] = {
    "name": "small",
    "recipes": ["world"],
    "cells": [["bo", 0]],
    "arms": {"a": None, "b": {"set": {"rl.max_steps": 3}}, "c": {"understanding": "a", "generation": "b"}},
    "claims": [{"id": "x", "statement": "s", "rule": "higher", "arm": "a", "against": ["b"], "measures": ["rea"]}],
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


@pytest.mark.parametrize("quick", [False, True])
def test_the_shipped_study_is_sound(quick: bool, tmp_path: Path) -> None:
    study = load_study(SHIPPED, quick=quick)
    assert study.claims and all(set(arm.needs) <= set(study.arms) for arm in study.arms.values())
    configs = {
        name: study.config(name, *study.cells[0], tmp_path) for name, arm in study.arms.items() if not arm.joined
    }
    made = {name: fingerprint(config, study.arms[name].command) for name, config in configs.items()}
    alike = [name for name in made if list(made.values()).count(made[name]) > 1]
    assert not alike, "two arms are the same thing"
    if not quick:
        assert len(study.cells) >= 5 and len({concept for concept, _ in study.cells}) >= 4


TRAININGS = sorted(path for path in STUDIES.glob("*.yaml") if path.stem != "applications")


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_the_arms_of_a_shipped_study_hold_out_the_same_prompts(path: Path, tmp_path: Path) -> None:
    study = load_study(path)
    held = {
        study.config(name, *study.cells[0], tmp_path).rl.validation_prompts
        for name, arm in study.arms.items()
        if not arm.joined
    }
    assert len(held) == 1


def test_a_quick_section_names_arms_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study\.yaml: quick\.arms names 'z', which is no arm; there are a, b, c"):
        load_study(write(tmp_path, quick={"arms": ["z"]}), quick=True)
    assert list(load_study(write(tmp_path, quick={"arms": ["a"]}), quick=True).arms) == ["a"]


def test_cells_are_configurations(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    config = study.config("b", "bo", 0, tmp_path)
    assert (config.rl.max_steps, config.data.concepts, config.run.folder) == (3, ["bo"], tmp_path / "b" / "bo-0")
    elsewhere = study.config("b", "bo", 0, tmp_path / "elsewhere")
    assert fingerprint(config) == fingerprint(elsewhere) != fingerprint(study.config("a", "bo", 0, tmp_path))
    assert run_order({name: study.arms[name] for name in ("c", "b", "a")}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"a": {"recipe": ["demo"]}}},
            r"study\.yaml: arms\.a has an unknown field 'recipe'; did you mean recipes\?",
        ),
        ({"arms": {"a": {"recipes": ["nothing"]}}, "claims": []}, r"study\.yaml: arm 'a': unknown recipe"),
        ({"arms": {"a": {"set": {"rl.steps": 1}}}, "claims": []}, r"study\.yaml: arm 'a': unknown option"),
        ({"arms": {"a": {"same_nfe_as": "z"}}, "claims": []}, "no arm"),
        ({"arms": {"a": {"understanding": "a"}}, "claims": []}, "both"),
        ({"arms": {"a": {"command": "rl"}}, "claims": []}, "has command 'rl'"),
        ({"arms": {"a": None, "b": {"same_nfe_as": "a"}}, "claims": []}, "known beforehand only without DGS"),
        (
            {
                "cells": [["bo", 0], ["bo", 1]],
                "arms": {"a": {"cells": 1}, "b": {"recipes": ["no-dgs"], "same_nfe_as": "a"}},
                "claims": [],
            },
            "on all of its cells",
        ),
        ({"cells": []}, "needs cells"),
        ({"cells": ["bo", "ana"]}, r"cells\[0\] is 'bo'; it must be \[concept, seed\]"),
        ({"cells": [["bo", "zero"]]}, r"cells\[0\]\[1\] is 'zero'; it must be a whole number"),
        ({"arms": ["a"]}, r"arms is \['a'\]; it must be a mapping"),
        ({"arms": {"a": "demo"}, "claims": []}, r"arms\.a is 'demo'; it must be a mapping"),
        ({"arms": {"../a": None}, "claims": []}, "cannot name a study or an arm"),
        ({"arms": {"start": None}, "claims": []}, "cannot name a study or an arm"),
        ({"name": "../x"}, "cannot name a study or an arm"),
        ({"quick": [1]}, r"quick is \[1\]; it must be a mapping"),
        ({"claims": [{**SMALL["claims"][0], "arm": "start"}]}, "is about arm 'start'"),
        ({"claims": [{**SMALL["claims"][0], "against": "start"}]}, r"claims\[0\]\.against is 'start'; it must be a"),
        ({"claims": [{**SMALL["claims"][0], "measures": ["reaa"]}]}, r"names 'reaa' in measures; did you mean rea"),
        ({"cells": [["bo", 0], ["bo", 0]]}, "twice"),
        ({"claims": [{"id": "x"}]}, r"claims\[0\] is incomplete; add statement, rule, arm, against, measures"),
        ({"claims": [{**SMALL["claims"][0], "against": ["z"]}]}, "names 'z' in against; there are a, b, c, start"),
        ({"claims": [{**SMALL["claims"][0], "rule": "bigger"}]}, "no rule"),
        ({"arms": {"a": {"cells": 0}}, "claims": []}, "arm 'a' has cells 0; it must be at least 1"),
        ({"claims": [{**SMALL["claims"][0], "measures": []}]}, "has an empty measures"),
        ({"claims": SMALL["claims"] + copy.deepcopy(SMALL["claims"])}, "claim 'x' is listed twice"),
        ({"quick": {"arm": ["a"]}}, r"quick has an unknown field 'arm'; did you mean arms\?"),
        ({"arms": {1: None}, "claims": []}, r"the name 1 in arms is 1; it must be a text, in quotes"),
        ({"set": {"run.name": date(2020, 1, 1)}}, r"set\.run\.name is datetime\.date\(2020, 1, 1\); it must be a text"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_study(write(tmp_path, **changes))


def test_an_arm_given_twice_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "arms:\n  a:\n")
    with pytest.raises(ValueError, match=r"study\.yaml: 'arms' is given on line \d+ and again on line \d+"):
        load_study(path)


def test_a_circle_is_named(tmp_path: Path) -> None:
    arms = {name: {"recipes": ["no-dgs"], "same_nfe_as": other} for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(ValueError, match="a → b → a"):
        load_study(write(tmp_path, arms=arms, claims=[]))


# Values of every kind that YAML knows, and the kind that each field takes.
VALUES: dict[str, Any] = {
    "text": "demo",
    "whole number": 3,
    "number": 0.5,
    "truth": True,
    "list": [1],
    "mapping": {"b": 1},
    "date": date(2020, 1, 1),
    "bytes": b"demo",
    "not a number": float("nan"),
}
FIELDS = {
    "name": "text",
    "recipes": "list",
    "set": "mapping",
    "cells": "list",
    "arms": "mapping",
    "claims": "list",
    "quick": "mapping",
    "quick.set": "mapping",
    "quick.cells": "list",
    "quick.arms": "list",
    "arms.b.command": "text",
    "arms.b.recipes": "list",
    "arms.b.set": "mapping",
    "arms.b.same_nfe_as": "text",
    "arms.b.understanding": "text",
    "arms.b.generation": "text",
    "arms.b.cells": "whole number",
    "claims[0].id": "text",
    "claims[0].statement": "text",
    "claims[0].rule": "text",
    "claims[0].arm": "text",
    "claims[0].against": "list",
    "claims[0].measures": "list",
    "claims[0].at_least": "number",
    "claims[0].at_most": "number",
    "claims[0].in_cells": "number",
    "claims[0].nfe_at_most": "whole number",
    "claims[0].against_measure": "text",
    "claims[0].goal": "text",
}
INSIDE = {
    "recipes[0]": "text",
    "cells[0]": "list",
    "cells[0][0]": "text",
    "cells[0][1]": "whole number",
    "quick.arms[0]": "text",
    "arms.b": "mapping",
    "arms.b.recipes[0]": "text",
    "claims[0]": "mapping",
    "claims[0].against[0]": "text",
    "claims[0].measures[0]": "text",
}


def with_value(place: str, value: Any) -> dict[str, Any]:
    """The small study with another value at a place such as "claims[0].rule"."""
    study: Any = copy.deepcopy(SMALL)
    study["quick"] = {"set": {}, "cells": [["bo", 0]], "arms": ["a"]}
    study["arms"]["b"]["recipes"] = ["no-dgs"]
    *parents, last = [int(word) if word.isdecimal() else word for word in re.findall(r"\w+", place)]
    inner = study
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return study


def test_the_table_holds_every_field_of_a_study() -> None:
    records = {"": Study, "quick.": Quick, "arms.b.": Arm, "claims[0].": Claim}
    names = {f"{start}{field.name}" for start, record in records.items() for field in dataclasses.fields(record)}
    assert names | {"quick"} == set(FIELDS)


@pytest.mark.parametrize(("place", "taken"), [*FIELDS.items(), *INSIDE.items()])
def test_a_value_of_another_kind_is_named_with_file_and_field(tmp_path: Path, place: str, taken: str) -> None:
    right = {taken, "whole number"} if taken == "number" else {taken}
    for kind in VALUES.keys() - right:
        path = write(tmp_path, **with_value(place, VALUES[kind]))
        with pytest.raises(ValueError, match=re.escape(f"study.yaml: {place} is ") + ".*; it must be "):
            load_study(path)


@pytest.mark.parametrize("place", sorted(FIELDS))
def test_an_empty_field_is_its_default_or_is_missing(tmp_path: Path, place: str) -> None:
    path = write(tmp_path, **with_value(place, None))
    try:
        load_study(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
