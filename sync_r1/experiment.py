"""One experiment: evaluate, train, evaluate again with another judge, compare, report.

`demo` and `train` are both this.
"""

from __future__ import annotations

import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sync_r1 import __version__
from sync_r1.config import Config, save_config
from sync_r1.console import say
from sync_r1.distributed import Processes, join_processes, watching
from sync_r1.files import write_json
from sync_r1.folder_lock import hold, hold_together
from sync_r1.open_run import check_data, one_process, open_run
from sync_r1.progress import over_tasks
from sync_r1.report import write_report, write_sheet
from sync_r1.resuming import giving_way, saying_what_is_kept, start_or_resume
from sync_r1.rl.hacking_monitor import WINDOW, RewardHackingMonitor, split_validation
from sync_r1.rl.rewards import RewardEnsemble, build_rewards
from sync_r1.rl.score_curve import ScoreCurve
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.rl.trainer_setup import check_setup
from sync_r1.run_folder import checkpoint_name, newest
from sync_r1.scorer_factory import Evaluator, Scorers, build_evaluator, build_scorers, evaluator_notes
from sync_r1.scorer_networks import judge_rewards
from sync_r1.scorers.base import Judge
from sync_r1.session import Session
from sync_r1.sft.trainer import WarmUp, check_folder, run_sft
from sync_r1.signals import if_stopped, resume_command
from sync_r1.training.metrics import peak_memory_mb
from sync_r1.training.own_drawings import asked_after_warm_up
from sync_r1.training.prompts import Prompt, evaluation_prompts, session_prompts
from sync_r1.unifybench.compare import compare
from sync_r1.unifybench.evaluate import evaluate, items_of
from sync_r1.unifybench.results import GENERATION, EvalResult
from sync_r1.unifybench.score import check_judges

LIBRARIES = ("torch", "transformers", "accelerate", "numpy")


def run_experiment(
    config: Config, console: Console, resume: str | None = None, compare_phases: bool = True, fresh: bool = False
) -> dict[str, Any]:
    """Train one concept as configured and return the summary, which is also in `<run>/summary.json` beside the report.

    Under `accelerate launch` or `torchrun` all processes call this; they share training and evaluation, and the main
    one writes. After Ctrl-C or SIGTERM the summary's `stopped` is the number of the signal.

    Args:
        resume: checkpoint folder or "latest". Evaluations that are already there are kept.
        compare_phases: False trains only.
        fresh: an earlier run in the folder gives way to this one, but not before this one has passed all checks.
    Raises:
        ValueError: wrong configuration or data, before any weight moves, or another process works in the run's folder.
        PeerLost: another process ended, so that this one cannot go on.
    """
    if config.sft.stages:
        one_process("a warm-up (sft.stages)")
    processes = join_processes(config.run.device == "cpu" or not torch.cuda.is_available(), config.run.peer_timeout_s)
    console, folder = console if processes.main else Console(quiet=True), config.run.folder
    lost = f"start all processes again, with --resume latest once {folder} holds a checkpoint"
    with watching(processes, lost), hold_together(folder, processes):
        command = resume_command(folder, "train", *([] if compare_phases else ["--no-evaluate"]))
        with ExitStack() as checking:
            checking.enter_context(if_stopped("nothing has begun yet"))
            if processes.main:
                replace_earlier = checking.enter_context(giving_way(folder, fresh))
            processes.wait()  # the others look into the folder only now
            run = _prepare(config, console, resume, compare_phases, processes)
            if processes.main:
                replace_earlier()
        with saying_what_is_kept(config, command):
            return _run_experiment(run, console, command)


@dataclass(frozen=True)
class _Prepared:
    """A run that has passed its checks."""

    config: Config
    processes: Processes
    started: float
    checkpoint: Path | None  # to go on from
    resumed: bool
    session: Session
    scorers: Scorers
    rewards: RewardEnsemble
    prompts: list[Prompt]
    validation: list[Prompt]  # prompts held out of training
    judge: Judge | None  # of drawings on the validation prompts; None where none are made
    evaluator: Evaluator | None  # of the phases before and after; None where these are not compared


