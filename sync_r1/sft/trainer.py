"""Run the stages in order: a plain loop with checkpoints between which nothing is lost."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from sync_r1.config import Config, save_config
from sync_r1.console import say
from sync_r1.files import read_json, read_tensors
from sync_r1.metrics_file import append_metrics, drop_metrics_after
from sync_r1.models.base import UnifiedModel
from sync_r1.progress import WorkProgress
from sync_r1.run_folder import CHECKPOINTS, WARM_UP_STATE, checkpoint_name, checkpoint_to_resume, newest
from sync_r1.session import Session
from sync_r1.sft.data import Batch, Streams
from sync_r1.sft.diff_masks import start_reading_tokens
from sync_r1.sft.loss import drawing_loss, understanding_loss
from sync_r1.sft.stages import STAGES, Stage, stage_row_ids
from sync_r1.training.callbacks import StopOnSignal, resume_command
from sync_r1.training.checkpoint import atomic_checkpoint, checked_load, move_newer_aside, rotate
from sync_r1.training.optimizer import make_optimizer
from sync_r1.training.parameters import Trainables
from sync_r1.training.prompts import Prompt, derive_seed

OPTIMIZER_FILE = "optimizer.pt"


@dataclass
class Progressed:
    """How far a warm-up is. All randomness derives from (seed, stage, step), so there is no generator state."""

    seed: int
    stages: list[str]
    stage: int = 0  # index of the stage to go on with
    stage_step: int = 0  # steps done in it
    step: int = 0  # steps done in all

    @staticmethod
    def load(folder: Path) -> Progressed:
        """Read how far the warm-up of a checkpoint is. ValueError when the checkpoint is not of a warm-up."""
        try:
            found = Progressed(**read_json(folder / WARM_UP_STATE))
            if not all(
                type(count) is int and count >= 0 for count in (found.seed, found.step, found.stage, found.stage_step)
            ):
                raise ValueError(f"{WARM_UP_STATE} holds a value of another kind than a count")
            return found
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{folder} is no checkpoint of a warm-up ({error}); resume from one below the warm-up's folder"
            ) from error


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up left."""

    checkpoint: Path  # the last one
    steps: int
    finished: bool  # False after a signal
    stopped: int = 0  # the number of that signal


def run_sft(
    session: Session,
    config: Config,
    folder: Path | None = None,
    console: Console | None = None,
    resume: str | Path | None = None,
    prompts: Sequence[Prompt] | None = None,
    go_on: str | None = None,
) -> WarmUp:
    """Train `session`'s concept through `config.sft.stages`, in place. `Session.open` reads the checkpoints.

    Args:
        folder: receives config.yaml, metrics.jsonl, diff_masks/ and checkpoints/step_*; by default the run's own.
        prompts: what the baseline asks, as RL would be given it; by default everything RL may ask.
        resume: a checkpoint folder or "latest"; a warm-up that had finished is only read. The result equals an
            uninterrupted one.
        go_on: the command that goes on after a signal; by default `sync-r1 sft` on `folder`.
    Raises:
        ValueError: nothing to train or to learn from, an earlier run in the folder, a loss that is not finite.
    """
    folder = folder or config.run.folder
    check_folder(folder, config, resume)
    console = console or Console(quiet=True)
    show = partial(say, console=console)
    checkpoint = checkpoint_to_resume(resume, folder, show) if resume else None
    state = Progressed(config.run.seed, list(config.sft.stages)) if checkpoint is None else _earlier(checkpoint, config)
    folder.mkdir(parents=True, exist_ok=True)
    move_newer_aside(folder / CHECKPOINTS, state.step, show)
    save_config(config, folder / "config.yaml")
    drop_metrics_after(folder / "metrics.jsonl", state.step)
    if checkpoint is not None:
        session.model.load_weights(read_tensors(checkpoint / "model.safetensors"), str(checkpoint))
    run = _Run(session, config, folder, console, state, prompts)
    run.stop_signal.command = go_on or resume_command(folder, "sft")
    with run.stop_signal.listening():
        while state.stage < len(state.stages):
            checkpoint = run.stage(checkpoint)
            if run.stop_signal.agree():
                break
    session.model.eval()
    assert checkpoint is not None, "every stage ends with a checkpoint"
    if run.stop_signal.stopped:
        run.stop_signal.say_how_to_go_on(f"step {state.step} of the warm-up")
    return WarmUp(checkpoint, state.step, state.stage == len(state.stages), run.stop_signal.stopped)


