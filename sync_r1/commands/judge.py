"""`sync-r1 judge …`: try a judge endpoint, or be one."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_r1.console import say

app = typer.Typer(
    no_args_is_help=True, help="A judge over HTTP: check an endpoint, or serve the embedded world's judge as one."
)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8008,
    host: Annotated[str, typer.Option(help="Address to listen on; only this machine by default.")] = "127.0.0.1",
    evaluator: Annotated[bool, typer.Option(help="Judge with the evaluator's reader instead of the reward's.")] = False,
    fail_rate: Annotated[float, typer.Option(min=0, max=1, help="Rehearsal: share of requests answered by 503.")] = 0.0,
    lie_rate: Annotated[float, typer.Option(min=0, max=1, help="Rehearsal: share of replies of a wrong form.")] = 0.0,
    delay: Annotated[float, typer.Option(min=0, help="Rehearsal: seconds to wait before each reply.")] = 0.0,
    quiet: Annotated[bool, typer.Option(help="No line per request.")] = False,
) -> None:
    """Serve the embedded world's judge as an OpenAI-compatible endpoint, to rehearse a run without a vision-language
    model.

    Example: sync-r1 judge serve --port 8008

    Then: sync-r1 train --recipe demo --concept bo scorers.judge.url=http://127.0.0.1:8008/v1 scorers.judge.model=world
    """
    from sync_r1.signals import Stopped
    from sync_r1.world.assets import load_evaluator_reader, load_reward_reader
    from sync_r1.world.judge import WorldJudge
    from sync_r1.world.judge_server import MODEL, JudgeServer, Rehearsal

    if evaluator:
        judge = WorldJudge(load_evaluator_reader())
    else:
        judge = WorldJudge(load_reward_reader(), soft=True)
    server = JudgeServer(judge, port, host, Rehearsal(fail_rate, lie_rate, delay), None if quiet else say)
    say(f"judge {MODEL!r} at {server.url}; stop it with Ctrl-C")
    try:
        server.serve_forever()
    except (KeyboardInterrupt, Stopped):  # the usual way to end it
        say("stopped")
    finally:
        server.server_close()


@app.command()
def check(
    url: Annotated[str, typer.Option(help="Base URL, for example http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="Model name the endpoint expects.")],
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "SYNC_R1_JUDGE_KEY",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until the request counts as failed.")] = 60.0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a reply with its thoughts; 1024 without this option.")
    ] = None,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million prompt tokens.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million completion tokens.")] = 0.0,
) -> None:
    """Send one small request, two pictures, and print how long it took, what they scored and what it cost.

    Example: sync-r1 judge check --url http://127.0.0.1:8008/v1 --model world
    """
    import time
    import warnings

    import numpy as np
    import torch

    from sync_r1.config import JudgeConfig
    from sync_r1.scorers.judge import RemoteJudge
    from sync_r1.world.render import Thing, render

    config = JudgeConfig(
        url=url,
        model=model,
        key_env=key_env,
        timeout_s=timeout,
        max_tokens=max_tokens,
        price_in=price_in,
        price_out=price_out,
        max_retries=1,
    )
    judge = RemoteJudge(config)
    words = "a red dog wearing a crown at the beach"
    things = [
        Thing(kind="dog", colour="red", hat="crown", scene="beach"),
        Thing(kind="vase", colour="blue", scene="city"),
    ]
    large = [np.kron(render(thing), np.ones((8, 8, 1), dtype=np.uint8)) for thing in things]
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right, wrong = judge(torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2), [words] * 2)
    if caught:
        raise ValueError(str(caught[-1].message))
    seconds, usage = time.monotonic() - started, judge.client.usage
    say(f"judge    {judge.name}")
    say(f"time     {seconds:.2f} s, {usage.requests} requests, {usage.retries} retries")
    say(f"scores   {_shown(right)} for a picture of {words}, {_shown(wrong)} for one of something else")
    say(f"tokens   {usage.prompt_tokens} read, {usage.completion_tokens} written")
    say(f"cost     {usage.cost:.6f} for 2 pictures, {500 * usage.cost:.2f} for 1000")
    if right is None or wrong is None or right <= wrong:
        raise ValueError(
            f"{model} does not tell the right picture from the wrong one; choose a model that reads pictures"
        )


def _shown(score: float | None) -> str:
    if score is None:
        return "none"
    return f"{score:.2f}"