def _prepare(
    config: Config, console: Console, resume: str | None, compare_phases: bool, processes: Processes
) -> _Prepared:
    """Check everything that can be refused, and open the model."""
    started, folder = time.monotonic(), config.run.folder
    checkpoint = start_or_resume(folder, resume, console)
    check_data(config)
    watched_prompts = config.rl.validation_prompts or config.rl.test_prompts
    watched = watched_prompts > 0 and config.rl.draws
    scorers = build_scorers(config)
    evaluator = None
    if compare_phases or watched:
        evaluator = _evaluator(config, compare_phases)
    judge = None
    if evaluator is not None and watched:
        judge = evaluator.image_judge
    if watched and judge is None:
        option = "validation_prompts" if config.rl.validation_prompts else "test_prompts"
        seen = f"rl.{option} is {watched_prompts}, but no judge watches them"
        raise ValueError(f"{seen}; set eval.judge.url, or rl.{option}=0")
    rewards = replace(
        build_rewards(scorers.weights, scorers.library, scorers.fallback),
        normalize_then_sum=config.rl.multi_objective_aggregation == "normalize_then_sum",
    )
    session = open_run(config, console, processes)
    scorers.prepare(session.concept)
    # held out also where nothing is drawn for the monitor, so that every run trains on the same prompts
    prompts, validation = split_validation(session_prompts(session), config.rl.validation_prompts)
    # the trainer checks it too, but only after the first evaluation and the warm-up
    check_setup(config.rl, prompts, rewards, scorers.preview)
    if checkpoint is None and processes.main:  # a resumed run keeps what it was begun with until its training begins
        save_config(config, folder / "config.yaml")
    return _Prepared(
        config=config,
        processes=processes,
        started=started,
        checkpoint=checkpoint,
        resumed=bool(resume),
        session=session,
        scorers=scorers,
        rewards=rewards,
        prompts=prompts,
        validation=validation,
        judge=judge,
        evaluator=evaluator if compare_phases else None,
    )


def _evaluator(config: Config, compare_phases: bool) -> Evaluator:
    """Judge and CLIP of the evaluation. Refused, before any model is loaded, where drawings would have neither."""
    evaluator = build_evaluator(config)
    drawings = set(config.eval.tasks or GENERATION) & set(GENERATION)
    check_judges(compare_phases and bool(drawings), evaluator.image_judge, evaluator.clip)
    return evaluator


def _run_experiment(run: _Prepared, console: Console, command: str) -> dict[str, Any]:
    config, processes, session, evaluator = run.config, run.processes, run.session, run.evaluator
    if run.judge is not None and run.validation:
        _warn_of_few_validations(config, console)
    before = None
    if evaluator is not None:
        before = evaluate_phase(session, config, "before", evaluator, console, run.resumed, processes)
    if config.sft.stages:
        warm = warm_up(session, config, console, run.prompts, run.checkpoint is not None, command)
        if warm.stopped:
            return {"stopped": warm.stopped}
    prompts = asked_after_warm_up(session, config, run.prompts, processes)
    trainer = SyncGRPOTrainer(session.model, config, prompts, run.rewards, run.scorers.preview, console)
    trainer.stop_signal.command = command
    if run.judge is not None:
        if run.validation:
            add_hacking_monitor(trainer, run.validation, run.rewards, run.judge)
        if config.rl.test_prompts:
            add_score_curve(trainer, session, run.judge)
    trainer.train(resume_from_checkpoint=run.checkpoint)
    steps, stopped = trainer.state.global_step, trainer.stop_signal.stopped
    finished = steps >= config.rl.max_steps and not stopped
    session.run = f"{config.run.name}/{checkpoint_name(steps)}"
    summary = _summary_of(session, config, steps)
    if evaluator is not None and before is not None and finished:
        after = evaluate_phase(session, config, "after", evaluator, console, False, processes)
        summary |= {**compare(before, after), "evaluator": evaluator.name, "evaluator_notes": evaluator_notes(config)}
    summary |= {
        "reward_models": run.scorers.models,
        "nfe": trainer.sync_state.nfe,
        "processes": processes.count,
        **({"stopped": stopped} if stopped else {}),
        **run_cost(run.started, session.model.device),
    }
    if processes.main:
        _write_results(summary, config.run.folder, console, finished)
    return summary


def _warn_of_few_validations(config: Config, console: Console) -> None:
    """The reward-hacking monitor compares two windows of measurements; a short run never has both."""
    rl, needed = config.rl, 2 * WINDOW
    if rl.max_steps // rl.validation_steps < needed:
        seen = f"rl.validation_steps is {rl.validation_steps} and rl.max_steps {rl.max_steps}"
        few = f"The reward-hacking monitor needs {needed} measurements on the validation prompts and will never warn"
        say(f"{few}: {seen}", "yellow", console=console)


def evaluate_phase(
    session: Session,
    config: Config,
    phase: str,
    evaluator: Evaluator,
    console: Console,
    keep: bool = False,
    processes: Processes | None = None,
) -> EvalResult:
    """Predict and score the held-out items with the evaluator and write the result to `<run>/eval/<phase>.json`.

    Args:
        keep: read the file instead where it is there already.
    """
    processes, out = processes or Processes(), config.run.folder / "eval"
    if processes.on_main(lambda: keep and (out / f"{phase}.json").is_file()):
        return processes.on_main(lambda: EvalResult.read(out / f"{phase}.json"))
    total = len(items_of(session, config.eval.tasks))
    with over_tasks(console, f"evaluate {phase}", total) as progress:
        judge, clip, name = evaluator
        return evaluate(
            session, out, phase, image_judge=judge, clip=clip, judge_name=name, progress=progress, processes=processes
        )


