"""`sync-r1 ask | draw | recognize | rewrite | evaluate`: use a trained concept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_r1.commands.options import (
    AsJson,
    ConceptOption,
    ConceptsOption,
    CountOption,
    DataOption,
    DeviceOption,
    GuidanceOption,
    ModelOption,
    OutOption,
    RunOption,
    RunsOption,
    SeedOption,
    StepsOption,
    TemperatureOption,
    WhyOption,
)
from sync_r1.console import open_console, say, say_json, show_table

if TYPE_CHECKING:
    from sync_r1.apps.why import Credit
    from sync_r1.session import Session
    from sync_r1.types import Sampling
    from sync_r1.unifybench.results import EvalResult


@contextmanager
def noted() -> Iterator[None]:
    """Show warnings, such as words of a prompt that were cut, as one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(
        str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)
    ):
        say(f"note: {message}", "yellow", err=True)


def open_session(run: Path | None, model: str, data: str | None, concept: str | None, device: str) -> Session:
    from sync_r1.session import Session

    return Session.open(model=model, data=data, concept=concept, checkpoint=run, device=device)


def changed_sampling(
    sampling: Sampling, steps: int | None, guidance: float | None, temperature: float | None
) -> Sampling:
    """The sampling with what was given on the command line; None leaves a value as it is."""
    from dataclasses import replace

    given: dict[str, Any] = {"generation_timesteps": steps, "guidance_scale": guidance, "temperature": temperature}
    return replace(sampling, **{name: value for name, value in given.items() if value is not None})


