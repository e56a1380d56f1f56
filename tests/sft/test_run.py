"""A warm-up as a whole: checkpoints, resume, stage 3's start, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from sync_r1.config import Config
from sync_r1.models.concept_init import k_means
from sync_r1.run_folder import checkpoints
from sync_r1.session import Session
from sync_r1.sft import trainer
from sync_r1.sft.data import Batch, Streams
from sync_r1.sft.diff_masks import PICTURES, changed_patches, draw_diff_masks, start_reading_tokens
from sync_r1.sft.trainer import Learner, run_sft
from tests.rl.toys import same, weights

Opened, Settings = Callable[[], Session], Callable[..., Config]
STAGES = ["sft.stages=[1,2,3]", "sft.save_epochs=1", "sft.pull=0.1", "run.save_total_limit=20", "sft.fresh_epochs=true"]


def metrics(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not key.startswith("perf/")} for line in lines]


def test_resume_equals_uninterrupted_bit_for_bit(opened: Opened, settings: Settings) -> None:
    config, whole = settings(*STAGES), opened()
    done = run_sft(whole, config)
    assert done.finished and done.steps == metrics(config.run.folder)[-1]["step"]
    assert [row["stage"] for row in metrics(config.run.folder)] == sorted(
        str(row["stage"]) for row in metrics(config.run.folder)
    )
    end, log = weights(whole.model), metrics(config.run.folder)  # type: ignore[arg-type]
    saved = checkpoints(config.run.folder)
    assert len(saved) == 6
    for stop in (saved[0], saved[3], saved[5]):  # within stage 1, between stages 2 and 3, at the end
        for later in checkpoints(config.run.folder):
            if later.name > stop.name:
                shutil.rmtree(later)
        again = opened()
        assert run_sft(again, config, resume="latest").steps == done.steps
        assert same(end, weights(again.model)) and metrics(config.run.folder) == log  # type: ignore[arg-type]


def test_ctrl_c_saves_within_an_epoch_and_goes_on(
    opened: Opened, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = settings("sft.stages=[1,2]", "sft.epochs=1"), opened()
    run_sft(whole, config, folder=config.run.folder / "whole")
    step, cut = Learner.step, opened()

    def interrupting(self: Learner, epoch: int, number: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupting)
        stopped = run_sft(cut, config)
    assert (stopped.finished, stopped.steps, stopped.checkpoint.name) == (False, 1, "step_00001")
    resumed = opened()
    assert run_sft(resumed, config, resume=stopped.checkpoint).finished
    assert same(weights(whole.model), weights(resumed.model))  # type: ignore[arg-type]


def test_a_checkpoint_opens_as_a_session(opened: Opened, settings: Settings) -> None:
    config, session = settings("sft.stages=[baseline]"), opened()
    config.data.root, config.data.concepts = str(session.root), ["bo"]
    checkpoint = run_sft(session, config).checkpoint
    again = Session.open(checkpoint=config.run.folder, device="cpu")
    assert again.run == f"warm/{checkpoint.name}" and again.tokens == session.tokens
    assert same(weights(session.model), weights(again.model))  # type: ignore[arg-type]


def test_losses_fall_and_are_weighed(opened: Opened, settings: Settings) -> None:
    config = settings("sft.stages=[baseline]", "sft.epochs=40", "sft.learning_rate=3e-2", "sft.body_learning_rate=3e-3")
    run_sft(opened(), config)
    rows = metrics(config.run.folder)
    for row in rows:
        assert row["loss"] == pytest.approx(0.2 * row["text_loss"] + 0.8 * row["image_loss"], rel=1e-5)  # type: ignore[operator]
    assert rows[-1]["text_loss"] < 0.5 * rows[0]["text_loss"]  # type: ignore[operator]


def test_the_pull_holds_the_name_and_only_the_name(opened: Opened, settings: Settings) -> None:
    found = {}
    for pull in (0.0, 100.0):
        session = opened()
        first, embed = session.model.config.first_concept, session.model.get_input_embeddings().weight  # type: ignore[attr-defined]
        start = embed.detach().clone()
        run_sft(session, settings("sft.stages=[1]", f"sft.pull={pull}", "sft.epochs=4", f"run.name=pull-{pull}"))
        found[pull] = (embed.detach() - start)[first : first + 3].norm(dim=1)  # type: ignore[operator]
    assert found[100.0][0] < 0.5 * found[0.0][0]
    assert found[100.0][1] > 0.5 * found[0.0][1]


def test_pictures_are_encoded_once_per_epoch(
    opened: Opened, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, materialise = [], Streams._materialise

    def counting(self: Streams, number: int) -> list[Batch]:
        drawn.append(number)
        return materialise(self, number)

    monkeypatch.setattr(Streams, "_materialise", counting)
    config = settings("sft.stages=[2]", "sft.fresh_epochs=true", "sft.epochs=3", "sft.drawing_batch=1")
    assert run_sft(opened(), config).steps > 3 and drawn == [0, 1, 2]


def test_dropped_prompts_teach_the_rows_nothing(opened: Opened, settings: Settings) -> None:
    session = opened()
    before = session.model.read_rows(range(session.model.config.vocab_size))  # type: ignore[attr-defined]
    run_sft(
        session,
        settings("sft.stages=[2]", "sft.condition_dropout=1", "sft.understanding_weight=0", "sft.learning_rate=1e-6"),
    )
    after = session.model.read_rows(range(session.model.config.vocab_size))  # type: ignore[attr-defined]
    assert_close(after.embed, before.embed, rtol=0, atol=1e-8)  # weight decay alone


def test_changed_patches_are_white() -> None:
    pictures = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    painted = changed_patches(pictures, torch.tensor([[False, True, False, False]]))
    assert painted[0, :, :2, 2:].eq(255).all() and painted.long().sum() == 255 * 12


def test_stage_three_starts_at_what_changes_late(opened: Opened, tmp_path: Path) -> None:
    session = opened()
    model = session.model
    paths = draw_diff_masks(session, tmp_path / "masks", seed=3)
    assert len(paths) == PICTURES == len(list((tmp_path / "masks").iterdir()))
    white = [(torch.tensor(list(Image.open(path).getdata())) == 255).all(1).float().mean() for path in paths]
    assert max(white) > 0
    before = weights(model)  # type: ignore[arg-type]
    start_reading_tokens(session, tmp_path / "again", seed=3)
    codes = torch.cat([model.encode_image([Image.open(path).convert("RGB")]) for path in paths])
    ids = model.tokenizer.convert_tokens_to_ids(["<token_3>", "<token_4>"])
    assert_close(model.read_rows(ids).embed, k_means(model.code_embeddings(codes.flatten()), 2, 0))
    assert torch.equal(model.read_rows(ids).head_weight, before["showo.lm_head.weight"][ids])
    assert [path.read_bytes() for path in paths] == [(tmp_path / "again" / path.name).read_bytes() for path in paths]


def test_mistakes_are_explained(opened: Opened, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    session, config = opened(), settings("sft.stages=[1]", "sft.epochs=1")
    run_sft(session, config)
    with pytest.raises(ValueError, match="holds an earlier run; continue it with --resume latest"):
        run_sft(session, config)
    for change, words in [
        ("run.seed=1", "run.seed is 1; .* set run.seed=0"),
        ("sft.stages=[1,2]", r"sft.stages is .* was trained with \['1'\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            run_sft(session, settings("sft.stages=[1]", "sft.epochs=1", change), resume="latest")
    (config.run.folder / "other").mkdir()
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        run_sft(session, config, resume=config.run.folder / "other")
    for wrong, words in [
        ("sft.stages=[4]", "sft.stages is '4'; it must be one of 1, 2, 3, photos, baseline"),
        ("sft.photo_prompt=bo", "must hold {name}"),
    ]:
        with pytest.raises(ValueError, match=words):
            settings(wrong)
    monkeypatch.setattr(trainer, "understanding_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(ValueError, match=r"stage 1, epoch 1: the loss is nan; lower sft.learning_rate \(0.01\)"):
        run_sft(opened(), settings("sft.stages=[1]", "run.name=nan"))
