"""The screen of feedback: choices, what they mean, learning on demand, and undo."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.parts import (
    Changes,
    arrived,
    begin,
    chosen,
    done,
    empty,
    guarded,
    link,
    message_place,
    need,
    table,
    unchanged,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import thumbs
from sync_r1.apps.studio.folder import THUMBS
from sync_r1.apps.studio.thumbs import Asked

LOOK_S = 2.0
STATES = {
    "running": "is learning",
    "finished": "is done",
    "failed": "failed",
    "stopped": "was stopped; nothing of it is kept",
}


class FeedbackScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "feedback",
            "Feedback",
            "Say what you meant. A few choices settle what a word of yours means; then let the model practise it.",
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=3):
                self._question()
            with gr.Column(scale=2):
                self._learn()
        self.asked = gr.State(None)
        self.number = gr.State(0)
        self.seen = gr.State("")
        self.timer = gr.Timer(LOOK_S)
        self._connect(page)

    def _question(self) -> None:
        self.question = gr.HTML()
        with gr.Row(visible=False) as self.choices:
            self.left = gr.Button("← Left", elem_classes="key-ArrowLeft", min_width=90)
            self.right = gr.Button("Right →", elem_classes="key-ArrowRight", min_width=90)
            self.both = gr.Button("↑ Both", elem_classes="key-ArrowUp", min_width=90)
            self.neither = gr.Button("↓ Neither", elem_classes="key-ArrowDown", min_width=90)
        self.correction = gr.Textbox(
            label="What it should say", info="May stay empty; goes with Neither.", visible=False, max_length=500
        )
        self.more = gr.Button("Ask me something", variant="primary")
        self.message = message_place()

    def _learn(self) -> None:
        self.belief = gr.HTML()
        self.seconds = gr.Radio(list(thumbs.SECONDS), value=30, label="How long it may practise, in seconds")
        with gr.Row():
            self.start = gr.Button("Learn now", variant="primary")
            self.stop = gr.Button("Stop", variant="stop", visible=False)
            self.undo = gr.Button("Undo the last update", visible=False)
        self.by_itself = gr.Checkbox(value=False, label=f"Learn by itself after every {thumbs.EVERY} thumbs")
        self.learn_message = message_place()
        self.progress = gr.HTML()
        self.compare = gr.Button("Show what changed", visible=False)
        self.changed = gr.HTML()
        self.history = gr.HTML()

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        state = [
            self.belief,
            self.progress,
            self.history,
            self.stop,
            self.undo,
            self.compare,
            self.by_itself,
            self.seen,
        ]
        everything = [*frame, self.nothing, self.question, self.choices, self.correction, self.asked, *state]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        question = [
            self.message,
            self.question,
            self.choices,
            self.right,
            self.both,
            self.correction,
            self.asked,
            self.number,
        ]
        self.more.click(guarded(self.message, self.ask), [*self.frame.about, self.number], question)
        given = [*self.frame.about, self.asked, self.correction, self.number]
        for button, verdict in (
            (self.left, "left"), (self.right, "right"), (self.both, "both"), (self.neither, "neither"),
        ):  # fmt: skip
            button.click(guarded(self.message, self._said(verdict)), given, [*question, self.learn_message, *state])
        learned = [self.learn_message, *state]
        self.start.click(guarded(self.learn_message, self.learn), [*self.frame.about, self.seconds], learned)
        self.stop.click(guarded(self.learn_message, self.end), self.frame.thing, learned)
        self.undo.click(guarded(self.learn_message, self.take_back), self.frame.thing, [*learned, *frame, self.changed])
        self.by_itself.input(self.switch, [self.frame.thing, self.by_itself], None)
        self.compare.click(
            guarded(self.learn_message, self.what_changed), self.frame.thing, [self.learn_message, self.changed]
        )
        self.timer.tick(self.look, [*self.frame.about, self.seen], [*frame, *state], show_progress="hidden")

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing)}

    def show(self, thing: str) -> Changes:
        changes, thing, _ = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing)}

    def _shown(self, thing: str) -> Changes:
        if not thing:
            nothing = empty("There is nothing to say about yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True)}
        start = empty("Press the button below. You see what the model makes of a word of yours, and choose.")
        return {
            self.nothing: gr.HTML("", visible=False),
            self.question: start,
            self.choices: gr.Row(visible=False),
            self.correction: gr.Textbox(visible=False),
            self.asked: None,
            **self._state(thing),
        }

    def _state(self, thing: str) -> Changes:
        folder = self.studio.folder
        state = thumbs.learning(folder, thing)
        updates = thumbs.history(folder, thing)
        running = state is not None and state.name == "running"
        said = thumbs.lines(folder, thing)
        return {
            self.belief: belief_html(thumbs.understood(folder, thing), thumbs.count(folder, thing)),
            self.progress: "" if state is None else progress_html(state.name, said),
            self.history: history_html(updates),
            self.stop: gr.Button(visible=running),
            self.undo: gr.Button(visible=bool(updates) and not running),
            self.compare: gr.Button(visible=bool(updates) and not running),
            self.by_itself: thumbs.learns_by_itself(folder, thing),
            self.seen: self._mark(thing),
        }

    def _mark(self, thing: str) -> str:
        """Changes when there is something new to show."""
        folder = self.studio.folder
        return f"{thumbs.learning(folder, thing)} {len(thumbs.lines(folder, thing))} {thumbs.count(folder, thing)}"

    def look(self, thing: str | None, weights: str, seen: str) -> Changes:
        if not thing or self._mark(thing) == seen:
            return unchanged(self.seen)
        state = thumbs.learning(self.studio.folder, thing)
        changes = self._state(thing)
        if state is not None and state.name == "finished" and "running" in seen:
            frame, _, _ = chosen(self.studio, self.frame, thing, THUMBS)
            changes |= frame
        return changes

    def ask(self, thing: str, weights: str, number: int) -> Changes:
        folder = self.studio.folder
        asked = self.studio.models.use(need(thing), weights, lambda session: thumbs.ask(folder, session, number))
        if asked is None:
            text = '<div class="good" role="status">Every word of yours is settled. Press Learn now.</div>'
            hidden = {self.choices: gr.Row(visible=False), self.correction: gr.Textbox(visible=False)}
            return {self.question: text, self.asked: None, self.number: number + 1, **hidden}
        two = len(asked.rewrites) == 2
        return {
            self.question: question_html(asked),
            self.choices: gr.Row(visible=True),
            self.right: gr.Button(visible=two),
            self.both: gr.Button(visible=two),
            self.correction: gr.Textbox(value="", visible=True),
            self.asked: asked,
            self.number: number + 1,
        }

    def _said(self, verdict: str) -> Any:
        def said(thing: str, weights: str, asked: Asked | None, correction: str, number: int) -> Changes:
            if asked is None:
                raise ValueError("there is no question open; press the button below")
            folder = self.studio.folder
            self.studio.models.use(
                need(thing),
                weights,
                lambda session: thumbs.answer(folder, session, asked, verdict, correction.strip()),
            )
            told = {}
            if thumbs.is_time(folder, thing):
                try:
                    thumbs.learn(folder, thing, weights, thumbs.SECONDS[0])
                    told = {self.learn_message: done("learning by itself, as you asked")}
                except ValueError as error:
                    told = {self.learn_message: done(str(error), "note")}
            return {**self.ask(thing, weights, number), **self._state(thing), **told}

        return said

    def learn(self, thing: str, weights: str, seconds: float) -> Changes:
        thumbs.learn(self.studio.folder, need(thing), weights, int(seconds))
        told = "it practises in a process of its own; you may close this page"
        return {**self._state(thing), self.learn_message: done(told)}

    def end(self, thing: str) -> Changes:
        thumbs.stop(self.studio.folder, need(thing))
        return self._state(thing)

    def take_back(self, thing: str) -> Changes:
        now = thumbs.undo(self.studio.folder, need(thing))
        frame, _, _ = chosen(self.studio, self.frame, thing, now)
        told = done("the last update is undone, bit for bit; the thumbs stay")
        return {**frame, **self._state(thing), self.changed: "", self.learn_message: told}

    def switch(self, thing: str, wanted: bool) -> None:
        if thing:
            thumbs.set_learns_by_itself(self.studio.folder, thing, wanted)

    def what_changed(self, thing: str) -> Changes:
        folder = self.studio.folder
        prompts = thumbs.word_prompts(folder, need(thing))
        before = thumbs.weights_before(folder, thing)
        shown = []
        for weights in (before, THUMBS):
            shown.append(self.studio.models.use(thing, weights, lambda session: thumbs.rewrites(session, prompts)))
        rows = [list(row) for row in zip(prompts, *shown, strict=True)]
        return {self.changed: table(("prompt", "before", "after"), rows, "The same prompts before and after")}


def belief_html(sentences: list[str], number: int) -> str:
    """What was understood."""
    if not number:
        return empty(
            "No thumbs yet. What you say here, in talks and about drawings is gathered and shown before it is learned."
        )
    rows = "".join(f"<li>{escape(one)}</li>" for one in sentences) or "<li>nothing about words or pictures yet</li>"
    return f'<h2>What it understood</h2><ul class="facts">{rows}</ul><p class="said">from {number} thumbs</p>'


def question_html(asked: Asked) -> str:
    """The prompt and what the model made of it."""
    names = ("Left", "Right") if len(asked.rewrites) == 2 else ("It says",)
    shown = []
    for name, text in zip(names, asked.rewrites, strict=True):
        shown.append(f'<div class="choice"><h3>{name}</h3><p>{escape(text)}</p></div>')
    alone = "" if len(names) == 2 else '<p class="said">Only one text: Left is yes, Neither is no.</p>'
    return (
        f"<h2>What does “{escape(asked.word)}” mean?</h2><p>{escape(asked.prompt)}</p>"
        f'<div class="pair">{"".join(shown)}</div>{alone}'
    )


def progress_html(state: str, said: list[str]) -> str:
    """How the last learning is, or went."""
    rows = "".join(f"<li>{escape(line)}</li>" for line in said[-6:])
    return f'<h2>Learning <span class="state {state}">{STATES[state]}</span></h2><ul class="facts">{rows}</ul>'


def history_html(updates: list[dict[str, Any]]) -> str:
    """Every update with what it was about."""
    if not updates:
        return ""
    rows = []
    for update in updates:
        guard = update.get("guard", {})
        right = f"{guard.get('before', 0):.2f} → {guard.get('after', 0):.2f}"
        rows.append([update["name"].replace("_", " "), "; ".join(update.get("understood", [])), right])
    return table(("update", "understood", "photo questions right"), rows, "Updates, the newest first")
