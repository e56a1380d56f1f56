"""A6: an owner who knows what the private words mean gives a few thumbs; the model practises for seconds.

The thumbs answer what `next_question` shows. It begins after the look at the photos, where drawing is learned already
and private words are not. The baseline pushes the same thumbs as labels, for the better of two durations.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from application_claims.fact_credit import meanings
from application_claims.given import Given, Values
from application_claims.pictures import evaluator
from sync_r1.apps.feedback import Event, Snapshot, Store, belief, learn, next_question, rate_rewrite, undo
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.apps.feedback.practice import practice_config
from sync_r1.data.prompts import rewrite_prompt
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.training.parameters import Trainables
from sync_r1.types import Sampling, TextContext
from sync_r1.unifybench.tasks import build_items
from sync_r1.world.judge import WorldJudge

MOST_THUMBS = 6
LABEL_SECONDS = 2.0  # the shorter of the baseline's durations; more of it does harm
Scores = dict[str, list[float]]  # task → score of every held-out item


def measure(given: Given) -> Values:
    """Thumbs, then two durations of practice, each from the same start and undone again; then the baseline."""
    session = given.looked()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.of(given.concept, folder)
        thumbs = give_thumbs(session, store, meanings(given.persona), given.seed)
        before = scores(session)
        began = time.process_time()
        short, short_undone = practised(session, store, given.counts["short_s"], given.seed)
        processor_s = time.process_time() - began
        long, long_undone = practised(session, store, given.counts["long_s"], given.seed)
        labels = [
            labelled(session, store.events(), seconds, given.seed)["words"]
            for seconds in (LABEL_SECONDS, given.counts["short_s"])
        ]
    best_labels = max(labels, key=np.mean)
    return {
        "thumbs": [float(thumbs)],
        "words right before": before["words"],
        "words right, change in short practice": differences(short["words"], before["words"]),
        "words right after long practice": long["words"],
        "photo questions, change": differences(long["photos"], before["photos"]),
        "drawing, change": differences(long["drawing"], before["drawing"]),
        "undo bit-equal": [float(short_undone), float(long_undone)],
        "words right after thumbs as labels": best_labels,
        "words right, over thumbs as labels": differences(long["words"], best_labels),
        "processor seconds of short practice": [processor_s],
    }


def differences(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """Item by item."""
    return [new - old for new, old in zip(after, before, strict=True)]


def give_thumbs(session: Session, store: Store, truth: dict[str, str], seed: int) -> int:
    """An owner answers what is asked, at most six times. Returns the number of thumbs.

    Args:
        truth: word → the fact that it means.
    """
    for number in range(MOST_THUMBS):
        asked = next_question(session, belief(store), seed=1000 * seed + 100 * number)
        if asked is None:
            return number
        text = asked.rewrites[0]
        good = facts_named(session, [(asked.prompt, text)])[0] == [truth[asked.word]]
        rate_rewrite(session, store, asked.prompt, text, good)
    return MOST_THUMBS


def practised(session: Session, store: Store, seconds: float, seed: int) -> tuple[Scores, bool]:
    """Scores after some seconds of practice, and whether undoing it gave back every bit."""
    start = some_logps(session)
    if not belief(store).settled:
        return scores(session), True  # nothing was understood, so nothing is learned
    update = learn(session, store, seconds, seed=seed)
    after = scores(session)
    undo(session, update)
    return after, bool(torch.equal(start, some_logps(session)))


def labelled(session: Session, events: Sequence[Event], seconds: float, seed: int) -> Scores:
    """Scores after the thumbs were pushed as labels; the model is put back."""
    start = Snapshot(session.model)
    push_labels(session, events, seconds, seed)
    start.release()
    after = scores(session)
    start.restore()
    return after


def push_labels(session: Session, events: Sequence[Event], seconds: float, seed: int) -> None:
    """Minimise −log p of every token of the texts with a thumb up, and −log(1 − p) of the others."""
    rl = practice_config(session, Path(), seed).rl
    trainables = Trainables(session.model, rl, learned_row_ids(session.model), seed)
    optimizer = trainables.optimizer()
    contexts = [session.rewrite_context(event.prompt) for event in events]
    ids, mask = answer_ids(session.model, [event.output for event in events])
    good = torch.tensor([event.good for event in events])
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        logps = session.model.text_logps(contexts, ids, mask, Sampling())[0]
        unlikely = torch.log1p(-logps.exp().clamp(max=1 - 1e-6)).sum(1)
        loss = -torch.where(good, logps.sum(1), unlikely).mean()
        loss.backward()
        clip_grad_norm_(trainables.parameters(), rl.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    trainables.rows.release()


def scores(session: Session) -> Scores:
    """What is known of held-out prompts with private words, of questions about photos, and of drawing."""
    items = build_items(session.concept, root=session.root, tasks=["rea", "vqa", "pure_gen"])
    words, photos, drawn = ([item for item in items if item.task == task] for task in ("rea", "vqa", "pure_gen"))
    codes = session.encode([item.image for item in photos if item.image is not None])
    contexts = [session.question_context(item.prompt, row) for item, row in zip(photos, codes, strict=True)]
    rewrites, answers = session.rewrites([item.prompt for item in words]), session.answers(contexts)
    pictures = session.pictures([item.prompt for item in drawn], [item.seed for item in drawn])
    judge = WorldJudge(evaluator())
    shown = judge(pictures, [f"{session.concept.info} {item.prompt}" for item in drawn])
    return {
        "words": [exact(text, item.truth) for text, item in zip(rewrites, words, strict=True)],
        "photos": [exact(text, item.truth) for text, item in zip(answers, photos, strict=True)],
        "drawing": [score for score in shown if score is not None],
    }


def some_logps(session: Session) -> Tensor:
    """Log-probabilities that any changed weight would change."""
    placeholder = session.concept.placeholder
    ids, mask = answer_ids(session.model, [f"a photo of {placeholder} at the beach"])
    with torch.no_grad():
        context = TextContext(rewrite_prompt(session.concept, f"a photo of {placeholder}"))
        return session.model.text_logps([context], ids, mask, Sampling())[0]
