"""The screen of trainings: what one costs, how a running one is doing, stop and go on.

A training is a process of its own. This screen only looks at its files, so it may be closed and opened at any time.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.charts import chart
from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    chosen,
    done,
    empty,
    figure,
    figures,
    guarded,
    link,
    message_place,
    need,
    tiles,
    trouble,
    unchanged,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import training
from sync_r1.apps.studio.training import GOING, RECIPES, Live, Plan
from sync_r1.data import load_image

LOOK_S = 2.0
STATES = {
    "running": "is training",
    "stopping": "ends after this step",
    "stopped": "was stopped",
    "failed": "failed",
    "finished": "is finished",
}


class TrainScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "train",
            "Train",
            "The model looks at the pictures, then practises: rewards tell it what is a good answer or drawing.",
            weights=False,
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=2):
                self._plan()
            with gr.Column(scale=3):
                self._watch()
        self.seen = gr.State("")
        self._connect(page)

    def _plan(self) -> None:
        self.recipe = gr.Dropdown(
            [(f"{name}: {said}", name) for name, said in RECIPES.items()], value="demo", label="Recipe"
        )
        self.steps = gr.Slider(1, 400, value=100, step=1, label="Steps")
        self.name = gr.Textbox(label="Name of the run", max_length=40)
        self.evaluate = gr.Checkbox(value=True, label="Measure before and after")
        with gr.Row():
            self.price = gr.Button("What will it cost?")
            self.start = gr.Button("Start", variant="primary")
        self.message = message_place()

    def _watch(self) -> None:
        self.run = gr.Dropdown([], label="Run", interactive=True)
        self.head = gr.HTML()
        with gr.Row():
            self.stop = gr.Button("Stop after this step", visible=False)
            self.kill = gr.Button("Stop now", variant="stop", visible=False)
            self.resume = gr.Button("Go on", variant="primary", visible=False)
        self.watch_message = message_place()
        self.curve = gr.HTML()
        self.tried = gr.HTML()
        with gr.Accordion("Log", open=False):
            self.log = gr.HTML()
        self.timer = gr.Timer(LOOK_S)

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        view = [self.head, self.curve, self.tried, self.log, self.stop, self.kill, self.resume, self.seen]
        everything = [*frame, self.nothing, self.name, self.run, *view]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        self.run.input(self.look_at, [self.frame.thing, self.run], [self.frame.address, *view])
        self.timer.tick(self.look, [self.run, self.seen], view, show_progress="hidden")
        plan = [self.frame.thing, self.recipe, self.steps, self.name, self.evaluate]
        self.price.click(guarded(self.message, self.cost), plan, self.message)
        self.start.click(guarded(self.message, self.begin), plan, [self.message, *everything])
        for button, handler in ((self.stop, self.end), (self.kill, self.end_now), (self.resume, self.go_on)):
            about = [self.frame.thing, self.run]
            told = [self.watch_message, self.run, self.frame.address, *view]
            button.click(guarded(self.watch_message, handler), about, told)

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing, request.query_params.get("run", ""))}

    def show(self, thing: str, run: str = "") -> Changes:
        changes, thing, _ = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, run)}

    def _shown(self, thing: str, run: str) -> Changes:
        if not thing:
            nothing = empty("There is no thing to train yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True), self.run: gr.Dropdown(choices=[], value=None)}
        return {
            self.nothing: gr.HTML("", visible=False),
            self.name: training.free_name(self.studio.folder, thing),
            **self._chosen(thing, run),
        }

    def _chosen(self, thing: str, run: str) -> Changes:
        """A run of a thing, or its newest where that is gone."""
        known = training.runs(self.studio.folder, thing)
        wanted = run if run in known else next(iter(known), None)
        return {
            self.run: gr.Dropdown(choices=known, value=wanted),
            self.frame.address: address(thing=thing, run=wanted or ""),
            **self.look(wanted, ""),
        }

    def look_at(self, thing: str, run: str) -> Changes:
        return {self.frame.address: address(thing=thing, run=run), **self.look(run, "")}

    def look(self, run: str | None, seen: str) -> Changes:
        """The state of a run; nothing where it is as it was seen last."""
        queue = training.waiting(self.studio.folder)
        if not run or (run in queue and not (self.studio.folder.runs / run).is_dir()):
            return self._not_begun(bool(run), seen)
        try:
            live = training.live(self.studio.folder, run)
        except ValueError as error:
            return {self.head: trouble(error), self.seen: ""}
        now = f"{run} {live.state} {live.drawn_step} {live.log} {list(queue)}"
        if now == seen:
            return unchanged(self.seen)
        going, queued = live.state.name in GOING, run in queue
        return {
            self.head: head_html(run, live) + self._waits(),
            self.curve: chart(live.rewards, "Reward of every step"),
            self.tried: tried_html(live),
            self.log: f'<pre class="log" tabindex="0" aria-label="Log">{escape(chr(10).join(live.log))}</pre>',
            self.stop: gr.Button(visible=live.state.name == "running"),
            self.kill: gr.Button(visible=going or queued),
            self.resume: gr.Button(visible=not going and not queued and live.state.name != "finished"),
            self.seen: now,
        }

    def _not_begun(self, waits: bool, seen: str) -> Changes:
        """No run to look at yet, or one that waits for its turn and can still be called off."""
        text = self._waits() or empty("No training of this thing yet. Choose a recipe and press Start.")
        now = f"{waits} {text}"
        if seen == now:
            return unchanged(self.seen)
        buttons = {button: gr.Button(visible=False) for button in (self.stop, self.resume)}
        buttons[self.kill] = gr.Button(visible=waits)
        return {self.head: text, self.curve: "", self.tried: "", self.log: "", self.seen: now, **buttons}

    def _waits(self) -> str:
        names = training.waiting(self.studio.folder)
        if not names:
            return ""
        return f'<p><span class="state waiting">waiting</span> {escape(", ".join(names))}</p>'

    def _plan_of(self, thing: str, recipe: str, steps: float, name: str, evaluate: bool) -> Plan:
        return Plan(need(thing), recipe, int(steps), name.strip(), evaluate)

    def cost(self, thing: str, recipe: str, steps: float, name: str, evaluate: bool) -> Changes:
        found = training.cost(self.studio.folder, self._plan_of(thing, recipe, steps, name, evaluate))
        need_gib, free_gib = found["peak"] / 2**30, found["free"] / 2**30
        text = (
            f"about {training.duration(found['seconds'])} on this device, measuring and the look at photos on top; "
            f"{need_gib:.1f} GiB of memory, {free_gib:.1f} GiB are free"
        )
        if need_gib > free_gib:
            return {self.message: trouble(f"{text}: that does not fit")}
        return {self.message: done(text, "note")}

    def begin(self, thing: str, recipe: str, steps: float, name: str, evaluate: bool) -> Changes:
        plan = self._plan_of(thing, recipe, steps, name, evaluate)
        said = training.begin(self.studio.folder, plan)
        return {**self.show(thing, plan.name), self.message: done(said)}

    def end(self, thing: str, run: str) -> Changes:
        said = training.stop(self.studio.folder, run)
        return {**self._chosen(thing, run), self.watch_message: done(said)}

    def end_now(self, thing: str, run: str) -> Changes:
        said = training.stop(self.studio.folder, run, now=True)
        return {**self._chosen(thing, run), self.watch_message: done(said)}

    def go_on(self, thing: str, run: str) -> Changes:
        said = training.resume(self.studio.folder, run)
        return {**self._chosen(thing, run), self.watch_message: done(said)}


def head_html(run: str, live: Live) -> str:
    """State, progress and figures of a run."""
    state = live.state
    share = 100 * state.step / state.steps if state.steps else 0
    alarm = f'<div class="problem" role="alert">{escape(live.alarm)}</div>' if live.alarm else ""
    return (
        f'<h2>{escape(run)} <span class="state {state.name}">{STATES[state.name]}</span></h2>'
        f'<div class="bar" role="progressbar" aria-label="Steps of {escape(run)}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{share:.0f}"><span style="width:{share:.1f}%"></span></div>'
        f"{figures(live.figures)}{after_html(live)}{alarm}"
    )


def after_html(live: Live) -> str:
    """What can be done when a run has ended, and why it ended."""
    state = live.state
    if state.name == "finished":
        ways = "".join(
            f'<a class="next" href="{link(page)}">{shown}</a>' for page, shown in (("draw", "Draw"), ("chat", "Chat"))
        )
        return f"<p>It knows your thing now.</p>{ways}"
    if state.name == "failed":
        return f'<div class="problem" role="alert">{escape(state.line)}</div>'
    if state.name == "stopped":
        return f'<div class="note">It ended at step {state.step}. Go on continues from the newest checkpoint.</div>'
    return ""


def tried_html(live: Live) -> str:
    """The last drawn step: what was kept and what was left out, with the texts that led to it."""
    if not live.tried:
        return ""
    shown: list[Any] = []
    for one in live.tried:
        score = "" if one.score is None else f" ({one.score:.2f})"
        said = "kept" if one.kept else "left out"
        kind = "" if one.kept else "left-out"
        image = load_image(one.picture) if one.picture is not None else None
        if image is not None:
            shown.append(figure(image, f"{said}: {one.text}", f"{said}{score}: {one.text}", kind))
    return f"<h3>What it drew at step {live.drawn_step}</h3>{tiles(shown)}"
