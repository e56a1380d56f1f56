"""Sync-GRPO on top of transformers.Trainer: roll out, score, advantage, loss, update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from rich.console import Console
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback

from sync_r1.config import Config, save_config
from sync_r1.console import say
from sync_r1.distributed import Processes, launched, watching
from sync_r1.metrics_file import or_say_how_to_go_on
from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.rl.advantages import Advantages
from sync_r1.rl.gather import gather_rollout
from sync_r1.rl.replay import Replay, timesteps
from sync_r1.rl.rewards import Breakdown, RewardEnsemble
from sync_r1.rl.rollout import PreviewScore, Rollout
from sync_r1.rl.step_credit import credit_steps, credit_trajectories
from sync_r1.rl.step_metrics import step_metrics
from sync_r1.rl.trainer_setup import Steps, build_closed_answers, build_sampler, check_setup, training_arguments
from sync_r1.rl.trainer_state import BeforeStep, Experience, SyncState
from sync_r1.rl.trajectories import are_due, save_trajectories
from sync_r1.run_folder import CHECKPOINTS, checkpoint_name, checkpoint_to_resume, checkpoints, step_of
from sync_r1.training.callbacks import (
    RestoreRNG,
    RunStart,
    StepAbandoned,
    StopOnSignal,
    generator_states,
    set_generator_states,
)
from sync_r1.training.checkpoint import (
    as_value_error,
    atomic_checkpoint,
    check_files,
    check_progress,
    checked_load,
    rotate,
)
from sync_r1.training.metrics import MetricsFile, Phases
from sync_r1.training.parameters import Trainables
from sync_r1.training.progress import ProgressBar
from sync_r1.training.prompts import Prompt, prompt_stream
from sync_r1.training.sharding.base import DataParallel
from sync_r1.training.sharding.factory import build_sharding


class TrainingStopped(ValueError):
    """Too many steps in a row gave nothing to learn from."""


class SyncGRPOTrainer(Trainer):
    """Trains a unified model on both parts of its trajectories.

    Args:
        model: with its concepts already added.
        config: validated; `config.run.folder` receives config.yaml, metrics.jsonl, trajectories/ and checkpoints/.
        prompts: what may be asked (see `training_prompts`).
        rewards: the ensemble.
        preview_score: a reward function for previews; needed when DGS is on.
        console: where the progress bar and messages go; None is silent.
    Raises:
        ValueError: a part is to be optimised that no reward can move, DGS without preview score, an unsupported
            distribution.
    """

    def __init__(
        self,
        model: UnifiedModel,
        config: Config,
        prompts: Sequence[Prompt],
        rewards: RewardEnsemble,
        preview_score: PreviewScore | None = None,
        console: Console | None = None,
    ) -> None:
        check_setup(config.rl, prompts, rewards, preview_score)  # a trainer may be made without an experiment
        self.config, self.prompts, self.rewards, self.console = config, list(prompts), rewards, console
        super().__init__(
            model=cast(Any, model),
            args=training_arguments(config),
            train_dataset=Steps(config.rl.max_steps * launched()),
        )
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise ValueError(
                f"accelerate's {self.accelerator.distributed_type.value} is not supported; launch plain data "
                "parallelism, with run.sharding=fsdp2 to share what the optimizer keeps"
            )
        # replay does not go through a wrapper's forward, so gradients are averaged in update() and no wrapper is wanted
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, **kwargs: prepare(model, **{**kwargs, "evaluation_mode": True})
        self.processes = Processes(self.accelerator.process_index, self.accelerator.num_processes)
        self.remove_callback(PrinterCallback)
        self.policy = model  # on its device by now
        self.trainables = Trainables(model, config.rl, learned_row_ids(model), seed=config.run.seed)
        self.reference = self.trainables.reference(model)
        self.sharding = DataParallel(self.processes.count)  # until the optimizer is made
        if config.rl.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        self.sampler = build_sampler(model, config.rl, preview_score, self.processes)
        self.closed = build_closed_answers(config, self.prompts, self.accelerator, self.sampler)
        self.sync_state = SyncState(seed=config.run.seed)
        self.phases = Phases()
        self.stop_signal, self.random_states = StopOnSignal(config, console, self.processes), RestoreRNG()
        metrics = MetricsFile(config.run.folder / "metrics.jsonl")
        for callback in (RunStart(config, self.say), metrics, self.stop_signal, self.random_states):
            self.add_callback(callback)
        self.progress: ProgressBar | None = None
        if console is not None:
            self.progress = ProgressBar(console)
            self.add_callback(self.progress)
        self.experience: Experience | None = None
        self._metrics: dict[str, float] = {}
        self._grad_norm = 0.0

    # the run

    def train(self, resume_from_checkpoint: str | Path | None = None, **_: Any) -> Any:  # type: ignore[override]
        """Train to `rl.max_steps`. `resume_from_checkpoint` is a checkpoint folder or "latest".

        The first Ctrl-C ends the run after the current step with a checkpoint, the first SIGTERM with one of before the
        step, the second at once.
        """
        resume, folder = resume_from_checkpoint, self.config.run.folder / CHECKPOINTS
        checkpoint = checkpoint_to_resume(resume, self.config.run.folder, self.say) if resume else None
        if checkpoint is not None:
            check_progress(checkpoint, SyncState.load(checkpoint).step, self.state)
        lost = (
            f"start all processes again, with --resume latest once {folder} holds a checkpoint: those there are "
            "complete"
        )
        try:
            with self.stop_signal.listening(), watching(self.processes, lost):
                try:
                    done = super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                except StepAbandoned:
                    self._save_before_step()
                    return None
                self.sharding.gather()
                return done
        finally:
            self.trainables.rows.release()
            if self.progress is not None:
                self.progress.stop()

    # a step

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One update: roll out, score and credit every `num_iterations`-th time, then loss and update.

        Returns the loss, detached.
        """
        model.train()
        self.sharding.gather()
        self._clear_gradients()
        begins = self.experience is None or self.state.global_step % self.config.rl.num_iterations == 0
        if begins:
            self._before = self._state_now()
        if begins and self.config.rl.rolls_out:
            with self.stop_signal.may_abandon():
                rollout = self.roll_out()
                scores = self.score(rollout)
            credit = self.advantage(rollout, scores)  # writes files, whole ones
        with self.stop_signal.may_abandon(begins):
            if begins and self.config.rl.rolls_out:
                self.experience = Experience(rollout, self.step_credit(rollout, scores, credit))
            loss = self.loss(self.experience)
        return self.update(loss)

    def roll_out(self) -> Rollout:
        """Draw this step's trajectories; every process draws its own prompts."""
        rl, step = self.config.rl, self.state.global_step
        count, asked = rl.prompts_of(step // rl.num_iterations)
        first = asked * self.processes.count + self.processes.index * count
        seed = self.config.run.seed
        prompts = prompt_stream(self.prompts, count=count, shares=rl.shares(), seed=seed, first=first)
        with self.phases.time("rollout"), self.accelerator.autocast():
            return self.sampler.roll_out(prompts, seed=seed, step=step, first=first, draw=not self.texts_only)

    @property
    def texts_only(self) -> bool:
        """Whether this step's rollout is one of those between drawn ones (`draw_every`)."""
        rl = self.config.rl
        return rl.optimise == "both" and not rl.drawn(self.state.global_step // rl.num_iterations)

    def score(self, rollout: Rollout) -> Breakdown:
        """Ask every scorer; of a tree, also what the texts promise."""
        promises = rollout.promises()
        with self.phases.time("reward"):
            scores = self.rewards.score(rollout)
            if promises is not None:
                found = self.rewards.only("image").score(promises)
                silent = found.text.isnan() & (scores.text == 0).all(1, keepdim=True)  # nothing tells its texts apart
                text = scores.text.masked_fill(silent, math.nan)
                scores = replace(scores, text=text, promised=found.image.squeeze(2))
        return scores

    def advantage(self, rollout: Rollout, scores: Breakdown) -> Advantages:
        """Credit both parts. Rewards of all processes are centred and scaled together, then each keeps its own."""
        everything, known = gather_rollout(self.processes, rollout, scores, pictures=self._trajectories_due())
        self.sampler.observe(everything, known.image)
        credit = credit_trajectories(self.config.rl, everything, known)
        self._count(everything, known, credit)
        self._save_trajectories(everything, known, credit)
        count = len(rollout.prompts)
        return credit.of(slice(self.processes.index * count, (self.processes.index + 1) * count))

    def _count(self, rollout: Rollout, scores: Breakdown, credit: Advantages) -> None:
        """Note the step's metrics, and add its evaluations of the model to those of the run."""
        self._metrics |= step_metrics(
            rollout,
            scores,
            credit,
            self.sampler.scaling,
            texts_only=self.texts_only,
            max_length=self.config.rl.max_completion_length,
        )
        self.sync_state.nfe += int(self._metrics["dgs/nfe"])

    def step_credit(self, rollout: Rollout, scores: Breakdown, credit: Advantages) -> Advantages:
        """The credit of each decoding step that this rollout's updates will replay (see `credit_steps`)."""
        updates = range(self.state.global_step, self.state.global_step + self.config.rl.num_iterations)
        steps = {step for update in updates for step in timesteps(self.config.rl, self.config.run.seed, update)}
        with self.phases.time("reward"):
            return credit_steps(self.policy, self.rewards.only("image"), self.config.rl, rollout, scores, credit, steps)

    def loss(self, experience: Experience | None) -> Tensor:
        """Replay both parts piece by piece, with a backward each, so that memory does not grow with steps or
        completions; without an experience there are only closed questions."""
        step, loss = self.state.global_step, torch.zeros(())
        metrics: dict[str, float] = {}
        with self.phases.time("loss"):
            if experience is not None:
                replay = Replay(
                    self.policy, self.config.rl, self.reference, self.accelerator, self.config.run.seed, self.processes
                )
                loss, metrics = replay.backward(experience.rollout, experience.advantages, step=step)
            if self.closed is not None:
                closed, found = self.closed.backward(self.policy, step)
                loss, metrics = loss + closed, {**metrics, **found}
        if experience is None:
            metrics["reward"] = metrics["closed/reward"]
        self._metrics |= metrics
        return loss

    def update(self, loss: Tensor) -> Tensor:
        """Average gradients over processes, clip, and let the optimizer step, or skip when there is nothing sound to
        learn from.
        """
        with self.phases.time("update"):
            parameters = self.trainables.parameters()
            self.sharding.average(parameters)
            self._grad_norm = self.sharding.clip(parameters, self.config.rl.max_grad_norm or math.inf)
            loss = self.accelerator.reduce(loss.to(self.args.device), "mean")
            reason = self._why_skip(float(loss))
            if reason:
                self._clear_gradients()
                loss = torch.zeros_like(loss)
        self._count_skip(reason)
        return loss

    def _why_skip(self, loss: float) -> str:
        if self.experience is not None and self.experience.advantages.metrics.get("frac_unscored") == 1.0:
            return "no trajectory could be scored"
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if math.isfinite(self._grad_norm):
            return ""
        return f"the gradient norm is {self._grad_norm}"

    def _count_skip(self, reason: str) -> None:
        state, limit = self.sync_state, self.config.rl.max_skipped_steps
        state.count_update(skipped=bool(reason))
        self._metrics["skipped_steps"] = float(state.skipped_steps)
        if not reason:
            return
        step = self.state.global_step + 1
        self.say(f"step {step} changed nothing: {reason}", "yellow")
        if state.skipped_in_a_row > limit:
            raise TrainingStopped(
                f"step {step}: {reason}, {state.skipped_in_a_row} times in a row (rl.max_skipped_steps={limit}); look "
                "at rewards/*/missing and abs_dlogp in metrics.jsonl, lower the learning rate, resume from the last "
                "checkpoint"
            )

    def _clear_gradients(self) -> None:
        self.sharding.clear(self.trainables.parameters())

    # what transformers asks for in between

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:  # weights of a checkpoint are in by now
            self.sharding = build_sharding(self.policy, self.trainables, self.config.run.sharding, self.processes.count)
            self.reference = self.sharding.reference(self.reference)
            self.optimizer = self.sharding.optimizer(self.trainables)
        return self.optimizer

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
        return self._grad_norm  # update() has clipped already

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics, self._metrics = self._metrics, {}
        metrics["nfe_total"] = float(self.sync_state.nfe)
        super().log({**logs, **metrics, **self.phases.metrics()} if "loss" in logs else logs, start_time)

    # checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Everything a resumed run needs, in a folder that appears only when complete."""
        step = self.state.global_step
        target = self.config.run.folder / CHECKPOINTS / checkpoint_name(step)
        self.store_flos()
        self.sync_state.step, self.sync_state.scaling = step, self.sampler.scaling.state_dict()
        generators = self.processes.gather(generator_states())
        with self.sharding.saving():
            if self.args.should_save:
                self._write_checkpoint(target, generators)
        self.accelerator.wait_for_everyone()

    def _state_now(self) -> BeforeStep:
        return BeforeStep(replace(self.sync_state), self.sampler.scaling.state_dict(), generator_states())

    def _save_before_step(self) -> None:
        """A checkpoint as of the beginning of a step that was abandoned, unless there is one; and how to go on."""
        self.sync_state, step = self._before.counters, self.state.global_step
        self.sampler.scaling.load_state_dict(self._before.scaling)
        set_generator_states(self._before.generators)
        if step not in map(step_of, checkpoints(self.config.run.folder)):
            self._save_checkpoint(cast(Any, self.policy))
        self.stop_signal.stopped = self.stop_signal.asked
        self.stop_signal.say_how_to_go_on(f"step {step}")

    def _write_checkpoint(self, target: Path, generators: list[dict[str, Any]]) -> None:
        with (
            self.phases.time("save"),
            atomic_checkpoint(target, step=self.sync_state.step, config=str(self.config.run.name)) as folder,
        ):
            self.trainables.save(self.policy, folder)
            self._save_optimizer_and_scheduler(str(folder))
            self.state.save_to_json(str(folder / "trainer_state.json"))
            save_config(self.config, folder / "config.yaml")
            self.sync_state.save(folder)
            self.random_states.save(folder, generators)
        rotate(target, self.config.run.save_total_limit)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        state = SyncState.load(folder)
        state.check(folder, self.config, self.sampler.scaling.state_dict())
        with as_value_error(folder):
            self.trainables.load(self.policy, folder)
            self.random_states.load(folder, self.accelerator.process_index)
            self.sampler.scaling.load_state_dict(state.scaling)
        self.sync_state = state

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder, optimizer = Path(checkpoint), self.optimizer
        assert optimizer is not None, "transformers has made it by now"
        check_files(folder)
        with checked_load(folder, optimizer, self.lr_scheduler):
            super()._load_optimizer_and_scheduler(checkpoint)

    # what is kept of a step

    def _trajectories_due(self) -> bool:
        return not self.texts_only and are_due(self.config, self.state.global_step + 1)

    def _save_trajectories(self, rollout: Rollout, scores: Breakdown, credit: Advantages) -> None:
        run, step = self.config.run, self.state.global_step + 1
        if self._trajectories_due() and self.processes.main:
            with self.phases.time("log"), or_say_how_to_go_on(run.folder / "trajectories"):
                save_trajectories(
                    run.folder / "trajectories", step, rollout, scores, credit, max_images=run.completions_images
                )

    def note(self, metrics: dict[str, float]) -> None:
        """Log these with the current step."""
        self._metrics |= metrics

    def say(self, message: str, style: str = "") -> None:
        """Print on the console, once for all processes."""
        if self.console is not None and self.is_world_process_zero():
            say(message, style, console=self.console)
