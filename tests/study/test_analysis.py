"""The analysis parts of the results page: filtering over the drawn steps, and rewrites with their pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sync_r1.report.plots import GREEN, INK, RED
from sync_r1.report.run_files import Item, Pair, Run, read_run
from sync_r1.study.dgs_summary import (
    dgs_figure,
    dgs_section,
    dgs_summary,
    mean_series,
    tree_section,
    tree_summary,
)
from sync_r1.study.estimates import by_arm
from sync_r1.study.rewrite_examples import (
    examples,
    facts_behind,
    marked,
    rewrites_figure,
    rewrites_section,
    rewrites_summary,
)
from sync_r1.study.runner import curve_of

Drawn = tuple[str, str, str, float, float]  # rewrite before, rewrite after, truth, score before, score after
PROMPT, TRUTH, WRONG = (
    "a photo of <bo> with its habit",
    "a photo of <bo> in a meadow",
    "a photo of <bo> holding a flower",
)


def step(number: int, **values: float) -> dict[str, float]:
    return {"step": number, **{f"dgs/{name}": value for name, value in values.items()}}


def cell(arm: str, seed: int, curve: list[dict[str, float]]) -> dict[str, Any]:
    return {"arm": arm, "concept": "bo", "seed": seed, "curve": curve}


CELLS = [
    cell("joint", 0, [step(1, nfe=200, nfe_saved=100, acceptance_rate=0.4, threshold=0.5), step(2, nfe=0)]),
    cell("joint", 1, [step(1, nfe=220, nfe_saved=80, acceptance_rate=0.6, threshold=0.7), step(2, nfe=0)]),
    cell("plain", 0, [step(1, nfe=192)]),
]


def test_steps_that_draw_nothing_do_not_dilute_what_filtering_costs() -> None:
    summary = dgs_summary(by_arm(CELLS))
    assert list(summary) == ["joint"]  # the start is no arm of its own, and plain drawing filters nothing
    found = summary["joint"]
    assert (found["cells"], found["rollouts"], found["dgs/nfe"], found["dgs/nfe_saved"]) == (2, 2, 210, 90)
    assert found["dgs/acceptance_rate"] == pytest.approx(0.5)
    page = "\n".join(dgs_section(summary, "results_dgs.png"))
    assert "| joint | 2 | 2 | 0.500 | 0.600 | 210 | 90 | – | – | – |" in page and "![results_dgs.png]" in page
    assert "No finished run filters" in "\n".join(dgs_section({}, None))


def test_the_page_says_where_a_tree_spends_its_evaluations() -> None:
    parts = {"nfe_trunks": 36, "nfe_leaves": 48, "prompts_skipped": 0}
    rows = [
        step(1, nfe=108, nfe_previews=24, texts_drawn=6, **parts),
        step(2, nfe=0),  # texts alone
        step(3, nfe=100, nfe_previews=16, texts_drawn=6, **parts),
    ]
    summary = tree_summary(by_arm([*CELLS, cell("tree", 0, rows)]))
    assert list(summary) == ["tree"] and (summary["tree"]["cells"], summary["tree"]["rollouts"]) == (1, 2)
    assert "| tree | 1 | 2 | 104.0 | 20.0 | 36.0 | 48.0 | 6.0 | 0.0 |" in tree_section(summary)
    assert tree_section({}) == []


def test_the_figure_shows_the_mean_over_runs_at_each_drawn_step() -> None:
    assert mean_series([c["curve"] for c in CELLS[:2]], "dgs/threshold") == ([1], [pytest.approx(0.6)])
    figure = dgs_figure(CELLS[:2])
    assert figure is not None
    bold = {
        line.get_label(): list(line.get_ydata())
        for line in figure.axes[0].lines
        if not line.get_label().startswith("_")
    }
    assert bold == {"acceptance": [pytest.approx(0.5)], "threshold τ": [pytest.approx(0.6)]}
    assert dgs_figure(CELLS[2:]) is None


def test_a_curve_keeps_finite_values_and_the_last_line_of_a_repeated_step(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "dgs/nfe": 5.0, "other": 1},
        {"step": 1, "dgs/nfe": 7.0, "dgs/threshold": float("nan")},
        {"step": 2, "kl": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve_of(tmp_path) == [{"step": 1, "dgs/nfe": 7.0}, {"step": 2}]
    assert curve_of(tmp_path / "gone") == []


def run(folder: Path, drawn: list[Drawn]) -> Run:
    for phase, said, score in (("before", 0, 3), ("after", 1, 4)):
        (folder / "eval" / "images" / phase).mkdir(parents=True)
        items = []
        for number, row in enumerate(drawn):
            name = f"images/{phase}/{number}.png"
            picture = Image.new("RGB", (2, 2), "black")
            picture.paste("red" if phase == "before" else "blue", (0, 0, 1, 2))
            picture.save(folder / "eval" / name)
            one = {"task": "rea_gen", "id": str(number), "seed": 0, "prompt": PROMPT, "truth": row[2]}
            items.append({**one, "input": row[said], "prediction": row[said], "score": row[score], "image": name})
        (folder / "eval" / f"{phase}.json").write_text(json.dumps({"items": items}))
    facts = ["<bo> lives in a meadow.", "<bo> carries a flower."]
    (folder / "concept.json").write_text(json.dumps({"name": "bo", "facts": facts}))
    return read_run(folder)


def test_the_example_is_the_largest_gain_among_those_that_were_wrong_and_became_right(tmp_path: Path) -> None:
    drawn = [
        (WRONG, TRUTH, TRUTH, 0.5, 1.0),
        (WRONG, TRUTH, TRUTH, 0.2, 1.0),  # this one
        (WRONG, TRUTH, TRUTH, 0.0, 0.8),  # the picture is not right
        (TRUTH, TRUTH, TRUTH, 0.0, 1.0),  # the rewrite was right
        (WRONG, WRONG, TRUTH, 0.0, 1.0),  # the rewrite stayed wrong
        (WRONG, TRUTH, TRUTH, 0.6, 1.0),  # the picture was not that wrong
    ]
    first, second = run(tmp_path / "joint" / "bo-0", drawn), run(tmp_path / "joint" / "bo-1", drawn[2:])
    assert [(own, pair.before.id) for own, pair in examples([first, second])] == [(first, "1")]
    summary = rewrites_summary([first, second])
    assert summary["examples"] == [{"run": "joint/bo-0", "task": "rea_gen", "item": "1", "prompt": PROMPT}]
    fates = {(row["before"], row["after"]): row for row in summary["rewrites"]}
    assert [fates[key]["items"] for key in ((False, True), (True, True), (False, False), (True, False))] == [6, 2, 2, 0]
    assert (
        fates[False, True]["scores"] == pytest.approx([1.9 / 6, 5.6 / 6])
        and fates[False, True]["right_pictures_after"] == 4
    )
    page = "\n".join(rewrites_section(summary, "x_loop.png"))
    assert (
        "| wrong → right | 6 | 0.317 | 0.933 | 4 |" in page
        and "| right → wrong | 0 | – | – | 0 |" in page
        and "![x_loop.png]" in page
    )


def test_without_an_example_the_page_says_so(tmp_path: Path) -> None:
    none = rewrites_summary([run(tmp_path / "bo-0", [(WRONG, WRONG, TRUTH, 0.0, 0.5)])])
    assert none["examples"] == [] and "No example fits the rule" in "\n".join(rewrites_section(none, None))
    assert "run folders are not here" in "\n".join(rewrites_section(rewrites_summary([]), None))
    assert rewrites_figure([]) is None


def test_the_picture_enlarges_pixels_without_blur(tmp_path: Path) -> None:
    own = run(tmp_path / "bo-0", [(WRONG, TRUTH, TRUTH, 0.0, 1.0)])
    sheet = rewrites_figure(examples([own]))
    assert sheet is not None
    counts = {color: count for count, color in sheet.getcolors(sheet.width * sheet.height) or []}
    assert counts[255, 0, 0] == counts[0, 0, 255] == 192 * 192 / 2


def test_wrong_words_are_marked_and_the_fact_behind_is_found() -> None:
    said = marked(WRONG, TRUTH, RED)
    assert [word for word, color in said if color == RED] == ["holding", "flower"]
    assert [word for word, color in marked("a photo of <bo>, in a meadow", WRONG, GREEN) if color == GREEN] == [
        "in",
        "meadow",
    ]
    assert all(color == INK for _, color in marked(TRUTH, TRUTH, RED))
    item = Item("rea_gen", "0", PROMPT, WRONG, WRONG, TRUTH, 0.0, None, 0)
    facts = ["<bo> lives in a meadow.", "<bo> wears a beanie.", "<bo> carries a flower."]
    assert facts_behind(facts, Pair(item, item)) == facts[:1]