def warm_up(
    session: Session, config: Config, console: Console, prompts: list[Prompt], resumed: bool, command: str
) -> WarmUp:
    """Run `sft.stages` in `<run>/sft`, going on where an earlier attempt stopped.

    A finished one is only read: a resumed run needs it too, as the start that KL compares with and adapters sit on.

    Args:
        command: what goes on with the run, for a warm-up that a signal ends.
    """
    folder = config.run.folder / "sft"
    earlier = "latest" if newest(folder) else None
    if resumed and earlier is None:
        raise ValueError(
            f"{folder} has no checkpoint of the warm-up that this run began with; put it back, or start the run anew"
        )
    return run_sft(session, config, folder, console, earlier, prompts, command)


def add_hacking_monitor(
    trainer: SyncGRPOTrainer, validation: list[Prompt], rewards: RewardEnsemble, judge: Judge
) -> None:
    """Log rewards and evaluator on the validation prompts, and warn when they part."""
    config = trainer.config
    evaluators = judge_rewards(judge, config.eval.judge)
    trainer.add_callback(
        RewardHackingMonitor(
            trainer.sampler.without_scaling(processes=Processes()),
            validation,
            replace(rewards, normalize_then_sum=False),  # standardised rewards have no level to watch
            [evaluators.likeness, evaluators.faithfulness],
            every=config.rl.validation_steps,
            seed=config.run.seed,
            metrics=config.run.folder / "metrics.jsonl",
            note=trainer.note,
            autocast=trainer.accelerator.autocast,
            warn=lambda message: trainer.say(message, "yellow"),
        )
    )


def add_score_curve(trainer: SyncGRPOTrainer, session: Session, judge: Judge) -> None:
    """Log the evaluator's score of test prompts along the run (`rl.test_prompts`)."""
    config = trainer.config
    evaluators = judge_rewards(judge, config.eval.judge)
    sampler = trainer.sampler.without_scaling(
        processes=Processes(), group_size=config.rl.test_drawings, images_per_text=1
    )
    trainer.add_callback(
        ScoreCurve(
            sampler,
            evaluation_prompts(session.concept, session.tokens, config.rl.test_prompts),
            [evaluators.likeness, evaluators.faithfulness],
            every=config.rl.validation_steps,
            seed=config.run.seed,
            note=trainer.note,
            autocast=trainer.accelerator.autocast,
        )
    )


def run_cost(started: float, device: torch.device) -> dict[str, Any]:
    """Seconds since `started`, peak memory, and what it ran with and on."""
    versions = {
        "sync-r1": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
    where = "CPU"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return {
        "device": where,
        "wall_time_s": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "versions": versions,
    }


def _summary_of(session: Session, config: Config, steps: int) -> dict[str, Any]:
    """The fields that every summary begins with."""
    return {"concept": session.concept.name, "seed": config.run.seed, "stages": config.sft.stages, "steps": steps}


def _write_results(summary: dict[str, Any], folder: Path, console: Console, finished: bool) -> None:
    write_json(folder / "summary.json", summary)
    if finished:
        say(f"report  {write_report(folder)}", console=console)
        if sheet := write_sheet(folder):
            say(f"sheet   {sheet}", console=console)


def run_warm_up(
    config: Config, console: Console, resume: str | None = None, compare_phases: bool = True
) -> dict[str, Any]:
    """Run the warm-up, or the supervised baseline, alone.

    Returns the summary of `run_experiment` with the fields `checkpoint` and `finished`, and raises the same errors.
    """
    one_process("sft")
    folder = config.run.folder
    command = resume_command(folder, "sft", *(["--evaluate"] if compare_phases else []))
    with hold(folder), if_stopped("nothing has begun yet"), saying_what_is_kept(config, command):
        return _run_warm_up(config, console, resume, compare_phases, command)


def _run_warm_up(
    config: Config, console: Console, resume: str | None, compare_phases: bool, command: str
) -> dict[str, Any]:
    started, folder = time.monotonic(), config.run.folder
    checkpoint = start_or_resume(folder, resume, console)
    check_folder(folder, config, checkpoint)
    check_data(config)
    evaluator = None
    if compare_phases:
        evaluator = _evaluator(config, compare_phases)
    session = open_run(config, console)
    if checkpoint is None:
        save_config(config, folder / "config.yaml")
    before = None
    if evaluator is not None:
        before = evaluate_phase(session, config, "before", evaluator, console, keep=bool(resume))
    prompts, _ = split_validation(session_prompts(session), config.rl.validation_prompts)
    done = run_sft(session, config, console=console, resume=checkpoint, prompts=prompts, go_on=command)
    session.run = f"{config.run.name}/{done.checkpoint.name}"
    summary = _summary_of(session, config, done.steps)
    finished = done.finished and not done.stopped
    if evaluator is not None and before is not None and finished:
        after = evaluate_phase(session, config, "after", evaluator, console)
        summary |= {**compare(before, after), "evaluator": evaluator.name}
    summary |= {
        "finished": finished,
        "checkpoint": str(done.checkpoint),
        "nfe": 0,
        **({"stopped": done.stopped} if done.stopped else {}),
        **run_cost(started, session.model.device),
    }
    write_json(folder / "summary.json", summary)
    return summary
