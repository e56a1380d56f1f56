"""Training on feedback: some seconds of Sync-GRPO on the thing's own prompts, guarded and undoable."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sync_r1.apps.feedback.beliefs import Belief, belief, phrases
from sync_r1.apps.feedback.events import Store
from sync_r1.apps.feedback.rewards import PromptReward, WishReward, reward
from sync_r1.apps.feedback.rewrite_practice import RewritePractice
from sync_r1.apps.feedback.updates import Guarded, Snapshot, Update
from sync_r1.apps.feedback.wish_start import SHARE, WishStart
from sync_r1.config import Config
from sync_r1.recipes import apply_recipes
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.trainer import SyncGRPOTrainer
from sync_r1.scorers.reward_functions import answer
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.signals import stop
from sync_r1.training.prompts import Prompt, context, session_prompts

Guard = Callable[[Session], Sequence[float]]  # scores in [0, 1] of what must not be forgotten
Progress = Callable[[int, float], None]  # updates so far, seconds so far

ENDLESS = 120_000  # updates; the clock ends practice, not their number
SHORTEST, LONGEST = 1.0, 3600.0  # seconds


def learn(
    session: Session,
    store: Store,
    seconds: float = 30.0,
    guard: Guard | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Update:
    """Let the model practise what the thumbs in a store mean. The session's model is changed.

    Where some word's meaning is settled, it practises rewriting; else, where a wish about pictures is, drawing. Half of
    the questions about the thing's photos are asked in between, with their true answers; the other half is the guard.

    Args:
        seconds: of practice, by the clock; the update that is running then is finished.
        guard: scores of what must not be forgotten; by default the other half of the questions about the photos.
            Where their mean falls by more than two standard errors, everything is put back.
        progress: called after every update.
    Returns:
        What changed; of an update that was rolled back, no tensors.
    Raises:
        ValueError: seconds out of range, a thing without training prompts, or thumbs that settle nothing.
        Stopped: Ctrl-C; everything is put back first, as after any error.
    """
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"seconds is {seconds:g}; it must be {SHORTEST:g} to {LONGEST:g}")
    known = belief(store)
    if not known.settled and known.wish is None:
        raise ValueError(f"{store.path}: {_nothing_settled(known)}")
    asked = session_prompts(session)
    questions = [prompt for prompt in asked if prompt.kind == "look"]
    guard = guard or photo_questions(questions[1::2])
    before = guard(session)
    snapshot = Snapshot(session.model)
    try:
        practise = _practise_words if known.settled else _practise_drawing
        steps, spent = practise(session, known, asked, questions[::2], seconds, seed, progress)
        snapshot.release()
        guarded = compare(before, guard(session))
        changed = snapshot.changed()
        if guarded.fell:
            snapshot.restore()
            changed = {}, {}
    except BaseException:
        snapshot.restore()
        raise
    return Update(*changed, known.sentences(), steps, spent, guarded)


def photo_questions(questions: Sequence[Prompt]) -> Guard:
    """A guard: 1 for every question about a photo that is answered as its owner did."""

    def ask(session: Session) -> list[float]:
        codes: dict[Path, Any] = {}
        with torch.no_grad():
            contexts = [context(session.model, question, codes) for question in questions]
            answers = session.answers(contexts)
        return [exact(written, question.answer) for written, question in zip(answers, questions, strict=True)]

    return ask


def compare(before: Sequence[float], after: Sequence[float]) -> Guarded:
    """The same questions before and after. Without any, nothing can fall."""
    count = len(before)
    if not count:
        return Guarded(math.nan, math.nan, 0.0, 0)
    differences = torch.tensor([new - old for old, new in zip(before, after, strict=True)])
    error = float(differences.std(correction=0)) / math.sqrt(count)
    return Guarded(sum(before) / count, sum(after) / count, error, count)


def _nothing_settled(known: Belief) -> str:
    if not known.thumbs:
        return "there are no thumbs for rewrites or pictures to learn from; give some with `sync-r1 rate`"
    return f"the thumbs settle nothing yet: {'; '.join(known.sentences())}; give more with `sync-r1 rate --ask`"


def _practise_words(
    session: Session,
    known: Belief,
    asked: Sequence[Prompt],
    questions: Sequence[Prompt],
    seconds: float,
    seed: int,
    progress: Progress | None,
) -> tuple[int, float]:
    """Returns the number of updates and the seconds that they took."""
    began = time.monotonic()
    rl = practice_config(session, Path(), seed).rl
    prompts = word_prompts(session, known, asked)
    practice = RewritePractice(session, rl, reward(session, known), prompts, questions, seed)
    steps, spent = 0, 0.0
    try:
        while spent < seconds:
            practice.update(steps, 1 - spent / seconds)
            steps, spent = steps + 1, time.monotonic() - began
            if progress is not None:
                progress(steps, spent)
    finally:
        practice.close()
    return steps, spent


def _practise_drawing(
    session: Session,
    known: Belief,
    asked: Sequence[Prompt],
    questions: Sequence[Prompt],
    seconds: float,
    seed: int,
    progress: Progress | None,
) -> tuple[int, float]:
    assert known.wish is not None
    with tempfile.TemporaryDirectory(prefix="sync-r1-feedback-") as folder:
        config = practice_config(session, Path(folder), seed)
        rl = config.rl
        rl.optimise, rl.look_fraction, rl.prompts_per_step = "both", 0.2, 3
        rewards = [
            Reward("wish", WishReward(known.wish), "image", 1.0),
            Reward("prompt", PromptReward(), "image", 2.0),
            Reward("answer", answer, "text", 1.0),
        ]
        began = time.monotonic()
        first = WishStart(session, rl, known.wish, seed).practise(SHARE * seconds, progress)
        prompts = [*drawing_prompts(session, asked), *questions]
        trainer = SyncGRPOTrainer(session.model, config.validate(), prompts, RewardEnsemble(rewards))
        deadline = Deadline(seconds, progress, first, began)
        trainer.add_callback(deadline)
        trainer.train()
        if trainer.stop_signal.stopped:
            stop(trainer.stop_signal.stopped)
        return first + trainer.state.global_step, time.monotonic() - began


def practice_config(session: Session, folder: Path, seed: int) -> Config:
    """The rates of training, on texts alone. Of a model that is not the embedded world's only the concept's rows train:
    its body is large, and training it takes longer than users wait."""
    config = apply_recipes(["world" if session.draws_world else "showo-256"])
    rl, run = config.rl, config.run
    if not session.draws_world:
        rl.learning_rate = 0.0
    else:
        rl.concept_learning_rate = 5e-3  # a quarter of training's: few prompts are practised many times
    rl.max_completion_length = min(rl.max_completion_length, session.options.max_completion_length)
    rl.optimise, rl.draw_every, rl.dgs_enabled = "text", 1, False
    rl.prompts_per_step, rl.text_prompts_per_step = 9, None
    rl.look_fraction, rl.recognize_fraction, rl.closed_loss = 0.2, 0.0, "none"
    rl.lr_scheduler_type, rl.max_steps = "constant", ENDLESS
    rl.validation_prompts = 0
    run.output_dir, run.name, run.seed = str(folder.parent), folder.name, seed
    run.device = "cuda" if session.model.device.type == "cuda" else "cpu"
    run.save_steps, run.log_completions = ENDLESS, False
    return config


def word_prompts(session: Session, known: Belief, asked: Sequence[Prompt]) -> list[Prompt]:
    """The thing's own prompts with a word whose meaning is settled, and one more per word; none holds an answer."""
    settled = set(known.settled)
    texts = [f"a photo of {session.concept.placeholder} with {phrase}" for phrase in known.settled]
    texts += [prompt.prompt for prompt in asked if prompt.kind == "reason"]
    return [
        Prompt("reason", session.concept, text, "", session.tokens)
        for text in dict.fromkeys(texts)
        if not settled.isdisjoint(phrases(text))
    ]


def drawing_prompts(session: Session, asked: Sequence[Prompt]) -> list[Prompt]:
    """The thing's own drawing prompts, without their answers."""
    texts = [f"a photo of {session.concept.placeholder}"]
    texts += [prompt.prompt for prompt in asked if prompt.kind == "reason"]
    return [Prompt("reason", session.concept, text, "", session.tokens) for text in dict.fromkeys(texts)]


class Deadline(TrainerCallback):
    """Ends training after the update in which the time runs out.

    Args:
        first: updates that were made before.
        began: since when the time counts, by the monotonic clock.
    """

    def __init__(self, seconds: float, progress: Progress | None, first: int, began: float) -> None:
        self.seconds, self.progress, self.first, self.began = seconds, progress, first, began

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        spent = time.monotonic() - self.began
        if self.progress is not None:
            self.progress(self.first + state.global_step, spent)
        if spent >= self.seconds:
            control.should_training_stop = True
