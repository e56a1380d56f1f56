"""The real thing in small: published Show-o weights, a published archive and published scorers through the commands
users type.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from sync_r1.config import Config, load_config
from sync_r1.experiment import run_experiment
from sync_r1.recipes import apply_recipes
from sync_r1.session import Session
from tests.data.archive import build_archive
from tests.models.published import Published, write_full_vocabulary
from tests.scorers.published import save_published_clip
from tests.test_experiment import QUIET, small

SMALL = [
    "rl.max_steps=2", "rl.num_generations=2", "rl.generation_timesteps=4", "rl.train_timesteps=2",
    "rl.dgs_preview_step=2", "rl.max_completion_length=6", "rl.guidance_scale=2", "rl.warmup_steps=0",
    "run.save_steps=1", "run.precision=fp32", "run.device=cpu", "eval.generation_timesteps=2",
    "eval.max_completion_length=4", "eval.max_items=1", "eval.tasks=[vqa,rea,rea_gen]",
]  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_archive(tmp_path_factory.mktemp("archive") / "unictokens_data")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_full_vocabulary(tmp_path_factory.mktemp("published"), image_tokens=16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published_clip(tmp_path_factory.mktemp("clip"))


def configured(folder: Path, published: Published, archive: Path, clip: Path, *more: str) -> Config:
    paths = {
        "model.path": published.showo,
        "model.image_tokenizer": published.image_tokenizer,
        "model.text_tokenizer": published.text_tokenizer,
        "data.root": archive,
        "scorers.clip": clip,
        "eval.clip": clip,
        "run.output_dir": folder,
    }
    given = [f"{key}={value}" for key, value in paths.items()] + ["data.concepts=[bo]", "run.name=real"]
    return load_config(None, [*given, *SMALL, *more], base=apply_recipes(["showo-512"]))


@pytest.mark.parametrize(
    "how", [["rl.lora_rank=2", "model.dtype=bf16"], ["sft.stages=[1,2]", "sft.epochs=1", "model.init=images"]]
)
def test_published_weights_train_evaluate_resume_and_open(
    tmp_path: Path, published: Published, archive: Path, clip: Path, how: list[str]
) -> None:
    config = configured(tmp_path, published, archive, clip, *how)
    summary = run_experiment(config, QUIET)
    assert summary["steps"] == 2 and {"vqa", "rea", "rea_gen"} >= set(summary["tasks"]) >= {"rea_gen"}
    assert summary["reward_models"] == [f"CLIP {clip}"] and "shares" in summary["evaluator_notes"][0]
    rows = [json.loads(line) for line in (config.run.folder / "metrics.jsonl").read_text().splitlines()]
    # replay is what was sampled
    assert all(row["text/abs_dlogp"] < 0.05 and row["image/abs_dlogp"] < 0.05 for row in rows)
    assert rows[0]["dgs/nfe"] > 0 and rows[0]["grad_norm"] > 0

    session = Session.open(checkpoint=config.run.folder)
    assert session.model.dtype == torch.float32  # adapters were added in fp32: bf16 would round small ones away
    assert (
        len(session.tokens.tokens) == 24
        and len(session.tokens.reading_tokens) == 16
        and len(session.tokens.drawing_tokens) == 24
    )
    assert session.model.config.image_offset == 50330  # type: ignore[attr-defined]
    assert session.draw("a photo of <bo>", n=1)[0].size == (session.model.image_size,) * 2

    further = configured(tmp_path, published, archive, clip, *how, "rl.max_steps=3")
    assert run_experiment(further, QUIET, resume="latest")["steps"] == 3


def test_a_run_that_began_with_a_warm_up_goes_on_from_the_same_start(tmp_path: Path) -> None:
    """KL compares with the warmed model, before a stop and after it: the resumed run equals the uninterrupted one."""
    options = [
        "sft.stages=[baseline]",
        "sft.epochs=1",
        "sft.body_learning_rate=1e-3",
        "rl.beta=0.5",
        "rl.validation_prompts=1",
        "rl.max_steps=3",
        "rl.lr_scheduler_type=constant",
    ]

    def row_after_row(name: str, resume: str | None = None) -> list[dict[str, float]]:
        config = small(tmp_path, *options, f"run.name={name}")
        run_experiment(config, QUIET, resume=resume, compare_phases=False)
        rows = [json.loads(line) for line in (config.run.folder / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows]

    whole = row_after_row("whole")
    assert whole[-1]["text/kl"] >= 0 and "val/evaluator" in whole[-1]
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "step_00003")  # as if it had been killed before
    assert row_after_row("stopped", resume="latest") == whole
    (tmp_path / "stopped" / "sft" / "checkpoints").rename(tmp_path / "gone")
    further = small(tmp_path, *options, "run.name=stopped", "rl.max_steps=4")
    with pytest.raises(ValueError, match="no checkpoint of the warm-up"):
        run_experiment(further, QUIET, resume="latest", compare_phases=False)


def test_a_wrong_data_root_stops_before_anything_is_loaded(
    tmp_path: Path, published: Published, archive: Path, clip: Path
) -> None:
    config = configured(tmp_path, published, archive / "concept", tmp_path / "no-such-clip")
    with pytest.raises(ValueError, match="did you mean"):
        run_experiment(config, QUIET)
