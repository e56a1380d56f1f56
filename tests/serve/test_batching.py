"""The worker: what arrives together is done together, waiting is bounded, and no request spoils another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from sync_r1.serve.batching import Job, Worker
from sync_r1.serve.errors import ApiError
from sync_r1.session import Session
from tests.serve.serving import Fixed, client_of, serving, wait_until


class Held:
    """Work that waits for a gate, and remembers what was done together."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, jobs: Sequence[Job]) -> None:
        self.gate.wait(30)
        self.batches.append([job.request for job in jobs])
        for job in jobs:
            job.finish(f"did {job.request}")


def worker(**changes: Any) -> Worker:
    made = Worker(**{"max_waiting": 20, "max_rows": 4, "gather_s": 0.0, **changes})
    made.start()
    return made


def job(work: Any, request: Any, key: Any = "k", size: int = 1, seconds: float = 30.0) -> Job:
    return Job(work, key, request, size, seconds)


async def value(made: Job) -> Any:
    return (await asyncio.wait_for(made.next(), 30))[1]


async def submit_behind(working: Worker, work: Held, jobs: Sequence[Job]) -> None:
    """Queue jobs while another one is being done."""
    working.submit(job(work, "first", key="first"))
    while working.waiting:
        await asyncio.sleep(0.01)
    for one in jobs:
        working.submit(one)


def test_jobs_of_a_kind_are_done_together_up_to_the_bound() -> None:
    async def scenario() -> None:
        work, working = Held(), worker()
        jobs = [job(work, "a"), job(work, "b", key="other"), job(work, "c"), job(work, "d", size=3), job(work, "e")]
        jobs += [job(work, "f", key=None), job(work, "g", key=None), job(work, "h", size=9)]
        await submit_behind(working, work, jobs)
        work.gate.set()
        assert [await value(one) for one in jobs] == [f"did {one.request}" for one in jobs]
        assert work.batches == [["first"], ["a", "c", "e"], ["b"], ["d"], ["f"], ["g"], ["h"]]
        working.stop()

    asyncio.run(scenario())


def test_after_a_batch_the_next_one_waits_for_as_many() -> None:
    async def scenario() -> None:
        work, working = Held(), worker(gather_s=5.0)
        jobs = [job(work, "a"), job(work, "b")]
        await submit_behind(working, work, jobs)
        work.gate.set()
        for one in jobs:
            await value(one)
        later = [working.submit(job(work, "c"))]
        await asyncio.sleep(0.2)
        assert len(work.batches) == 2, "it waits for a second one"
        later.append(working.submit(job(work, "d")))
        for one in later:
            await value(one)
        assert work.batches[-1] == ["c", "d"]
        working.stop()

    asyncio.run(scenario())


def test_a_full_queue_says_when_to_come_again() -> None:
    async def scenario() -> None:
        work, working = Held(), worker(max_waiting=2)
        await submit_behind(working, work, [job(work, "a"), job(work, "b")])
        with pytest.raises(ApiError) as refused:
            working.submit(job(work, "c"))
        assert refused.value.status == 429 and refused.value.headers
        assert int(refused.value.headers["Retry-After"]) >= 1
        work.gate.set()
        working.stop()

    asyncio.run(scenario())


def test_what_no_request_waits_for_is_not_done_and_what_is_late_is_named() -> None:
    async def scenario() -> None:
        work, working = Held(), worker()
        gone, late, fine = job(work, "gone"), job(work, "late", seconds=0.05), job(work, "fine")
        await submit_behind(working, work, [gone, late, fine])
        gone.cancel()
        await asyncio.sleep(0.1)
        work.gate.set()
        assert await value(fine) == "did fine"
        with pytest.raises(ApiError) as told:
            await value(late)
        assert told.value.status == 503 and told.value.code == "timeout"
        assert work.batches == [["first"], ["fine"]]
        working.stop()

    asyncio.run(scenario())


def test_a_failing_job_does_not_spoil_the_others() -> None:
    def fragile(jobs: Sequence[Job]) -> None:
        for one in jobs:
            if isinstance(one.request, Exception):
                raise one.request
        for one in jobs:
            one.finish(one.request)

    async def scenario() -> None:
        work, working = Held(), worker()
        jobs = [job(fragile, wanted) for wanted in (1, ValueError("too red"), RuntimeError("secret"), 2)]
        await submit_behind(working, work, jobs)
        work.gate.set()
        assert [await value(jobs[0]), await value(jobs[3])] == [1, 2]
        for one, status, words in ((jobs[1], 400, "too red"), (jobs[2], 500, "its log says why")):
            with pytest.raises(ApiError, match=words) as told:
                await value(one)
            assert told.value.status == status and "secret" not in told.value.message
        assert working.alive
        working.stop()

    asyncio.run(scenario())