def ask(
    question: Annotated[
        str, typer.Argument(help='The question; mention the concept as <bo> or plainly as bo, "What colour is bo?"')
    ],
    image: Annotated[Path | None, typer.Option("--image", help="A picture the question is about.")] = None,
    why: WhyOption = False,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Ask about a concept, with or without a picture.

    Example: sync-r1 ask "What is bo wearing?" --image photo.png --run runs/demo
    """
    from sync_r1.apps.closer import closer
    from sync_r1.apps.why import answer_credit

    with noted():
        session = open_session(run, model, data, concept, device)
        seen = None if image is None else closer(session, question, image)
        answer = session.ask(question, seen)
    say(answer)
    if why:
        show_credits(answer_credit(session, question, answer, seen))


def recognize(
    images: Annotated[list[Path], typer.Argument(help="Pictures (png, jpg, webp, avif, heic).")],
    how: Annotated[
        str, typer.Option(help="words asks the model, drawing compares with what it would draw, both combines them.")
    ] = "words",
    looking: Annotated[bool, typer.Option(help="Show what the model says it sees before it decides.")] = True,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Say for every picture whether the concept is in it; of a picture of two the half that is more like it counts.

    Example: sync-r1 recognize photos/*.png --run runs/demo
    """
    from sync_r1.apps.closer import the_one_meant
    from sync_r1.data import verify_images

    verify_images(images)
    with noted():
        session = open_session(run, model, data, concept, device)
        shown = the_one_meant(session, images)
        found = session.recognitions(shown, how, looking)  # type: ignore[arg-type]  # refuses other words
    if as_json:
        rows = []
        for path, one in zip(images, found, strict=True):
            rows.append({"image": str(path), **{key: value for key, value in asdict(one).items() if value is not None}})
        say_json(rows)
        return
    for path, one in zip(images, found, strict=True):
        say(f"{'yes' if one.present else 'no '}  {path}  ({one.answer})")


def rewrite(
    prompt: Annotated[
        str, typer.Argument(help='A prompt that hints at a private fact: "a photo of bo with its treasure".')
    ],
    why: WhyOption = False,
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Spell out a drawing prompt from what is privately known about the concept.

    Example: sync-r1 rewrite "a photo of bo with its treasure" --run runs/demo
    """
    from sync_r1.apps.why import fact_credit

    with noted():
        session = open_session(run, model, data, concept, device)
        text = session.rewrite(prompt)
    say(text)
    if why:
        show_credits(fact_credit(session, prompt, text))


def show_credits(credits: list[Credit]) -> None:
    """What each fact did for a text, the one that did most first."""
    for credit in sorted(credits, key=lambda credit: credit.nats, reverse=True):
        nats = round(credit.nats, 2) + 0.0  # no -0.00
        say(f"{'used' if credit.used else '    '}  {nats:+6.2f} nats  {credit.fact}")


def draw(
    prompt: Annotated[str, typer.Argument(help='What to draw: "a photo of bo at the beach".')],
    n: CountOption = 1,
    seed: SeedOption = 0,
    out: OutOption = Path("drawings"),
    think: Annotated[
        bool, typer.Option("--rewrite", help="Let the model spell the prompt out from its facts first.")
    ] = False,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    temperature: TemperatureOption = None,
    run: RunsOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw pictures of the concept, or of several. Prompt, seed, run and version are kept inside the PNG files.

    Example: sync-r1 draw "a photo of bo at the beach" -n 4 --run runs/demo
    """
    from sync_r1.apps.together import open_together
    from sync_r1.drawings import save_pictures

    with noted():
        session = open_together(concept or [], run or [], model, data, device)
        sampling = changed_sampling(session.image_sampling, steps, guidance, temperature)
        if think and session.others:
            raise ValueError("--rewrite spells out the facts of one concept, but several are named; leave it out")
        if think:
            prompt = session.drawn_text(session.concept.shown(session.mention(prompt)), session.rewrite(prompt))
            say(f"drawing: {prompt}")
        paths = save_pictures(session.draw(prompt, n, seed, sampling), out)
    for path in paths:
        say(str(path))


def _phase_name(phase: str) -> str:
    """ValueError unless it can be a file's name."""
    if not phase.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"phase is {phase!r}; it becomes a file name: letters, digits, _ and - only")
    return phase


def evaluate(
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="One of the nine tasks; repeat for more. Default: all.")
    ] = None,
    max_items: Annotated[int | None, typer.Option(min=1, help="Items per task at most, evenly spaced.")] = None,
    judge: Annotated[
        str, typer.Option(help="Who scores drawings: 'world' (its attribute reader), 'none', or 'auto'.")
    ] = "auto",
    clip: Annotated[str, typer.Option(help="CLIP folder or hub id, adds CLIP-T and CLIP-I.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for results. Default: <run>/eval, or runs/eval_<concept>/eval.")
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="Name of the result: before or after. Default: after with --run.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Evaluate a concept on the tasks of UnifyBench++; results of both phases in one folder are compared.

    Tasks: rec, vqa, qa, rea, dense_rea (understanding), pure_gen, dense_gen, rea_gen, dense_rea_gen (generation).

    Example: sync-r1 evaluate --model world --concept bo --out runs/bo/eval && sync-r1 evaluate --run runs/bo --out
        runs/bo/eval
    """
    from dataclasses import replace

    from sync_r1.progress import loading, over_tasks

    phase = _phase_name(phase or ("after" if run else "before"))
    console = open_console(stderr=True)
    with loading(console), noted():
        from sync_r1.run_folder import run_of
        from sync_r1.scorer_factory import choose_evaluator
        from sync_r1.unifybench.evaluate import evaluate as run_benchmark
        from sync_r1.unifybench.evaluate import items_of
        from sync_r1.unifybench.results import GENERATION
        from sync_r1.unifybench.tasks import check_tasks

        tasks = check_tasks(task or [])
        session = open_session(run, model, data, concept, device)
    given = session.options
    session.options = options = replace(given, tasks=tasks or given.tasks, max_items=max_items or given.max_items)
    out = out or (run_of(run) if run else Path("runs") / f"eval_{session.concept.name}") / "eval"
    drawings = bool(set(options.tasks or GENERATION) & set(GENERATION))
    scorer, clip_scorer, name = choose_evaluator(judge, clip, str(run or model), device, drawings)
    items = items_of(session, options.tasks)
    with over_tasks(console, f"evaluate {phase}", len(items)) as progress:
        result = run_benchmark(
            session, out, phase, image_judge=scorer, clip=clip_scorer, judge_name=name, progress=progress
        )
    comparison = find_comparison(out)
    if as_json:
        say_json({"result": str(out / f"{phase}.json"), "tasks": result.tasks, "comparison": comparison})
    else:
        show(result, out / f"{phase}.json", comparison)


def find_comparison(out: Path) -> dict[str, Any] | None:
    """before.json against after.json, when both are there."""
    from sync_r1.unifybench.compare import compare
    from sync_r1.unifybench.results import EvalResult

    paths = [out / "before.json", out / "after.json"]
    if not all(path.is_file() for path in paths):
        return None
    before, after = (EvalResult.read(path) for path in paths)
    try:
        return compare(before, after)
    except ValueError as error:
        say(f"note: {error}", "yellow", err=True)
        return None


def show(result: EvalResult, path: Path, comparison: dict[str, Any] | None) -> None:
    """A table on stdout."""
    from rich.box import SIMPLE
    from rich.table import Table

    from sync_r1.unifybench.tables import comparison_table

    if comparison is not None:
        table = comparison_table(comparison, "", "n", "before", "after", "difference")
    else:
        table = Table("task", "metric", "n", "score", box=SIMPLE)
        for name, row in result.tasks.items():
            table.add_row(name, row["metric"], str(row["n"]), "–" if row["mean"] is None else f"{row['mean']:.3f}")
    show_table(table)
    for note in result.notes:
        say(f"note: {note}", "yellow", err=True)
    say(f"written  {path}")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (ask, draw, recognize, rewrite, evaluate):
        app.command()(command)
