"""Options of `sync-r1 bench …`, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Options of judge and model, for example eval.judge.cache=cache model.num_tokens=24."),
]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="Preset; `bench protocols` lists them. Default: world.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change one protocol option, option=value; may be repeated.")
]
TasksOption = Annotated[
    list[str] | None, typer.Option("--tasks", help="Of the nine tasks, with commas or repeated. Default: all.")
]
JudgeOption = Annotated[
    str, typer.Option("--judge", help="'world' (attribute reader), 'none', or the URL of a chat endpoint.")
]
JudgeModel = Annotated[str, typer.Option("--judge-model", help="Model name at that URL.")]
ClipOption = Annotated[str, typer.Option("--clip", help="CLIP folder or hub id, 'world', or 'none'.")]


# Which model is tested: a folder, the checkpoints of a run, or a chat model behind an endpoint.
TestedModel = Annotated[
    str, typer.Option("--model", help="Model folder, hub id, or 'world'; {concept} stands for each concept's name.")
]
TestedRun = Annotated[
    str | None, typer.Option("--run", help="Run folder instead; {concept} stands for each name, * for the seed.")
]
TestedSteps = Annotated[
    str, typer.Option("--steps", help="Checkpoints of --run, such as 0,20,60 (0: its start). Default: the newest.")
]
KindOption = Annotated[str, typer.Option("--as", help="tokens, or a baseline: text-prompt or image-prompt.")]
ChatUrl = Annotated[
    str | None, typer.Option("--chat", help="URL of an OpenAI-compatible endpoint whose model is tested instead.")
]
ChatModel = Annotated[str, typer.Option("--chat-model", help="Model name at --chat.")]
ChatKey = Annotated[str, typer.Option("--chat-key-env", help="Environment variable that holds the key of --chat.")]
ChatCache = Annotated[
    str, typer.Option("--chat-cache", help="Folder of its answers, kept between calls. Default: none.")
]
ChatTimeout = Annotated[float, typer.Option("--chat-timeout", min=0.1, help="Seconds it may take per answer.")]

# What it is asked, and where results go.
BenchData = Annotated[str, typer.Option("--data", envvar="SYNC_R1_DATA", help="Concept store, or 'world'.")]
BenchConcepts = Annotated[
    list[str] | None,
    typer.Option("--concept", help="Names, 'all', 'published-20', 'published-13'. Default: the protocol's."),
]
MaxItems = Annotated[
    int | None, typer.Option("--max-items", min=1, help="Items per task and concept at most, evenly spaced.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Items per batch.")]
TokenEpoch = Annotated[
    int, typer.Option("--token-epoch", min=0, help="Epoch of the concept tokens under test, for the record.")
]
ResultsFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder of this model's results. Default: runs/bench/<model>.")
]
ScoreOption = Annotated[bool, typer.Option("--score/--no-score", help="Score after predicting.")]
