"""The main job in small: evaluate, train, evaluate, compare, report, on the shipped weights."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from sync_r1.config import Config, load_config
from sync_r1.experiment import run_experiment
from sync_r1.open_run import open_run, open_session
from sync_r1.recipes import apply_recipes
from sync_r1.session import Session
from sync_r1.unifybench.tables import comparison_rows
from sync_r1.world.assets import EVALUATOR, REWARD_MODELS
from sync_r1.world.export import export_world

QUIET = Console(quiet=True)
SMALL = [
    "sft.epochs=2",
    "rl.max_steps=2",
    "rl.num_generations=2",
    "rl.prompts_per_step=1",
    "rl.train_timesteps=1",
    "eval.max_items=2",
    "run.save_steps=1",
]


def small(tmp_path: Path, *more: str) -> Config:
    base = apply_recipes(["demo"])
    base.data.concepts = ["bo"]
    return load_config(None, [*SMALL, f"run.output_dir={tmp_path}", "run.name=small", *more], base=base)


def test_the_main_job_leaves_what_it_promises(tmp_path: Path) -> None:
    config = small(tmp_path)
    summary = run_experiment(config, QUIET)
    folder = config.run.folder
    assert json.loads((folder / "summary.json").read_text()) == summary
    for half in ("understanding", "generation"):
        row = summary[half]
        assert set(row) >= {"before", "after", "delta", "ci95", "n"}
        assert row["ci95"][0] <= row["delta"] <= row["ci95"][1]
        assert row["delta"] == pytest.approx(row["after"] - row["before"])
    assert set(summary) >= {"tasks", "seed", "steps", "nfe", "wall_time_s", "peak_memory_mb", "versions", "concept"}
    assert len(summary["tasks"]) == 9
    assert summary["evaluator"] == EVALUATOR
    assert summary["reward_models"] == REWARD_MODELS
    assert EVALUATOR not in REWARD_MODELS
    assert summary["steps"] == 2 and summary["stages"] == ["photos"]
    assert "A supervised warm-up came first: photos" in (folder / "report.html").read_text()
    for name in (
        "report.html",
        "sheet.png",
        "config.yaml",
        "metrics.jsonl",
        "concept.json",
        "data/concept/train/bo/info.json",
    ):
        assert (folder / name).is_file(), name
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert len(comparison_rows(summary)) == 11
    with pytest.raises(ValueError, match=r"holds an earlier run; continue it with --resume latest"):
        run_experiment(config, QUIET)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run_experiment(small(tmp_path, "sft.stages=[]"), QUIET, compare_phases=False)
    further = small(tmp_path, "sft.stages=[]", "rl.max_steps=3")
    summary = run_experiment(further, QUIET, resume="latest", compare_phases=False)
    assert summary["steps"] == 3
    steps = [json.loads(line)["step"] for line in (tmp_path / "small" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_the_image_part_teaches_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look, its own drawings, and updates without rollouts; a resumed run asks about the same pictures."""

    def margins(self: Session, images: Sequence[object]) -> tuple[list[float], float]:
        return [1.0 if number % 2 else -1.0 for number in range(len(images))], 0.1

    monkeypatch.setattr(Session, "margins", margins)
    base = apply_recipes(["demo", "taught-by-drawing"])
    base.data.concepts = ["bo"]
    options = ["sft.epochs=1", "rl.closed_own_drawings=6", "run.save_steps=1", f"run.output_dir={tmp_path}"]
    first = load_config(None, [*options, "rl.max_steps=1"], base=base)
    summary = run_experiment(first, QUIET, compare_phases=False)
    assert summary["steps"] == 1 and summary["nfe"] == 0 and summary["stages"] == ["photos"]
    drawn = sorted((first.run.folder / "own_drawings").iterdir())
    assert [path.name for path in drawn] == [*(f"{number}.png" for number in range(6)), "labels.json"]
    times = [path.stat().st_mtime_ns for path in drawn]
    more = load_config(None, [*options, "rl.max_steps=2"], base=base)
    assert run_experiment(more, QUIET, resume="latest", compare_phases=False)["steps"] == 2
    assert [path.stat().st_mtime_ns for path in drawn] == times
    rows = [json.loads(line) for line in (first.run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all("closed/accuracy" in row for row in rows)
    assert (first.run.folder / "report.html").is_file()


def test_a_run_keeps_where_its_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_world(tmp_path / "mine", ["bo"])
    monkeypatch.chdir(tmp_path)
    open_run(small(Path("runs"), "data.root=mine"), QUIET)
    places = json.loads((tmp_path / "runs/small/data_root.json").read_text())["places"]
    assert places == ["../../mine", str(tmp_path / "mine")]


def test_one_concept_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name the one concept to learn"):
        run_experiment(small(tmp_path, "data.concepts=[bo, ana]"), QUIET)


def test_reward_names_are_checked_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names 'likenes', which is no reward; did you mean likeness"):
        run_experiment(small(tmp_path, "rl.reward_weights={likenes: 1.0}"), QUIET)


def test_a_setup_that_cannot_learn_is_refused_before_the_evaluation(tmp_path: Path) -> None:
    config = small(
        tmp_path, "rl.reward_weights={rewrite: 1.0}", "rl.optimise=image", "rl.draw_every=1", "rl.dgs_enabled=false"
    )
    with pytest.raises(ValueError, match="so the image part cannot learn"):
        run_experiment(config, QUIET)
    assert not (config.run.folder / "eval").exists()


def test_what_is_optimised_does_not_change_the_training_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def trainer(model: object, config: Config, prompts: list, *_: object) -> None:
        seen.append([prompt.prompt for prompt in prompts])
        raise Stop

    seen: list[list[str]] = []
    monkeypatch.setattr("sync_r1.experiment.SyncGRPOTrainer", trainer)
    for prompts, recipe in (("0", "world"), ("5", "world"), ("5", "understanding-only"), ("5", "label-free")):
        options = [
            f"run.output_dir={tmp_path}",
            f"run.name={prompts}-{recipe}",
            "data.concepts=[bo]",
            f"rl.validation_prompts={prompts}",
        ]
        console, config = (
            Console(file=io.StringIO()),
            load_config(None, [*options, "rl.validation_steps=50"], base=apply_recipes(["world", recipe])),
        )
        with pytest.raises(Stop):
            run_experiment(config, console, compare_phases=False)
        watched = prompts != "0" and recipe != "understanding-only"
        assert ("needs 4 measurements" in console.file.getvalue()) == watched  # type: ignore[attr-defined]
    assert seen[1] == seen[2] == seen[3] and len(seen[0]) == len(seen[1]) + 5


def test_an_evaluation_that_no_judge_scores_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_r1.experiment.open_run", lambda *_: pytest.fail("the model was opened"))
    with pytest.raises(ValueError, match=r"a scorer: give a judge \(eval.judge.url\) or a CLIP \(eval.clip\)"):
        run_experiment(small(tmp_path, "eval.clip=", "eval.judge.url=", "eval.tasks=[]"), QUIET)


def test_the_number_of_soft_tokens_is_configurable(tmp_path: Path) -> None:
    session = open_session(small(tmp_path, "model.num_tokens=2"))
    assert session.tokens.tokens == ["<token_0>", "<token_1>"]
