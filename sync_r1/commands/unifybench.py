"""`sync-r1 bench …`: UnifyBench++ for any model and any concepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_r1.commands.inference import noted
from sync_r1.commands.options import DeviceOption
from sync_r1.commands.unifybench_builder import register
from sync_r1.commands.unifybench_options import (
    BatchSize,
    BenchConcepts,
    BenchData,
    Changes,
    ChatCache,
    ChatKey,
    ChatModel,
    ChatTimeout,
    ChatUrl,
    ClipOption,
    JudgeModel,
    JudgeOption,
    KindOption,
    MaxItems,
    Overrides,
    ProtocolOption,
    ResultsFolder,
    ScoreOption,
    TasksOption,
    TestedModel,
    TestedRun,
    TestedSteps,
    TokenEpoch,
)
from sync_r1.console import open_console, say, say_json, show_table
from sync_r1.constants import WORLD

if TYPE_CHECKING:
    from sync_r1.config import ModelConfig
    from sync_r1.unifybench.metrics import BenchmarkJudges
    from sync_r1.unifybench.models_under_test import ModelUnderTest
    from sync_r1.unifybench.predict import Progress
    from sync_r1.unifybench.protocol import Protocol
    from sync_r1.unifybench.run import BenchmarkPlan


app = typer.Typer(
    no_args_is_help=True, help="UnifyBench++: nine tasks, predicted and scored, for any model and any concepts."
)


@app.command()
def run(
    overrides: Overrides = None,
    model: TestedModel = "world",
    run: TestedRun = None,
    steps: TestedSteps = "",
    kind: KindOption = "tokens",
    chat: ChatUrl = None,
    chat_model: ChatModel = "",
    chat_key_env: ChatKey = "SYNC_R1_CHAT_KEY",
    chat_cache: ChatCache = "",
    chat_timeout: ChatTimeout = 60.0,
    data: BenchData = "world",
    concept: BenchConcepts = None,
    tasks: TasksOption = None,
    protocol: ProtocolOption = None,
    change: Changes = None,
    max_items: MaxItems = None,
    batch_size: BatchSize = 32,
    token_epoch: TokenEpoch = 0,
    out: ResultsFolder = None,
    scored: ScoreOption = True,
    judge: JudgeOption = "world",
    judge_model: JudgeModel = "",
    clip: ClipOption = "world",
    device: DeviceOption = "auto",
) -> None:
    """Predict and score; print the table. Run it again after an interruption: what is done is not done again.

    Examples: sync-r1 bench run --concept all
    sync-r1 bench run --as text-prompt --concept all
    sync-r1 bench run --run runs/demo --steps 0,100 --concept bo
    """
    from sync_r1.progress import loading

    with loading(open_console(stderr=True)):
        from sync_r1.unifybench.protocol import load_protocol
        from sync_r1.unifybench.run import BenchmarkPlan, choose_concepts
    chosen = load_protocol(protocol or "world", change or [])
    settings = _settings(overrides or [], run, chat)
    _check_named(run, steps, chat, chat_model)
    out = out or Path("runs") / "bench" / _slug(run or chat_model or model, kind)
    with _working_in(out):
        root = _data_root(data, out)
        names = choose_concepts(root, concept or [], chosen)
        plan = BenchmarkPlan(
            root=root,
            concepts=names,
            model=_weights(model, run, chat, names[0]),
            tasks=_split(tasks),
            protocol=chosen,
            max_items=max_items,
            batch_size=batch_size,
            token_epoch=token_epoch,
        )
        judges = _judges(plan, judge, judge_model, clip, device, overrides or [], chat) if scored else None
        if chat is None:
            models = _models(model, run, steps, kind, plan, device, settings)
        else:
            models = _chat_models(chat, chat_model, chat_key_env, chat_cache, chat_timeout, chosen, kind)
        _predict_and_score(plan, models, out, judges)


@app.command()
def score(
    out: Annotated[Path, typer.Argument(help="Folder of `bench run`.")],
    overrides: Overrides = None,
    protocol: ProtocolOption = None,
    change: Changes = None,
    concept: Annotated[list[str] | None, typer.Option(help="Only these. Default: all that were predicted.")] = None,
    tasks: TasksOption = None,
    judge: JudgeOption = "world",
    judge_model: JudgeModel = "",
    clip: ClipOption = "world",
    device: DeviceOption = "auto",
) -> None:
    """Score predictions again, or go on scoring after an outage of the judge: only what is missing is asked.

    Example: sync-r1 bench score runs/bench/world --set recognition=substring
    """
    from sync_r1.data import find_concept
    from sync_r1.unifybench.protocol import changed, load_protocol
    from sync_r1.unifybench.run_manifest import read_run_manifest

    plan, labels = read_run_manifest(out)
    with _working_in(out):
        if protocol:
            chosen = load_protocol(protocol, change or [])
        else:
            chosen = changed(plan.protocol, change or [])
        named = [find_concept(plan.root, one) for one in concept or []]
        plan = replace(plan, protocol=chosen, concepts=named or list(plan.concepts))
        judges = _judges(plan, judge, judge_model, clip, device, overrides or [])
        _score(out, chosen, list(plan.concepts), _split(tasks), list(labels), judges)


@app.command()
def table(
    outs: Annotated[list[str], typer.Argument(help="Folders of `bench run`, or folder@model_epoch.")],
    style: Annotated[str, typer.Option("--format", help="markdown, csv, json or latex.")] = "markdown",
    concept: Annotated[
        list[str] | None, typer.Option(help="Average over these only; also published-20 or published-13.")
    ] = None,
) -> None:
    """Print the 15 columns, one row per model. A star marks scores that are not complete.

    Example: sync-r1 bench table runs/bench/world runs/bench/world-text-prompt --format latex
    """
    from sync_r1.unifybench.compare import open_scores
    from sync_r1.unifybench.protocol import CONCEPT_LISTS
    from sync_r1.unifybench.tables import aggregate, as_text

    names = [name for one in concept or [] for name in CONCEPT_LISTS.get(one, (one,))]
    say(as_text({out: aggregate(open_scores(out), names) for out in outs}, style).rstrip("\n"))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Folder of `bench run`, or folder@model_epoch.")],
    second: Annotated[str, typer.Argument(help="The other one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Paired differences, second minus first, with 95 % intervals over concepts and items.

    Example: sync-r1 bench compare runs/bench/world runs/bench/demo@100
    """
    from sync_r1.unifybench.compare import compare_scores, open_scores
    from sync_r1.unifybench.tables import comparison_table

    found = compare_scores(open_scores(first), open_scores(second))
    if as_json:
        say_json(found)
        return
    say(f"A  {first}\nB  {second}")
    show_table(comparison_table(found, "", "concepts", "n", "A", "B", "B − A"))


