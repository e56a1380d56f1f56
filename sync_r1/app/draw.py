"""The screen of drawings: prompt, what the model makes of it, pictures, and what can be done with each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from sync_r1.app.edit import EditParts
from sync_r1.app.models import noting
from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    chosen,
    done,
    empty,
    guarded,
    link,
    message_place,
    need,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import pictures
from sync_r1.apps.studio.pictures import Record, Wish
from sync_r1.session import Session

START = "a photo of {name}"


class DrawScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "draw",
            "Draw",
            "Say what the picture is to show. Where you use words of your own, let the model spell them out first.",
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=2):
                self._wish()
            with gr.Column(scale=3):
                self.gallery = gr.Gallery(
                    label="Drawings, the newest first",
                    elem_classes="drawings",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    object_fit="contain",
                    format="png",
                    buttons=[],
                )
                self.none_yet = gr.HTML(visible=False)
        self.ids = gr.State([])
        self.current = gr.State("")
        self.parts = EditParts(studio)
        self._connect(page)

    def _wish(self) -> None:
        self.prompt = gr.Textbox(label="Prompt", lines=2, max_length=4000)
        self.spell = gr.Button("Spell it out from what you know")
        self.rewrite = gr.Textbox(
            label="What will be drawn", lines=2, visible=False, info="Change it as you like, or empty it."
        )
        with gr.Row():
            self.count = gr.Number(value=4, label="Pictures", precision=0, min_width=90)
            self.seed = gr.Number(value=0, label="First seed", precision=0, min_width=90)
        with gr.Accordion("How it is drawn", open=False):
            self.steps = gr.Number(value=None, label="Steps", precision=0, info="Empty: as the model was measured.")
            self.guidance = gr.Number(value=None, label="Guidance", info="0 is off.")
            self.temperature = gr.Number(value=None, label="Temperature", info="Lower is safer, higher more varied.")
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary")
            self.stop = gr.Button("Stop", variant="stop", visible=False)
        self.message = message_place()

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        everything = [
            *frame,
            self.nothing,
            self.prompt,
            self.gallery,
            self.none_yet,
            self.ids,
            self.current,
            *self.parts.everything,
        ]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        self.frame.weights.input(self.with_weights, [*self.frame.about, self.current], self.frame.address)
        self.spell.click(
            guarded(self.message, self.spell_out), [*self.frame.about, self.prompt], [self.message, self.rewrite]
        )
        wish = [self.prompt, self.rewrite, self.count, self.seed, self.steps, self.guidance, self.temperature]
        drawn = [self.message, self.gallery, self.none_yet, self.ids, self.stop, self.draw]
        for event in (self.draw.click, self.prompt.submit):
            event(guarded(self.message, self.draw_all), [*self.frame.about, *wish], drawn)
        self.stop.click(self.cancel, None, None)
        self.gallery.select(
            guarded(self.message, self.choose),
            [*self.frame.about, self.ids],
            [self.message, self.current, self.frame.address, *self.parts.everything],
            show_progress="hidden",  # it takes no time; see edit.py
        )
        self.parts.connect(self)

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, weights = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing, weights, request.query_params.get("picture", ""))}

    def show(self, thing: str) -> Changes:
        changes, thing, weights = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, weights, "")}

    def _shown(self, thing: str, weights: str, picture: str) -> Changes:
        if not thing:
            nothing = empty("There is nothing to draw yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True), self.gallery: gr.Gallery(visible=False)}
        concept = self.studio.folder.thing(thing)
        known = pictures.recent(self.studio.folder, thing)
        wanted = picture if picture in [one.id for one in known] else ""
        first = empty(f"No drawing of {concept.called} yet. Press Draw.")
        return {
            self.nothing: gr.HTML("", visible=False),
            self.prompt: START.format(name=concept.called),
            **self.listed(known),
            self.none_yet: gr.HTML(first, visible=not known),
            self.current: wanted,
            self.frame.address: address(thing=thing, weights=weights, picture=wanted),
            **self.parts.shown(wanted),
        }

    def listed(self, known: Sequence[Record]) -> Changes:
        """The gallery with these drawings."""
        shown = [(pictures.large(pictures.picture(self.studio.folder, one.id)), caption(one)) for one in known]
        return {
            self.gallery: gr.Gallery(value=shown, visible=bool(known), selected_index=None),
            self.ids: [one.id for one in known],
            self.none_yet: gr.HTML(visible=not known),
        }

    def with_weights(self, thing: str, weights: str, current: str) -> str:
        return address(thing=thing, weights=weights, picture=current)

    def spell_out(self, thing: str, weights: str, prompt: str) -> Changes:
        def work(session: Session) -> str:
            text = session.mention(prompt)
            return session.concept.shown(session.drawn_text(text, session.mention(session.rewrite(prompt))))

        text = self.studio.models.use(need(thing), weights, work)
        return {self.rewrite: gr.Textbox(value=text, visible=True)}

    def draw_all(
        self,
        thing: str,
        weights: str,
        prompt: str,
        rewrite: str,
        count: float,
        seed: float,
        steps: float | None,
        guidance: float | None,
        temperature: float | None,
        request: gr.Request,
    ) -> Iterator[Changes]:
        """Pictures come into the gallery as they are finished."""
        asked = (rewrite or "").strip() or prompt
        wish = Wish(asked, int(count or 0), int(seed or 0), steps or None, guidance, temperature, prompt)
        folder, page = self.studio.folder, str(request.session_hash)

        def work(session: Session, send: Any) -> None:
            _, notes = noting(lambda: pictures.draw(folder, session, weights, wish, send))
            send(notes)

        yield {self.stop: gr.Button(visible=True), self.draw: gr.Button(interactive=False)}
        known = pictures.recent(folder, need(thing))
        notes: list[str] = []
        rest = {self.stop: gr.Button(visible=False), self.draw: gr.Button(interactive=True)}
        try:
            for made in self.studio.models.stream(page, thing, weights, work):
                if isinstance(made, Record):
                    known.insert(0, made)
                    yield self.listed(known)
                else:
                    notes = made
        except (ValueError, OSError) as error:
            yield rest
            raise error
        yield {**rest, **({self.message: done("; ".join(notes), "note")} if notes else {})}

    def cancel(self, request: gr.Request) -> None:
        self.studio.models.cancel(str(request.session_hash))

    def choose(self, thing: str, weights: str, ids: list[str], event: gr.SelectData) -> Changes:
        name = ids[int(event.index)]
        return {
            self.current: name,
            self.frame.address: address(thing=thing, weights=weights, picture=name),
            **self.parts.shown(name),
        }


def caption(one: Record) -> str:
    """A drawing in one line."""
    how = "" if one.how == "drawn" else f"{one.how}, "
    return f"{how}seed {one.seed}: {one.prompt}"
