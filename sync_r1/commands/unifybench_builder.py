"""`sync-r1 bench build`, `apply` and `report`: a test set for your own concept, and the page that shows results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_r1.console import say

if TYPE_CHECKING:
    from sync_r1.unifybench.builder.apply import Applied
    from sync_r1.unifybench.builder.propose import TestSet


def register(app: typer.Typer) -> None:
    """Add the commands to `sync-r1 bench`."""
    app.command()(build)
    app.command()(apply)
    app.command()(report)


def build(
    data: Annotated[Path, typer.Argument(help="Data folder, which holds concept/train/<name>/.")],
    concept: Annotated[list[str], typer.Option(help="Name, or 'all'; may be repeated.")],
    judge_url: Annotated[
        str, typer.Option(help="OpenAI-compatible endpoint that proposes more. It is sent facts and test photos.")
    ] = "",
    model: Annotated[str, typer.Option(help="Model name at --judge-url.")] = "",
    key_env: Annotated[str, typer.Option(help="Environment variable that holds its key.")] = "SYNC_R1_JUDGE_KEY",
    per_fact: Annotated[int, typer.Option(min=1, help="Test prompts per fact.")] = 4,
    dense_pairs: Annotated[int, typer.Option(min=0, help="Test prompts about several facts.")] = 12,
    dense: Annotated[int, typer.Option(min=0, help="Long test prompts without facts.")] = 12,
    test_fraction: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of photos held out, if none is for testing yet.")
    ] = 0.2,
    overwrite: Annotated[bool, typer.Option(help="Replace a review file that may hold your edits.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Use it at once, unread.")] = False,
) -> None:
    """Propose a test set for your own concept, from its facts and photos, as a file to read and edit.

    Nothing uses it before `bench apply`. Example: sync-r1 bench build data --concept bo
    """
    from sync_r1.config import JudgeConfig
    from sync_r1.unifybench.builder.apply import apply_review
    from sync_r1.unifybench.builder.chat_writer import ChatWriter
    from sync_r1.unifybench.builder.propose import Sizes, build_test_set, chosen_names
    from sync_r1.unifybench.builder.review_file import review_path, write_review

    if bool(judge_url) != bool(model):
        raise ValueError("--judge-url and --model go together; give both, or neither for templates")
    sizes = Sizes(per_fact=per_fact, dense_pairs=dense_pairs, dense=dense, test_fraction=test_fraction)
    writer = None
    if judge_url:
        writer = ChatWriter(JudgeConfig(url=judge_url, model=model, key_env=key_env))
    names = chosen_names(data, concept)
    if present := [str(path) for name in names if (path := review_path(data, name)).exists() and not overwrite]:
        raise ValueError(
            f"{', '.join(present)}: there already, perhaps with your edits; apply it, or build again with --overwrite"
        )
    for name in names:
        made = build_test_set(data, name, sizes, writer)
        path = write_review(review_path(data, name), made)
        _show(made)
        say(f"  review  {path}")
        if yes:
            _applied(apply_review(path, data))
        else:
            say(f"  then    sync-r1 bench apply {path}")


def apply(
    review: Annotated[list[Path], typer.Argument(help="Review files of `bench build`, edited.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder. Default: the one above the review folder.")
    ] = None,
) -> None:
    """Check edited review files, naming line and field of mistakes, and put their test sets to use.

    Example: sync-r1 bench apply data/review/bo.yaml
    """
    from sync_r1.unifybench.builder.apply import apply_review

    for path in review:
        _applied(apply_review(path, data))


def report(
    outs: Annotated[list[str], typer.Argument(help="Folders of `bench run`, or folder@model_epoch.")],
    page: Annotated[
        Path | None, typer.Option(help="HTML file to write. Default: report.html in the first folder.")
    ] = None,
    pictures: Annotated[
        str, typer.Option(help="'link' to the files where they are, or 'embed' them: one file to send.")
    ] = "link",
) -> None:
    """Write a page with the table and every prompt, models side by side, failures first, and the table as CSV, JSON,
    LaTeX and Markdown.

    Example: sync-r1 bench report runs/bench/world runs/bench/world-text-prompt
    """
    from sync_r1.files import write_text
    from sync_r1.report.unifybench_files import read_models
    from sync_r1.report.unifybench_page import write_page
    from sync_r1.unifybench.tables import as_text

    models = read_models(outs)
    target = page or models[0].folder / "report.html"
    say(f"page   {write_page(models, target, pictures)}")
    rows = {model.label: model.columns for model in models}
    for style, suffix in (("csv", "csv"), ("json", "json"), ("latex", "tex"), ("markdown", "md")):
        say(f"table  {write_text(target.with_suffix(f'.{suffix}'), as_text(rows, style))}")


def _show(made: TestSet) -> None:
    counts: dict[str, Sequence[object]] = {
        "training pairs": made.train,
        "test pairs": made.test,
        "dense pairs": made.dense_pairs,
        "dense prompts": made.dense,
        "questions": made.questions,
        "questions about photos": made.photo_questions,
        "recognition": made.recognition,
    }
    say(f"<{made.concept}> by {made.made_by}: " + ", ".join(f"{len(rows)} {name}" for name, rows in counts.items()))
    for note in made.notes:
        say(f"  note    {note}")


def _applied(done: Applied) -> None:
    concept, report = done.concept, done.report
    say(
        f"<{concept.name}> can be tested: {len(concept.test_indices)} test prompts, {len(concept.rl_indices)} for "
        f"training, {len(concept.items)} questions; see sync-r1 bench run --concept {concept.name}"
    )
    for doubt in [*done.doubts, *report.doubts]:
        say(f"  doubt   {doubt}")
    for error in report.errors:
        say(f"  error   {error}", "red", err=True)
    if report.errors:
        raise typer.Exit(1)
