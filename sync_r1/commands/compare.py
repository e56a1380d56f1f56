"""`sync-r1 compare`: runs side by side on one page, and blind votes between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.commands.inference import noted
from sync_r1.commands.options import DeviceOption, FeedbackOption
from sync_r1.console import say

if TYPE_CHECKING:
    from sync_r1.apps.votes import Ballot
    from sync_r1.session import Session


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run or checkpoint folders.")],
    prompts: Annotated[Path, typer.Option(help="A text file, one prompt a line.")],
    out: Annotated[Path, typer.Option(help="The HTML page.")] = Path("compare.html"),
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=20, help="Pictures of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture.")] = 0,
    blind: Annotated[
        bool, typer.Option("--blind", help="Shuffle the pictures of a prompt and hide the names.")
    ] = False,
    votes: Annotated[
        bool, typer.Option("--vote", help="Blind, and ask which picture is better; votes are kept as thumbs.")
    ] = False,
    feedback: FeedbackOption = Path("feedback"),
    device: DeviceOption = "auto",
) -> None:
    """Draw the same prompts with the same seeds from several runs, with the scores of their evaluations beside.

    Example: sync-r1 compare runs/a runs/b --prompts prompts.txt --out compare.html
    """
    from sync_r1.apps.compare import grid, open_all, read_prompts, scores, write_page
    from sync_r1.apps.votes import write_ballots

    texts = read_prompts(prompts)
    hidden = blind or votes
    with noted():
        sessions = open_all(runs, device)
        rows = grid(sessions, texts, range(seed, seed + n))
        table = scores(runs)
    if not table and not hidden:
        say("no scores: not every one is a run with an evaluation (eval/after.json)", "yellow", err=True)
    say(f"written  {write_page(out, list(sessions), rows, table, hidden)}")
    if votes:
        _ask(sessions, write_ballots(list(sessions), rows, out.with_suffix("")), feedback)


def _ask(sessions: Mapping[str, Session], ballots: Sequence[Ballot], feedback: Path) -> None:
    """Read a vote for every ballot, until they or the input end; then show whose pictures were chosen how often."""
    from sync_r1.apps.feedback import Store
    from sync_r1.apps.votes import vote

    session = next(iter(sessions.values()))
    store = Store.of(session.concept.name, feedback)
    chosen: Counter[str] = Counter()
    for number, ballot in enumerate(ballots, 1):
        say(f"{number}. {ballot.prompt}: {', '.join(map(str, ballot.pictures))}")
        while (answer := _input()) is not None and answer:
            try:
                chosen.update(vote(session, store, ballot, answer))
                break
            except ValueError as error:
                say(f"error: {error}", "red", err=True)
        if answer is None:
            break
    for name in sessions:
        say(f"{name}: chosen {chosen[name]} times")
    say(f"kept in {store.path}; learn from it with: sync-r1 learn-from-feedback --concept {session.concept.name}")


def _input() -> str | None:
    """A line of the person; None at the end of the input."""
    try:
        return input("which is better? its number, all, none; empty skips: ").strip()
    except EOFError:
        say("")
        return None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(compare)
