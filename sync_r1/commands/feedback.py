"""`sync-r1 rate | learn-from-feedback | undo`: thumbs, what they teach, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import (
    ConceptOption,
    DataOption,
    DeviceOption,
    FeedbackOption,
    ModelOption,
    RunOption,
)
from sync_r1.console import open_console, say

if TYPE_CHECKING:
    from sync_r1.apps.feedback import Store
    from sync_r1.session import Session

VERDICTS = {"good": True, "bad": False}


def rate(
    verdict: Annotated[str | None, typer.Argument(help="good or bad. Not needed with --ask.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The drawing prompt that --text is a rewrite of.")] = None,
    question: Annotated[str | None, typer.Option(help="The question that --text is an answer to.")] = None,
    text: Annotated[str | None, typer.Option(help="The model's text.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="A drawn picture to rate; with --question the one that was asked about.")
    ] = None,
    correct: Annotated[str, typer.Option(help="With bad: what the text should have said.")] = "",
    ask: Annotated[
        bool, typer.Option("--ask", help="Be asked, about what is least certain, until nothing is.")
    ] = False,
    feedback: FeedbackOption = Path("feedback"),
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Give a thumb to a rewrite, an answer or a picture. Nothing is learned before `learn-from-feedback`.

    Example: sync-r1 rate bad --prompt "a photo of bo with its treasure" --text "a photo of bo in a meadow"
    """
    from sync_r1.apps.feedback import Store, belief

    if not ask and verdict not in VERDICTS:
        raise ValueError(f"the verdict is {verdict!r}; it must be good or bad, or use --ask to be asked")
    good = VERDICTS.get(verdict or "", False)
    texts = {"prompt": prompt, "question": question, "text": text, "correct": correct}
    with noted():
        session = open_session(run, model, data, concept, device)
        store = Store.of(session.concept.name, feedback)
        if ask:
            _ask(session, store)
        else:
            _rate(session, store, good, texts, picture)
    for sentence in belief(store).sentences():
        say(sentence)
    say(f"kept in {store.path}; learn from it with: sync-r1 learn-from-feedback --concept {session.concept.name}")


def _rate(session: Session, store: Store, good: bool, texts: dict[str, str | None], picture: Path | None) -> None:
    """One thumb, for whatever was given."""
    from sync_r1.apps.feedback import rate_answer, rate_picture, rate_rewrite

    prompt, question, text = texts["prompt"], texts["question"], texts["text"]
    if prompt is not None and text is not None:
        rate_rewrite(session, store, prompt, text, good, texts["correct"] or "")
    elif question is not None and text is not None:
        rate_answer(session, store, question, text, good, picture)
    elif picture is not None and question is None:
        rate_picture(session, store, picture, good, prompt or "")
    else:
        raise ValueError("nothing to rate: give --prompt with --text, --question with --text, or --picture")


def _ask(session: Session, store: Store) -> None:
    """Show one rewrite after the other and read y or n, until every word is settled or the input ends."""
    from sync_r1.apps.feedback import belief, next_question, rate_rewrite

    number = 0
    while (asked := next_question(session, belief(store), seed=number)) is not None:
        number += 1
        say(f"{asked.prompt} → {asked.rewrites[0]}")
        try:
            reply = input("is that what you mean? y, n, or what it should say; empty ends: ").strip()
        except EOFError:
            say("")
            return
        if not reply:
            return
        plain = reply.lower() in ("y", "yes", "n", "no")
        good = reply.lower() in ("y", "yes")
        rate_rewrite(session, store, asked.prompt, asked.rewrites[0], good, "" if plain else reply)


def learn_from_feedback(
    seconds: Annotated[float, typer.Option(help="How long to practise, by the clock: 1 to 3600.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Seed of the practice.")] = 0,
    feedback: FeedbackOption = Path("feedback"),
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Practise what the thumbs mean. What changed is kept beside them, and undo takes it back.

    Questions about the photos guard what is known: where they fall by more than two standard errors, nothing is kept.

    Example: sync-r1 learn-from-feedback --seconds 30 --concept bo
    """
    from sync_r1.progress import WorkProgress, loading

    console = open_console(stderr=True)
    with noted():
        with loading(console):
            from sync_r1.apps.feedback import Store, learn, save_update
            from sync_r1.run_folder import newest

            session = open_session(run, model, data, concept, device)
        name = session.concept.name
        learned = feedback / name
        if newest(learned) is not None and (run is None or run.resolve() != learned.resolve()):
            say(f"note: this begins from {run or model}; --run {learned} would go on from what it has learned")
        store = Store.of(name, feedback)
        with WorkProgress(console, "practice", round(seconds)) as work:

            def show(steps: int, spent: float) -> None:
                work.update(min(spent, seconds), figures=f"update {steps}")

            update = learn(session, store, seconds, seed=seed, progress=show)
        target = None if update.rolled_back else save_update(session, update, feedback, run or model)
    for sentence in update.understood:
        say(sentence)
    guard = update.guard
    say(f"{update.steps} updates in {update.seconds:.1f} s")
    say(f"photo questions right: {guard.before:.3f} → {guard.after:.3f} of {guard.count}")
    if target is None:
        say("they fell by more than two standard errors, so everything was put back; nothing is kept", "yellow")
        raise typer.Exit(1)
    say(f"kept in {target}; use it with --run {feedback / name}, take it back with: sync-r1 undo --concept {name}")


def undo(
    concept: Annotated[str, typer.Option("--concept", help="Name of the concept.")],
    feedback: FeedbackOption = Path("feedback"),
) -> None:
    """Take the newest update from feedback back. The thumbs stay.

    Example: sync-r1 undo --concept bo
    """
    from sync_r1.apps.feedback import undo_saved

    gone, now = undo_saved(concept, feedback)
    option = "--model" if isinstance(now, str) else "--run"
    say(f"undone: {gone}; what was before is opened with {option} {now}")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(rate)
    app.command("learn-from-feedback")(learn_from_feedback)
    app.command()(undo)