def check_folder(folder: Path, config: Config, resume: str | Path | None = None) -> None:
    """Refuse what could not run, before any weight is loaded.

    Raises ValueError: no stages, or an earlier run in the folder.
    """
    if not config.sft.stages:
        raise ValueError("sft.stages is []; name stages, for example sft.stages=[1,2,3] or sft.stages=[baseline]")
    if not resume and newest(folder):
        raise ValueError(
            f"{folder} holds an earlier run; continue it with --resume latest, choose another run.name, or delete the "
            "folder"
        )


def _earlier(checkpoint: Path, config: Config) -> Progressed:
    state = Progressed.load(checkpoint)
    for name, saved, now in (
        ("run.seed", state.seed, config.run.seed),
        ("sft.stages", state.stages, config.sft.stages),
    ):
        if saved != now:
            raise ValueError(f"{name} is {now}; {checkpoint} was trained with {saved}; set {name}={saved}")
    return state


class _Run:
    """What the stages of one warm-up share."""

    def __init__(
        self,
        session: Session,
        config: Config,
        folder: Path,
        console: Console,
        state: Progressed,
        prompts: Sequence[Prompt] | None,
    ) -> None:
        self.session, self.config, self.folder, self.console, self.state, self.prompts = (
            session,
            config,
            folder,
            console,
            state,
            prompts,
        )
        self.stop_signal = StopOnSignal(config, console)

    def stage(self, checkpoint: Path | None) -> Path:
        """Train one stage, from its start or from a checkpoint within it, to its end or to an interrupt.

        Returns the last checkpoint.
        """
        session, config, state = self.session, self.config, self.state
        stage = STAGES[state.stages[state.stage]]
        ids = stage_row_ids(session.model, stage, session.tokens)
        streams = Streams(session, stage, config, self.prompts)
        if stage.name == "3" and state.stage_step == 0:
            start_reading_tokens(session, self.folder / "diff_masks", state.seed)
        with trainables(session.model, config, ids) as weights:
            learner = Learner(session, config, stage, weights, streams, ids)
            if state.stage_step and checkpoint is not None:
                learner.load(checkpoint)
            return self._train(learner, stage)

    def _train(self, learner: Learner, stage: Stage) -> Path:
        state, sft = self.state, self.config.sft
        steps = learner.steps_per_epoch
        total = steps * (sft.epochs or stage.epochs)
        if state.stage_step >= total:
            raise ValueError(
                f"stage {stage.name} has done {state.stage_step} steps already; raise sft.epochs above {total // steps}"
            )
        saved = None
        with WorkProgress(self.console, f"warm-up {stage.name}", total, state.stage_step) as work:
            while state.stage_step < total:
                epoch, number = divmod(state.stage_step, steps)
                start = time.perf_counter()
                metrics = learner.step(epoch, number)
                state.step, state.stage_step = state.step + 1, state.stage_step + 1
                seconds = {"perf/step_time_s": time.perf_counter() - start}
                row = {"step": state.step, "stage": stage.name, "epoch": epoch + 1, **metrics, **seconds}
                append_metrics(self.folder / "metrics.jsonl", row)
                work.update(state.stage_step, figures=f"loss {metrics['loss']:.3f}")
                ended = state.stage_step == total
                if ended:
                    state.stage, state.stage_step = state.stage + 1, 0
                last = ended or bool(self.stop_signal.asked)  # read once: a signal may come between two lines
                if last or state.stage_step % (steps * sft.save_epochs) == 0:
                    saved = self._save(learner)
                if last:
                    break
        assert saved is not None, "a stage ends with a checkpoint"
        return saved

    def _save(self, learner: Learner) -> Path:
        target = self.folder / CHECKPOINTS / checkpoint_name(self.state.step)
        with atomic_checkpoint(target, step=self.state.step, config=str(self.config.run.name)) as folder:
            learner.save(folder)
            (folder / WARM_UP_STATE).write_text(json.dumps(asdict(self.state), indent=1) + "\n", encoding="utf-8")
            save_config(self.config, folder / "config.yaml")
        rotate(target, self.config.run.save_total_limit)
        return target


@contextmanager
def trainables(model: UnifiedModel, config: Config, ids: Tensor) -> Iterator[Trainables]:
    """Rows `ids` at the warm-up's rate, and the body if it has one; afterwards the model is as trainable as before."""
    sft = config.sft
    if not len(ids) and sft.body_learning_rate == 0:
        raise ValueError(
            "nothing would train: this stage moves no rows of its own; set sft.body_learning_rate, e.g. to 1e-4"
        )
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    rl = replace(
        config.rl, learning_rate=sft.body_learning_rate, concept_learning_rate=sft.learning_rate, lora_rank=0, beta=0.0
    )
    weights = Trainables(model, rl, ids)
    if config.rl.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    try:
        yield weights
    finally:
        weights.rows.release()
        for parameter, trained in before:
            parameter.requires_grad_(trained)


