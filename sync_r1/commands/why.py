"""`sync-r1 why`: one page about what led to a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import (
    ConceptOption,
    DataOption,
    DeviceOption,
    ModelOption,
    RunOption,
)
from sync_r1.console import say


def why(
    prompt: Annotated[str, typer.Argument(help='What to draw and explain: "a photo of bo with its treasure".')],
    seed: Annotated[int, typer.Option(help="Seed of the picture.")] = 0,
    think: Annotated[
        bool, typer.Option("--rewrite", help="Spell the prompt out from the facts first, and show their credit.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The HTML file, or a folder for why.html.")] = Path("why.html"),
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a picture and write a page about why it came out so: words, facts, soft tokens, steps, rewards.

    The page is one file that loads nothing from elsewhere, and says how far each map can be trusted.

    Example: sync-r1 why "a photo of bo with its treasure" --rewrite --run runs/demo
    """
    from sync_r1.apps.why_page import explain, write_why
    from sync_r1.run_folder import run_of

    target = out if out.suffix.lower() in (".html", ".htm") else out / "why.html"
    folder = run_of(run) / "trajectories" if run is not None else None
    with noted():
        session = open_session(run, model, data, concept, device)
        explanation = explain(session, prompt, seed, think, folder)
        path = write_why(explanation, session, target)
    if explanation.rewrite:
        say(f"drawn from: {explanation.rewrite}")
    for one in sorted(explanation.words, key=lambda one: -one.total):
        say(f"{one.total:+8.1f} nats  {session.concept.shown(one.words)}")
    say(f"page  {path}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(why)
