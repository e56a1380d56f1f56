"""Drawing: the worker's part of generations, edits and variations. B pictures of a batch, N image tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from sync_r1.asked_texts import LONGEST_TEXT, asked_prompt
from sync_r1.drawings import EDIT, Canvas, Patch, to_images
from sync_r1.serve.batching import Job
from sync_r1.serve.catalogue import Catalogue
from sync_r1.serve.errors import ApiError, bad_request
from sync_r1.serve.pictures import enlarged, side_of
from sync_r1.session import Session
from sync_r1.types import ImageTrace, Sampling

Way = Literal["draw", "edit", "vary"]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What to draw, as a client put it."""

    model: str
    way: Way
    prompt: str | None  # None: that of the picture to vary, else a photo of the concept
    seeds: tuple[int, ...]  # one per picture
    size: str | None = None
    rewrite: bool = False
    steps: int | None = None
    guidance: float | None = None
    temperature: float | None = None
    partials: int = 0  # previews before the picture; for a single picture
    picture: Image.Image | None = None  # to edit or vary
    mask: Image.Image | None = None  # to edit: transparent where to draw again
    share: float = 0.4  # to vary: how much is drawn again

    @property
    def sampling_key(self) -> tuple[Any, ...]:
        return self.steps, self.guidance, self.temperature

    def sampling(self, session: Session) -> Sampling:
        """As the run evaluates, but for what the client asks."""
        given: dict[str, Any] = {
            "generation_timesteps": self.steps,
            "guidance_scale": self.guidance,
            "temperature": self.temperature,
        }
        return replace(session.image_sampling, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Partial:
    """What a picture looks like on the way; number `index` of those that were asked for."""

    index: int
    image: Image.Image


@dataclass(frozen=True)
class Drawn:
    """The result of a `Draw`."""

    images: list[Image.Image]
    seeds: list[int]
    prompt: str  # what was drawn
    revised: bool  # whether it is the model's own wording
    notes: list[str]
    prompt_tokens: int
    image_tokens: int


class _Fewer(Exception):
    """Some clients have gone: go on with the others from this state."""

    def __init__(self, trace: ImageTrace) -> None:
        super().__init__("a client has gone")
        self.trace = trace


@dataclass
class Plan:
    """The rows of one job in a batch."""

    job: Job
    session: Session
    text: str  # with the placeholder
    revised: bool
    drawn_text: str  # with the soft tokens
    state: ImageTrace  # before the first step
    side: int
    canvas: Canvas | None = None
    patch: Patch | None = None  # of the canvas

    @property
    def draw(self) -> Draw:
        request: Draw = self.job.request
        return request

    def images(self, trace: ImageTrace, preview: bool = False) -> list[Image.Image]:
        """The rows' pictures, pasted where they belong, with what made them."""
        model = self.session.model
        pixels = model.preview(trace) if preview else model.decode_image(trace.tokens)
        found = []
        for row, image in enumerate(to_images(pixels)):
            info = self.session.made_from(self.text, self.draw.seeds[row])
            if self.canvas is None or self.patch is None:
                made = enlarged(image, self.side)
            else:
                made = self.canvas.paste(image, self.patch.masks[row])
                info[EDIT] = f"{self.patch.what} of {self.canvas.digest}"
            made.info = info
            found.append(made)
        return found

    def notes(self) -> list[str]:
        """What the client should know about its prompt and its mask."""
        concept, found = self.session.concept, []
        if self.draw.rewrite and not self.revised:
            found.append("the concept has no facts, so the prompt was not rewritten")
        if concept.placeholder not in self.text:
            found.append(f"the prompt does not mention {concept.shown(concept.placeholder)}, so it is drawn without it")
        if lost := self.session.model.lost_words(self.drawn_text):
            found.append(f"the prompt is longer than the model reads; these words were left out: {concept.shown(lost)}")
        if self.patch is not None and bool(self.patch.cells.all()):
            found.append("every part of the picture is drawn again, so nothing of it guides the drawing")
        return found

    def result(self, trace: ImageTrace) -> Drawn:
        tokenizer = self.session.model.tokenizer
        read = len(tokenizer(self.drawn_text, add_special_tokens=False)["input_ids"])
        return Drawn(
            images=self.images(trace),
            seeds=list(self.draw.seeds),
            prompt=self.session.concept.shown(self.text),
            revised=self.revised,
            notes=self.notes(),
            prompt_tokens=read,
            image_tokens=len(trace.tokens) * trace.tokens.shape[1],
        )


class Drawings:
    """Draws pictures of several clients in one batch."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def draw(self, jobs: Sequence[Job]) -> None:
        """A `batching.Handler` of jobs whose request is a `Draw`; all have one model and one sampling."""
        session = self.catalogue.session(jobs[0].request.model)
        sampling = jobs[0].request.sampling(session)
        plans = plan_all(session, jobs, sampling)
        if not plans:
            return
        rows = [(plan, row) for plan in plans for row in range(len(plan.state.tokens))]
        state = ImageTrace.cat([plan.state for plan in plans])
        while rows:
            prompts = [plan.drawn_text for plan, _ in rows]
            try:
                trace = session.model.generate_image(prompts, sampling, state=state, on_step=Watch(rows))
                break
            except _Fewer as fewer:
                kept = [number for number, (plan, _) in enumerate(rows) if not plan.job.unwanted]
                rows, state = [rows[number] for number in kept], fewer.trace.select(kept)
        if rows:
            finish(rows, trace)


Rows = list[tuple[Plan, int]]  # whose picture each row of a batch is, and which of them


class Watch:
    """Called after every step: shows previews, and stops for rows that no client waits for any more."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __call__(self, trace: ImageTrace) -> None:
        for number, (plan, _) in enumerate(self.rows):
            index = preview_due(trace.step, trace.timesteps, plan.draw.partials)
            if index is not None and not plan.job.unwanted:
                plan.job.send(Partial(index, plan.images(trace.select([number]), preview=True)[0]))
        if any(plan.job.unwanted for plan, _ in self.rows):
            raise _Fewer(trace)


def preview_due(step: int, timesteps: int, partials: int) -> int | None:
    """Which of the evenly spaced previews is shown after a step, if one is."""
    if partials == 0:
        return None
    due = sorted({max(1, timesteps * (index + 1) // (partials + 1)) for index in range(partials)})
    if step in due:
        return due.index(step)
    return None


def finish(rows: Rows, trace: ImageTrace) -> None:
    """Give every job its pictures."""
    for plan in dict.fromkeys(id(plan) for plan, _ in rows):
        numbers = [number for number, (owner, _) in enumerate(rows) if id(owner) == plan]
        owner = rows[numbers[0]][0]
        if not owner.job.unwanted:
            owner.job.finish(owner.result(trace.select(numbers)))


def plan_all(session: Session, jobs: Sequence[Job], sampling: Sampling) -> list[Plan]:
    """What to draw for each job. A job that asks for something impossible fails, the others go on."""
    given = [job.request.prompt or _known_prompt(session, job.request) for job in jobs]
    prompts = [asked_prompt(session.model, prompt, [session.concept]) for prompt in given]
    wanted = [number for number, job in enumerate(jobs) if job.request.rewrite]
    revised: dict[int, str] = {}
    if wanted and session.concept.facts:
        rewrites = session.rewrites([prompts[number] for number in wanted])
        revised = {
            number: session.drawn_text(prompts[number], text) for number, text in zip(wanted, rewrites, strict=True)
        }
    plans = []
    for number, job in enumerate(jobs):
        text = revised.get(number, prompts[number])
        try:
            plans.append(plan_one(session, job, text, number in revised, sampling))
        except ApiError as error:
            job.fail(error)
        except ValueError as error:
            job.fail(bad_request(str(error)))
    return plans


def _known_prompt(session: Session, draw: Draw) -> str:
    known = ""
    if draw.picture is not None:
        known = str(draw.picture.info.get("prompt", "")).strip()
    if 0 < len(known) <= LONGEST_TEXT:
        return known
    return f"a photo of {session.concept.placeholder}"


def plan_one(session: Session, job: Job, text: str, revised: bool, sampling: Sampling) -> Plan:
    """The rows of one job. ValueError for a mask that does not fit, or a model that cannot redraw a region."""
    draw: Draw = job.request
    text = asked_prompt(session.model, text, [session.concept])
    prompt = session.with_tokens(text)
    prompts, seeds = [prompt] * len(draw.seeds), list(draw.seeds)
    if draw.picture is None:
        side = side_of(draw.size, session.model.image_size)
        state = session.model.generate_image(prompts, sampling, seeds, stop_at=0)
        return Plan(job, session, text, revised, prompt, state, side)
    canvas = Canvas.of(session.model, draw.picture)
    own = f"{draw.picture.width}x{draw.picture.height}"
    if draw.size not in (None, "auto", own):
        raise bad_request(f"size is {draw.size}; the picture keeps its own, {own}, so leave it out", "size")
    if draw.mask is not None:
        patch = canvas.region(draw.mask, len(seeds))
    else:
        patch = canvas.random_share(draw.share, seeds)
    codes = canvas.codes.expand(len(seeds), -1)
    state = session.model.redraw_image(prompts, codes, patch.cells, sampling, seeds, stop_at=0)
    return Plan(job, session, text, revised, prompt, state, canvas.square.side, canvas, patch)
