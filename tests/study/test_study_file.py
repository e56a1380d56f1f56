"""A study file says what is compared, or is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_r1.study.study_file import fingerprint, load_study, run_order

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
    with pytest.raises(ValueError, match=r"quick names arms \['z'\]; there are a, b, c"):
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
    ("changes", "said"),
    [
        ({"arms": {"a": {"recipe": ["demo"]}}}, "unknown fields"),
        ({"arms": {"a": {"recipes": ["nothing"]}}, "claims": []}, "unknown recipe"),
        ({"arms": {"a": {"set": {"rl.steps": 1}}}, "claims": []}, "unknown option"),
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
        ({"cells": ["bo", "ana"]}, r"cells has 'bo'; each must be \[concept, seed\]"),
        ({"cells": [["bo", "zero"]]}, "each must be"),
        ({"arms": ["a"]}, "arms is list; it must be a mapping"),
        ({"arms": {"a": "demo"}, "claims": []}, "arm 'a' is str; it must be a mapping"),
        ({"arms": {"../a": None}, "claims": []}, "cannot name a study or an arm"),
        ({"arms": {"start": None}, "claims": []}, "cannot name a study or an arm"),
        ({"name": "../x"}, "cannot name a study or an arm"),
        ({"quick": [1]}, "quick is list"),
        ({"claims": [{**SMALL["claims"][0], "arm": "start"}]}, "is about arm 'start'"),
        ({"claims": [{**SMALL["claims"][0], "against": "start"}]}, "it must be a list"),
        ({"claims": [{**SMALL["claims"][0], "measures": ["reaa"]}]}, r"measures \['reaa'\]; there are understanding"),
        ({"cells": [["bo", 0], ["bo", 0]]}, "twice"),
        ({"claims": [{"id": "x"}]}, "incomplete"),
        ({"claims": [{**SMALL["claims"][0], "against": ["z"]}]}, "names arm 'z'"),
        ({"claims": [{**SMALL["claims"][0], "rule": "bigger"}]}, "no rule"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
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
