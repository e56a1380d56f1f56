"""The screen of lessons: a question, an answer, what is true, and why this question now."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.catalogue import source_id
from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    done,
    empty,
    figure,
    guarded,
    link,
    message_place,
    table,
    tiles,
)
from sync_r1.app.server import Studio
from sync_r1.apps.learn import Item
from sync_r1.apps.studio import teach
from sync_r1.apps.studio.teach import Open
from sync_r1.session import Session

LETTERS = "ABCD"
HEAD = ("fact", "says", "right", "known", "next")


class LearnScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.lessons = teach.Lessons(studio.folder)
        self.frame = begin(
            studio,
            "learn",
            "Learn",
            "Get to know the things by heart. What you miss comes back; what you know waits.",
            weights=False,
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            self.learner = gr.Textbox(label="Who learns?", placeholder="mia", max_length=40)
            self.things = gr.CheckboxGroup([], label="About what?")
            self.start = gr.Button("Begin", variant="primary", min_width=110, scale=0)
        self.message = message_place()
        with gr.Column(visible=False, elem_classes="panel") as self.lesson:
            self.question = gr.HTML(padding=True)
            self.choice = gr.Radio([], label="Your answer", visible=False)
            self.text = gr.Textbox(label="Your answer", max_length=500, visible=False)
            with gr.Row():
                self.send = gr.Button("Answer", variant="primary")
                self.unknown = gr.Button("I do not know")
                self.next = gr.Button("Next question", variant="primary", visible=False)
            self.answer_message = message_place()
            self.told = gr.HTML(padding=True)
        self._teacher()
        self.item = gr.State(None)
        self._connect(page)

    def _teacher(self) -> None:
        with gr.Accordion("For the teacher", open=False):
            self.show_table = gr.Button("What is known?")
            self.table = gr.HTML()
            with gr.Row():
                self.csv = gr.Button("All answers as a table")
                self.reset = gr.Button("Begin anew")
                self.delete = gr.Button("Delete this learner", variant="stop")
            self.file = gr.DownloadButton("Download the table", visible=False)
            self.teacher_message = message_place()

    def _connect(self, page: gr.Blocks) -> None:
        lesson = [
            self.lesson,
            self.question,
            self.choice,
            self.text,
            self.send,
            self.unknown,
            self.next,
            self.told,
            self.item,
        ]
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        everything = [*frame, self.nothing, self.learner, self.things, self.start]
        loaded = page.load(self.arrive, None, [*everything, self.message])
        who = [self.learner, self.things]
        shown = [self.message, self.frame.address, *lesson]
        loaded.then(guarded(self.message, self.go_on), who, shown)
        for event in (self.start.click, self.learner.submit):
            event(guarded(self.message, self.begin), who, shown)
        given = [*who, self.item, self.choice, self.text]
        answered = [self.answer_message, *lesson]
        self.send.click(guarded(self.answer_message, self.answer), given, answered)
        self.text.submit(guarded(self.answer_message, self.answer), given, answered)
        self.unknown.click(guarded(self.answer_message, self.give_up), [*who, self.item], answered)
        self.next.click(guarded(self.answer_message, self.more), who, answered)
        self.show_table.click(guarded(self.teacher_message, self.known), who, [self.teacher_message, self.table])
        self.csv.click(guarded(self.teacher_message, self.as_file), self.learner, [self.teacher_message, self.file])
        self.reset.click(guarded(self.teacher_message, self.anew), self.learner, [self.teacher_message, self.table])
        self.delete.click(
            guarded(self.teacher_message, self.forget), self.learner, [self.teacher_message, self.table, *lesson]
        )

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        changes[self.frame.thing] = gr.Dropdown(visible=False)
        if not thing:
            nothing = empty("There is nothing to learn about yet.", link("things"), "Add your first thing")
            return {**changes, self.nothing: gr.HTML(nothing, visible=True), self.start: gr.Button(interactive=False)}
        folder, asked = self.studio.folder, request.query_params
        names = [(folder.thing(name).called, name) for name in folder.names()]
        wanted = [name for name in asked.get("things", thing).split(",") if name in folder.names()]
        learner = asked.get("learner", "")[:40]
        return {
            **changes,
            self.frame.address: address(learner=learner, things=",".join(wanted)),
            self.learner: learner,
            self.things: gr.CheckboxGroup(choices=names, value=wanted or [thing]),
        }

    def go_on(self, learner: str, things: list[str]) -> Changes:
        """Where the address names a learner, the lesson is open again."""
        if not learner:
            return {}
        return self.begin(learner, things)

    def begin(self, learner: str, things: list[str]) -> Changes:
        if not learner.strip():
            raise ValueError("say first who learns; a short name will do")
        found = self._with_sessions(things, lambda sessions: self.lessons.open(sessions, learner.strip()))
        where = address(learner=learner.strip(), things=",".join(things))
        return {self.frame.address: where, **self._open(found), self.told: ""}

    def more(self, learner: str, things: list[str]) -> Changes:
        found = self._with_sessions(things, lambda sessions: self.lessons.open(sessions, learner.strip()))
        return {**self._open(found), self.told: ""}

    def _open(self, found: Open) -> Changes:
        item = found.item
        if item is None:
            said = f"Enough for today. The next question is due on {found.until}."
            text = f'<div class="good" role="status">{escape(said)}</div>'
            hidden = {
                part: gr.update(visible=False) for part in (self.choice, self.text, self.send, self.unknown, self.next)
            }
            return {self.lesson: gr.Column(visible=True), self.question: text, self.item: None, **hidden}
        options = list(item.choices)
        if item.pictures and not item.choices:
            options = [f"picture {letter}" for letter, _ in zip(LETTERS, item.pictures)]
        if len(item.pictures) == 1 and not item.choices:
            options = []
        return {
            self.lesson: gr.Column(visible=True),
            self.question: question_html(item, found.number),
            self.choice: gr.Radio(choices=options, value=None, visible=bool(options)),
            self.text: gr.Textbox(value="", visible=not options),
            self.send: gr.Button(visible=True),
            self.unknown: gr.Button(visible=True),
            self.next: gr.Button(visible=False),
            self.item: item,
        }

    def answer(self, learner: str, things: list[str], item: Item | None, choice: str | None, text: str) -> Changes:
        given = (text or "").strip()
        if item is not None and choice:
            given = choice
            if choice.startswith("picture "):
                given = choice.removeprefix("picture ").lower()
        if not given:
            raise ValueError("choose or write an answer; or press I do not know")
        return self._judged(learner, things, item, given)

    def give_up(self, learner: str, things: list[str], item: Item | None) -> Changes:
        return self._judged(learner, things, item, "")

    def _judged(self, learner: str, things: list[str], item: Item | None, given: str) -> Changes:
        if item is None:
            raise ValueError("there is no question open; press Begin")
        told = self._with_sessions(things, lambda sessions: self.lessons.answer(sessions, learner.strip(), item, given))
        kind = "good" if told.right else "note"
        shown = figure(told.picture, told.sentence, "", "big")
        return {
            self.told: f'<div class="{kind}" role="status">{escape(told.sentence)}</div>{shown}',
            self.choice: gr.Radio(visible=False),
            self.text: gr.Textbox(visible=False),
            self.send: gr.Button(visible=False),
            self.unknown: gr.Button(visible=False),
            self.next: gr.Button(visible=True),
            self.item: None,
        }

    def _with_sessions(self, things: list[str], work: Any) -> Any:
        """`work` with a session per thing, each with its best weights."""
        folder = self.studio.folder
        names = {name: source_id(name, folder.best(name)) for name in teach.check_things(things)}
        catalogue = self.studio.models.catalogue

        def run() -> Any:
            sessions: dict[str, Session] = {name: catalogue.session(source) for name, source in names.items()}
            return work(sessions)

        return self.studio.models.do(run)

    def known(self, learner: str, things: list[str]) -> Changes:
        rows = teach.table(self.studio.folder, learner.strip(), things)
        return {self.table: table(HEAD, rows, f"What {learner.strip()} knows")}

    def as_file(self, learner: str) -> Changes:
        path = teach.csv_file(self.studio.folder, learner.strip())
        return {self.file: gr.DownloadButton(value=str(path), visible=True)}

    def anew(self, learner: str) -> Changes:
        teach.reset(self.studio.folder, learner.strip())
        return {self.table: "", self.teacher_message: done(f"{learner} begins anew; the old answers stay in the file")}

    def forget(self, learner: str) -> Changes:
        teach.delete(self.studio.folder, learner.strip())
        return {
            self.table: "",
            self.lesson: gr.Column(visible=False),
            self.item: None,
            self.teacher_message: done(f"{learner} is deleted"),
        }


def question_html(item: Item, number: int) -> str:
    """The question with its pictures, and why it is asked now."""
    pictures = ""
    if len(item.pictures) == 1:
        pictures = figure(item.pictures[0], "the picture that the question is about", "", "big")
    elif item.pictures:
        shown = [figure(image, f"picture {letter}", letter) for letter, image in zip(LETTERS, item.pictures)]
        pictures = tiles(shown)
    return f'<h2>{number}. {escape(item.question)}</h2><p class="said">Why now: {escape(item.reason)}</p>{pictures}'