def test_stopping_finishes_what_is_being_done_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        work, working = Held(), worker()
        first, second = job(work, "a", key="first"), job(work, "b")
        working.submit(first)
        while working.waiting:
            await asyncio.sleep(0.01)
        working.submit(second)
        stopping = threading.Thread(target=working.stop)
        stopping.start()
        with pytest.raises(ApiError, match="being stopped"):
            await value(second)
        work.gate.set()
        assert await value(first) == "did a"
        stopping.join(30)
        assert not working.alive
        with pytest.raises(ApiError, match="being stopped"):
            working.submit(job(work, "c"))

    asyncio.run(scenario())


def test_eight_clients_share_passes_and_get_what_they_would_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate, sizes = threading.Event(), threading.Event(), []
    write = type(session.model).generate_text

    def noted(self: Any, contexts: Any, *given: Any, **more: Any) -> Any:
        begun.set()
        gate.wait(60)
        sizes.append(len(contexts))
        return write(self, contexts, *given, **more)

    questions = [f"What colour is bo {'very ' * number}now?" for number in range(8)]
    wanted = [session.ask(question) for question in questions]
    monkeypatch.setattr(type(session.model), "generate_text", noted)
    with serving(Fixed(tiny=session)) as (server, app), ThreadPoolExecutor(8) as pool:

        def ask(question: str) -> str | None:
            messages: Any = [{"role": "user", "content": question}]
            reply = client_of(server).chat.completions.create(model="tiny", messages=messages)
            return reply.choices[0].message.content

        answers = [pool.submit(ask, questions[0])]
        waiting = app.state.sync_r1.worker
        assert begun.wait(60), "the first question is being answered alone"
        answers += [pool.submit(ask, question) for question in questions[1:]]
        wait_until(lambda: waiting.waiting >= 7)
        gate.set()
        assert [answer.result(60) for answer in answers] == wanted
    assert sizes == [1, 7]


def test_a_full_server_answers_429_and_the_client_tries_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    answer = type(session.model).generate_text
    monkeypatch.setattr(
        type(session.model), "generate_text", lambda *given, **more: (gate.wait(30), answer(*given, **more))[1]
    )
    messages: Any = [{"role": "user", "content": "What is bo?"}]
    with serving(Fixed(tiny=session), max_waiting=1) as (server, app), ThreadPoolExecutor(3) as pool:
        worker = app.state.sync_r1.worker
        replies = []
        for number in range(2):
            replies.append(pool.submit(client_of(server).chat.completions.create, model="tiny", messages=messages))
            wait_until(lambda number=number: worker.waiting == number)  # type: ignore[misc]
            wait_until(lambda: worker.alive, 1)
            threading.Event().wait(0.3)
        wait_until(lambda: worker.waiting == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            client_of(server).chat.completions.create(model="tiny", messages=messages)
        assert int(refused.value.response.headers["retry-after"]) >= 1
        patient = pool.submit(client_of(server, retries=3).chat.completions.create, model="tiny", messages=messages)
        gate.set()
        assert all(reply.result(60).choices for reply in (*replies, patient))


def test_a_request_that_takes_too_long_is_given_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    answer = type(session.model).generate_text

    def slowly(self: Any, contexts: Any, sampling: Any, seeds: Any, on_token: Any) -> Any:
        def wait(tokens: Any, running: Any) -> Any:
            seen.append(1)
            threading.Event().wait(0.3)
            return on_token(tokens, running)

        return answer(self, contexts, sampling, seeds, wait)

    monkeypatch.setattr(type(session.model), "generate_text", slowly)
    messages: Any = [{"role": "user", "content": "What is bo?"}]
    with serving(Fixed(tiny=session), time_limit_s=0.7) as (server, _):
        with pytest.raises(openai.InternalServerError, match="longer than is allowed") as told:
            client_of(server).chat.completions.create(model="tiny", messages=messages, temperature=2.0, seed=1)
        assert told.value.status_code == 503 and len(seen) < 12