@app.command()
def protocols() -> None:
    """Say what each preset is, and list every protocol option with its value in each of them.

    Example: sync-r1 bench protocols
    """
    from sync_r1.unifybench.protocol import ABOUT, PRESETS, describe_protocols

    for name, about in ABOUT.items():
        say(f"{name}: {about}")
    for name, doc, values in describe_protocols():
        say(f"{name}: {doc}")
        say("    " + "  ".join(f"{preset}={'' if values[preset] is None else values[preset]}" for preset in PRESETS))


def _split(tasks: list[str] | None) -> list[str]:
    return [name.strip() for text in tasks or [] for name in text.split(",") if name.strip()]


def _slug(tested: str, kind: str) -> str:
    """The name of a results folder."""
    text = tested.removeprefix("runs/")
    if kind != "tokens":
        text += f"-{kind}"
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "model"


@contextmanager
def _working_in(out: Path) -> Iterator[None]:
    """Only one benchmark at a time writes to `out`; what it has finished stays when a signal ends it."""
    from sync_r1.distributed import launched_processes
    from sync_r1.folder_lock import hold_together
    from sync_r1.signals import if_stopped

    with (
        hold_together(out, launched_processes(), "name another --out"),
        if_stopped(f"{out} keeps what is predicted and scored"),
    ):
        yield


def _data_root(data: str, out: Path) -> Path:
    """The data folder; the embedded world is written into `out` once, so that recorded paths stay valid."""
    if data != "world":
        return Path(data)
    from sync_r1.unifybench.judges import export_once

    return export_once(out / "data")


def _check_named(run: str | None, steps: str, chat: str | None, chat_model: str) -> None:
    """ValueError for options that would have no effect, or two models under test."""
    if run is not None and chat is not None:
        raise ValueError("--run and --chat are both given; test one model at a time")
    if steps and run is None:
        raise ValueError(f"--steps is {steps!r}, but only a run has checkpoints; name it with --run")
    if bool(chat) != bool(chat_model):
        raise ValueError("--chat and --chat-model go together: the URL of the endpoint, and the name of a model there")


def _settings(overrides: list[str], run: str | None, chat: str | None) -> ModelConfig:
    """The `model.*` options. ValueError where they would have no effect."""
    from sync_r1.unifybench.judges import read_options

    given = [text for text in overrides if text.startswith("model.")]
    if given and (run is not None or chat is not None):
        raise ValueError(
            f"{given[0]!r} has no effect on {'--chat' if run is None else '--run, which keeps its own settings'}; "
            "leave it out"
        )
    return read_options(overrides).model


