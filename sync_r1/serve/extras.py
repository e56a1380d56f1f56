"""Beyond OpenAI's API, under /sync-r1/: recognise, rewrite, why, feedback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sync_r1.apps.closer import the_one_meant
from sync_r1.apps.why import answer_credit, fact_credit
from sync_r1.asked_texts import asked_text
from sync_r1.recognition import Recognition
from sync_r1.serve import pictures
from sync_r1.serve.batching import Job
from sync_r1.serve.errors import json_response
from sync_r1.serve.replies import result_of
from sync_r1.serve.schemas import FeedbackRequest, RecognizeRequest, RewriteRequest, WhyRequest
from sync_r1.serve.state import State, state_of
from sync_r1.session import Session

if TYPE_CHECKING:
    from sync_r1.apps.feedback import Event

Use = Callable[[Session], Any]

router = APIRouter(prefix="/sync-r1")


@router.post("/recognize")
async def recognize(body: RecognizeRequest, request: Request) -> Response:
    """Whether the concept is in a picture: asked in words, by drawing, or both."""
    image = await run_in_threadpool(pictures.from_data_url, body.image, "image")

    def recognised(session: Session) -> Recognition:
        return session.recognitions(the_one_meant(session, [image]), body.how)[0]

    found = await use(request, body.model, recognised)
    return json_response({key: value for key, value in asdict(found).items() if value is not None})


@router.post("/rewrite")
async def rewrite(body: RewriteRequest, request: Request) -> Response:
    """A prompt spelled out from what is privately known about the concept."""
    state = state_of(request)
    state.catalogue.find(body.model)
    job = state.submit(body, rewrite_job)
    return json_response({"text": await result_of(request, job)})


@router.post("/why")
async def why(body: WhyRequest, request: Request) -> Response:
    """Which facts a rewrite or an answer comes from, in nats."""
    image = None
    if body.image is not None:
        image = await run_in_threadpool(pictures.from_data_url, body.image, "image")
    prompt, question = body.prompt, body.question or ""

    def credits(session: Session) -> Any:
        if prompt is not None:
            return fact_credit(session, prompt, body.text)
        return answer_credit(session, question, body.text, image)

    found = await use(request, body.model, credits)
    return json_response({"credits": [{**asdict(credit), "used": credit.used} for credit in found]})


@router.post("/feedback")
async def feedback(body: FeedbackRequest, request: Request) -> Response:
    """Keep a thumb for a rewrite or an answer, as `sync-r1 rate` does. Nothing is learned from it here."""
    folder = state_of(request).options.feedback

    def rate(session: Session) -> list[Event]:
        from sync_r1.apps.feedback import Store, rate_answer, rate_rewrite  # they load what trains

        store = Store.of(session.concept.name, folder)
        if body.prompt is not None:
            return rate_rewrite(session, store, body.prompt, body.text, body.good, body.correction or "")
        return rate_answer(session, store, body.question or "", body.text, body.good)

    stored = await use(request, body.model, rate)
    return json_response(
        {"stored": [{"text": event.output, "good": event.good, "named": event.named} for event in stored]}
    )


async def use(request: Request, model: str, work: Use) -> Any:
    """What `work` finds with the model's session, done alone in the worker's thread."""
    state = state_of(request)
    state.catalogue.find(model)

    def run(jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.finish(work(state.catalogue.session(model)))

    return await result_of(request, state.submit(run, single_job))


def single_job(state: State, run: Callable[[Sequence[Job]], None]) -> Job:
    return Job(run, None, None, 1, state.options.time_limit_s)


def rewrite_job(state: State, body: RewriteRequest) -> Job:
    """Rewrites for one model share a batch."""

    def run(jobs: Sequence[Job]) -> None:
        session = state.catalogue.session(jobs[0].request.model)
        texts = session.rewrites(
            [asked_text(session.model, job.request.prompt, [session.concept], "prompt") for job in jobs]
        )
        for job, text in zip(jobs, texts, strict=True):
            job.finish(session.concept.shown(text))

    return Job(run, ("rewrite", body.model), body, 1, state.options.time_limit_s)
