"""Feedback in the studio: what to ask, what was understood, learning as a process of its own, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.apps import jobs
from sync_r1.apps.feedback import Question, Store, belief, next_question, rate_rewrite, undo_saved
from sync_r1.apps.studio.folder import THUMBS, StudioFolder
from sync_r1.files import read_manifest, read_object, write_json
from sync_r1.run_folder import checkpoint_name, checkpoints, newest, step_of
from sync_r1.session import Session

STARTS = "starts.json"  # update → the weights that it began from
KEPT, PUT_BACK = "kept in", "they fell"  # how the last line of learning begins
SECONDS = (10, 30, 60)
EVERY = 5  # thumbs after which it learns by itself, where that was switched on
VERDICTS = {"left": (True, False), "right": (False, True), "both": (True, True), "neither": (False, False)}


@dataclass(frozen=True)
class Asked:
    """What the page asks: one rewrite, or two to choose from."""

    prompt: str
    rewrites: tuple[str, ...]
    word: str


def ask(studio: StudioFolder, session: Session, seed: int = 0) -> Asked | None:
    """What a thumb would say most about; two rewrites where the model writes two. None when all is settled."""
    known = belief(Store.of(session.concept.name, studio.feedback))
    question: Question | None = next_question(session, known, pair=True, seed=seed)
    if question is None:
        question = next_question(session, known, seed=seed)
    if question is None:
        return None
    shown = session.concept.shown
    return Asked(shown(question.prompt), tuple(map(shown, question.rewrites)), question.word)


def answer(studio: StudioFolder, session: Session, asked: Asked, verdict: str, correction: str = "") -> None:
    """Keep what was said. ValueError for another verdict, or a correction beside a thumb up."""
    if verdict not in VERDICTS:
        raise ValueError(f"the verdict is {verdict!r}; it must be one of {', '.join(VERDICTS)}")
    store = Store.of(session.concept.name, studio.feedback)
    goods = VERDICTS[verdict]
    for text, good in zip(asked.rewrites, goods):
        wanted = "" if good else correction
        rate_rewrite(session, store, asked.prompt, text, good, wanted)
        correction = ""  # it is one thumb, whatever it is said beside


def understood(studio: StudioFolder, thing: str) -> list[str]:
    """What the thumbs say, one sentence each."""
    return belief(Store.of(thing, studio.feedback)).sentences()


def count(studio: StudioFolder, thing: str) -> int:
    """How many thumbs there are."""
    return len(Store.of(thing, studio.feedback).events())


# learning


def job_folder(studio: StudioFolder, thing: str) -> Path:
    return studio.jobs / f"learn-{thing}"


def learn(studio: StudioFolder, thing: str, weights: str, seconds: int, seed: int = 0) -> None:
    """Let a process of its own practise what was understood.

    ValueError while one does already, for thumbs that settle nothing, and for another number of seconds.
    """
    if seconds not in SECONDS:
        raise ValueError(f"the time is {seconds} s; it must be one of {', '.join(map(str, SECONDS))}")
    known = belief(Store.of(thing, studio.feedback))
    if not known.settled and known.wish is None:
        raise ValueError("the thumbs settle nothing yet, so there is nothing to learn; answer a few more questions")
    place = studio.find(thing, weights).place
    source = ["--run", str(place)] if place is not None else ["--model", studio.model]
    folders = ["--feedback", str(studio.feedback), "--data", str(studio.things), "--concept", thing]
    folder = job_folder(studio, thing)
    jobs.launch(["learn-from-feedback", "--seconds", str(seconds), "--seed", str(seed), *folders, *source], folder)
    _remember_start(studio, thing, weights)


def learning(studio: StudioFolder, thing: str) -> jobs.State | None:
    """What the last learning is now; None before the first."""
    return jobs.launched(job_folder(studio, thing), (KEPT, PUT_BACK))


def lines(studio: StudioFolder, thing: str) -> list[str]:
    """What the last learning said."""
    path = job_folder(studio, thing) / jobs.LOG
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(jobs.COMMAND)]


def stop(studio: StudioFolder, thing: str) -> None:
    """End learning; nothing of it is kept."""
    jobs.end_launched(job_folder(studio, thing))


def _remember_start(studio: StudioFolder, thing: str, weights: str) -> None:
    """Write down which weights the next update begins from, under the name that it will have."""
    last = newest(studio.feedback / thing)
    if weights == THUMBS and last is not None:
        weights = f"{THUMBS}/{last.name}"  # which is what "thumbs" means now
    file = job_folder(studio, thing) / STARTS
    known = read_object(file) or {}
    write_json(file, {**known, checkpoint_name(1 + (step_of(last) if last is not None else 0)): weights})


def weights_before(studio: StudioFolder, thing: str) -> str:
    """The weights that the newest update began from. ValueError where that is not known."""
    last = newest(studio.feedback / thing)
    starts = read_object(job_folder(studio, thing) / STARTS) or {}
    if last is None or last.name not in starts:
        raise ValueError("what the newest update began from is not known, as it was not learned here")
    return str(starts[last.name])


def undo(studio: StudioFolder, thing: str) -> str:
    """Take the newest update back. Returns the id of the weights that count now."""
    undo_saved(thing, studio.feedback)
    state = learning(studio, thing)
    if state is not None and state.name == "finished":
        (job_folder(studio, thing) / jobs.JOB).unlink()  # it would still tell of an update that is kept
    return studio.best(thing, THUMBS)


def history(studio: StudioFolder, thing: str) -> list[dict[str, Any]]:
    """Every update with its evidence, the newest first."""
    found = []
    for path in reversed(checkpoints(studio.feedback / thing)):
        found.append({**read_manifest(path), "name": path.name})
    return found


def rewrites(session: Session, prompts: Sequence[str]) -> list[str]:
    """What the model makes of prompts, to show before and after."""
    asked = [session.mention(prompt) for prompt in prompts]
    return [session.concept.shown(text) for text in session.rewrites(asked)]


def word_prompts(studio: StudioFolder, thing: str) -> list[str]:
    """A prompt for every word that has thumbs."""
    known = belief(Store.of(thing, studio.feedback))
    return [f"a photo of <{thing}> with {word}" for word in known.words]


# learning by itself, which is off until it is switched on


def learns_by_itself(studio: StudioFolder, thing: str) -> bool:
    stored = read_object(studio.feedback / f"{thing}.settings.json") or {}
    return stored.get("learns_by_itself") is True


def set_learns_by_itself(studio: StudioFolder, thing: str, wanted: bool) -> None:
    write_json(studio.feedback / f"{thing}.settings.json", {"learns_by_itself": wanted})


def is_time(studio: StudioFolder, thing: str) -> bool:
    """Whether enough thumbs came in for it to learn by itself now."""
    number = count(studio, thing)
    return learns_by_itself(studio, thing) and number > 0 and number % EVERY == 0