def _models(
    model: str, run: str | None, steps: str, kind: Any, plan: BenchmarkPlan, device: str, settings: ModelConfig
) -> list[ModelUnderTest]:
    from sync_r1.unifybench.models_under_test import base_model, checkpoints

    if run is None:
        return [base_model(model, kind, plan.protocol, device=device, batch_size=plan.batch_size, settings=settings)]
    if kind != "tokens":
        raise ValueError(
            f"--as is {kind!r}, but a run is tested with its tokens; name the base with --model for the baselines"
        )
    if not all(step.strip().isdigit() for step in steps.split(",") if step):
        raise ValueError(f"--steps is {steps!r}; write numbers with commas, such as 0,20,60")
    numbers = [int(step) for step in steps.split(",") if step]
    return checkpoints(run, numbers or None, plan.concepts, plan.protocol, device=device, batch_size=plan.batch_size)


def _weights(model: str, run: str | None, chat: str | None, concept: str) -> str:
    """What the evaluators are checked against: the folder of the tested weights; a chat model has none."""
    from sync_r1.run_folder import run_of_concept

    if chat is not None:
        return WORLD
    if run is not None:
        return str(run_of_concept(run, concept))
    return model.replace("{concept}", concept)


def _chat_models(
    url: str, model: str, key_env: str, cache: str, timeout: float, protocol: Protocol, kind: str
) -> list[ModelUnderTest]:
    from sync_r1.config import JudgeConfig
    from sync_r1.unifybench.models_under_test import chat_model

    endpoint = JudgeConfig(url=url, model=model, key_env=key_env, cache=cache, timeout_s=timeout)
    return [chat_model(endpoint, protocol, photo=kind == "image-prompt")]


def _predict_and_score(
    plan: BenchmarkPlan, models: Sequence[ModelUnderTest], out: Path, judges: BenchmarkJudges | None
) -> None:
    """Exit code 1 when items stay without answer."""
    from sync_r1.unifybench.run import predict_all
    from sync_r1.unifybench.run_manifest import open_run_manifest

    with noted():
        open_run_manifest(out, plan, models)
        failed = predict_all(plan, models, out, _progress)
    if failed:
        unanswered = f"{failed} items got no answer and stay open; run the same command again to ask for them"
        say(unanswered, "red", err=True)
    if judges is not None:
        epochs = [model.epoch for model in models]
        _score(out, plan.protocol, list(plan.concepts), list(plan.tasks), epochs, judges, failed)
    if failed:
        raise typer.Exit(1)


def _judges(
    plan: BenchmarkPlan,
    judge: str,
    judge_model: str,
    clip: str,
    device: str,
    overrides: list[str],
    chat: str | None = None,
) -> BenchmarkJudges:
    """The evaluators of the options. A chat model draws nothing, so that the world's CLIP is left out."""
    from sync_r1.unifybench.judges import build_judges, check_world_judges, read_options

    if chat is not None and clip == WORLD:
        clip = "none"
    given = {"eval.judge.url": judge, "eval.judge.model": judge_model, "eval.clip": clip}
    pairs = [f"{name}={json.dumps('' if value == 'none' else value)}" for name, value in given.items()]
    named = read_options([*pairs, *overrides]).eval
    check_world_judges({"--judge": named.judge.url, "--clip": named.clip}, plan.root, plan.concepts)
    return build_judges(plan.protocol, [*pairs, *overrides], plan.model, device)


def _progress(title: str, total: int) -> AbstractContextManager[Progress]:
    """Progress of one concept on stderr, over the items of all tasks."""
    from sync_r1.progress import over_tasks

    return over_tasks(open_console(stderr=True), title, total)


def _score(
    out: Path,
    protocol: Protocol,
    concepts: list[str],
    tasks: list[str],
    epochs: list[int],
    judges: BenchmarkJudges,
    unanswered: int = 0,
) -> None:
    from sync_r1.unifybench.run import score_all, unfinished
    from sync_r1.unifybench.run_manifest import read_run_manifest
    from sync_r1.unifybench.tables import as_text

    plan, labels = read_run_manifest(out)
    with noted():
        plan = replace(plan, protocol=protocol, concepts=concepts, tasks=tasks)
        tables = score_all(plan, epochs, out, judges, _progress)
    if not tables:  # another process scores
        return
    say(as_text({labels.get(epoch, str(epoch)): rows for epoch, rows in tables.items()}).rstrip("\n"))
    say(f"written  {out / 'scores'}")
    if missing := unfinished(tables):
        for line in missing:
            say(line, "red", err=True)
        if unanswered:
            go_on = "the same command, which asks the model again"
        else:
            go_on = f"sync-r1 bench score {out}"
        say(f"go on with: {go_on}", "red", err=True)
        raise typer.Exit(1)


register(app)
