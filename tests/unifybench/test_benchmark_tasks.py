"""Items of the nine tasks, and their seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sync_r1.data import Concept, Conditions
from sync_r1.unifybench.results import TASKS
from sync_r1.unifybench.tasks import build_items, evenly, item_seed
from sync_r1.unifybench.templates import plain_templates


def test_seeds_are_those_of_the_published_benchmark() -> None:
    assert item_seed(3407, "showo_weighted", "understanding", "rec", "bo", 0, "rec_000") == 4270967948
    assert item_seed(3407, "showo_weighted", "generation", "pure_gen", "bo", 0, "prompt_000") == 2126600951


def test_nine_tasks_with_their_sources(root: Path, concept: Concept) -> None:
    items = build_items(concept, root=root)
    by_task = {task: [item for item in items if item.task == task] for task in TASKS}
    assert [item.task for item in items] == [task for task in TASKS for _ in by_task[task]]
    conditions, test = concept.conditions, list(concept.test_indices)
    assert [(i.prompt, i.truth) for i in by_task["rea"]] == [
        (conditions.implicit[k], conditions.explicit[k]) for k in test
    ]
    assert [(i.prompt, i.truth) for i in by_task["rea_gen"]] == [(i.prompt, i.truth) for i in by_task["rea"]]
    assert [i.truth for i in by_task["dense_rea_gen"]] == conditions.dense_explicit
    assert [i.prompt for i in by_task["dense_gen"]] == conditions.dense == [i.truth for i in by_task["dense_gen"]]
    assert {i.truth for i in by_task["rec"]} == {"Yes.", "No."} and all(
        i.image for i in by_task["rec"] + by_task["vqa"]
    )
    assert by_task["qa"] and all(i.image is None for i in by_task["qa"])
    assert len({i.seed for i in items}) == len(items) and len({(i.task, i.id) for i in items}) == len(items)
    assert by_task["rec"][0].id == "rec_000" and by_task["rea_gen"][0].id == "prompt_000"


def test_no_training_prompt_is_ever_evaluated(root: Path, concept: Concept) -> None:
    trained = {concept.conditions.implicit[index] for index in concept.rl_indices}
    assert trained and not trained & {item.prompt for item in build_items(concept, root=root)}


def test_plain_prompts_come_from_the_data_or_are_dreambooths(root: Path, concept: Concept, tmp_path: Path) -> None:
    ours = json.loads((root / "template.json").read_text())["pure_gen"]
    items = build_items(concept, root=root, tasks=["pure_gen"])
    assert [item.prompt for item in items] == [text.replace("{name}", "<bo>") for text in ours]
    assert [item.prompt for item in build_items(concept, tasks=["pure_gen"])][12] == "a <bo> wearing a rainbow scarf"
    for kind in ("object", "live_subject"):
        assert len(set(plain_templates(kind))) == 25 and all(text.startswith("a ") for text in plain_templates(kind))
    (tmp_path / "template.json").write_text('["another file of this name"]')
    assert len(build_items(concept, root=tmp_path, tasks=["pure_gen"])) == 25
    (tmp_path / "template.json").write_text('{"pure_gen": ["a dog"]}')
    with pytest.raises(ValueError, match="must be a list of prompts that each hold"):
        build_items(concept, root=tmp_path, tasks=["pure_gen"])


def test_fewer_items_keep_both_sides_of_recognition(root: Path, concept: Concept) -> None:
    few = build_items(concept, root=root, tasks=["rec"], max_items=4)
    assert len(few) == 4 and {item.truth for item in few} == {"Yes.", "No."}
    assert evenly(3, 5) == [0, 1, 2] and evenly(10, 2) == [2, 7]
    # numbers do not shift
    assert {item.id for item in few} <= {item.id for item in build_items(concept, root=root, tasks=["rec"])}
    with pytest.raises(ValueError, match="max_items is 0"):
        build_items(concept, root=root, max_items=0)


def test_wrong_or_empty_tasks_are_named(root: Path, concept: Concept) -> None:
    assert build_items(concept, root=root, tasks=["text_only"])[0].task == "qa"
    with pytest.raises(ValueError, match="unknown task 'dense_re'; did you mean dense_rea"):
        build_items(concept, root=root, tasks=["dense_re"])
    old = replace(concept, conditions=Conditions(plain=["A photo of <bo>."], legacy=True), num_testing_info=0)
    assert {item.task for item in build_items(old, root=root)} == {"rec", "vqa", "qa", "pure_gen"}
    with pytest.raises(ValueError, match="old list form"):
        build_items(old, root=root, tasks=["rea"])
    with pytest.raises(ValueError, match=r"type 'vqa' in test_data/bo\.json"):
        build_items(replace(concept, items=[]), root=root, tasks=["vqa"])