class Learner:
    """One stage's optimizer and losses."""

    def __init__(
        self, session: Session, config: Config, stage: Stage, weights: Trainables, streams: Streams, ids: Tensor
    ) -> None:
        self.model, self.config, self.stage, self.weights, self.streams = session.model, config, stage, weights, streams
        self.seed = config.run.seed
        # the same in every epoch; asking for another epoch would encode all photos again
        self.steps_per_epoch = len(streams.epoch(0))
        groups = [
            {"params": weights.body, "lr": config.sft.body_learning_rate},
            {"params": weights.rows.rows, "lr": config.sft.learning_rate},
        ]
        self.optimizer = make_optimizer(
            groups, weights.rows.write_back, betas=(0.9, 0.999), eps=stage.eps, weight_decay=stage.weight_decay
        )
        name = self.model.tokenizer.get_vocab()[session.tokens.placeholder]
        self.name_row = (ids == name).nonzero().flatten().tolist()  # empty when the placeholder stays
        self.start = [row.detach()[self.name_row].clone() for row in weights.rows.rows]

    def step(self, epoch: int, number: int) -> dict[str, float]:
        """One update. Returns loss, text_loss, image_loss and pull, as far as they are on."""
        batch = self.streams.epoch(epoch)[number]
        self.model.train()
        self.optimizer.zero_grad()
        precision = torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.run.precision == "bf16")
        with precision:
            parts = self.losses(batch, epoch * self.steps_per_epoch + number)
        weights = self.part_weights(parts)
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        metrics = {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}
        if not math.isfinite(metrics["loss"]):
            raise ValueError(
                f"stage {self.stage.name}, epoch {epoch + 1}: the loss is {metrics['loss']}; lower sft.learning_rate "
                f"({self.config.sft.learning_rate:g}) and go on from the last checkpoint"
            )
        loss.backward()
        self.optimizer.step()
        return metrics

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The loss of each part that the batch has: text_loss, image_loss and pull, scalars with a gradient."""
        sft, parts = self.config.sft, {}
        if batch.readings:
            contexts, answers = (
                [reading.context for reading in batch.readings],
                [reading.answer for reading in batch.readings],
            )
            parts["text_loss"] = understanding_loss(self.model, contexts, answers)
        if batch.codes is not None:
            seeds = [derive_seed(self.seed, self.stage.name, step, row) for row in range(len(batch.codes))]
            dropped = [_unit(seed, "dropped") < sft.condition_dropout for seed in seeds]
            parts["image_loss"] = drawing_loss(
                self.model, [self.streams.prompt] * len(seeds), batch.codes, seeds, dropped
            )
        if sft.pull > 0 and self.name_row:
            moved = [
                (row[self.name_row] - start).square().sum() for row, start in zip(self.weights.rows.rows, self.start)
            ]
            parts["pull"] = torch.stack(moved).sum()
        return parts

    def part_weights(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """The weight of each loss; a batch with only one of text_loss and image_loss gives it weight 1."""
        sft = self.config.sft
        both = {"text_loss", "image_loss"} <= parts.keys()
        weights = {}
        if both:
            weights = {"text_loss": sft.understanding_weight, "image_loss": sft.drawing_weight}
        return {name: weights.get(name, 1.0) for name in parts} | ({"pull": sft.pull} if "pull" in parts else {})

    def save(self, folder: Path) -> None:
        self.weights.save(self.model, folder)
        torch.save({"optimizer": self.optimizer.state_dict(), "start": self.start}, folder / OPTIMIZER_FILE)

    def load(self, folder: Path) -> None:
        """Read weights, optimizer and start of a checkpoint that `save` wrote. ValueError when they do not fit."""
        with checked_load(folder, self.optimizer):
            self.weights.load(self.model, folder)
            saved = torch.load(folder / OPTIMIZER_FILE, map_location=self.model.device, weights_only=True)
            self.optimizer.load_state_dict(saved["optimizer"])
            if [row.shape for row in saved["start"]] != [row.shape for row in self.start]:
                raise ValueError("its start is of other rows")
            self.start = saved["start"]


def _unit(*parts: object) -> float:
    """A number in [0, 1) that follows from `parts`."""
    return derive_seed(*parts) / 2**62
