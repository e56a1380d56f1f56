"""The part of the drawing screen that is about one drawing: edit, vary, check, repair, rate, take along."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.models import noting
from sync_r1.app.parts import Changes, address, done, figure, guarded, link, message_place, trouble
from sync_r1.app.server import Studio
from sync_r1.apps import check
from sync_r1.apps.check import Check
from sync_r1.apps.feedback import Store, rate_picture
from sync_r1.apps.studio import pictures
from sync_r1.apps.studio.pictures import Record, Wish
from sync_r1.session import Session
from sync_r1.world.regions import NAMED_REGIONS

BRUSH = "#e11d48"
SIDE = 384  # px of the canvas
TRIES = 4  # of a repair


class EditParts:
    """What is shown once a drawing was chosen."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Column(visible=False, elem_classes="panel") as self.group:
            self.head = gr.HTML(padding=True)
            with gr.Row():
                self.undo = gr.Button("Undo: back to the one before", visible=False)
                self.good = gr.Button("I like it")
                self.bad = gr.Button("I do not like it")
                self.check = gr.Button("Check it")
                self.repair = gr.Button("Repair what is wrong", visible=False)
            self.told = gr.HTML(visible=False, padding=True)
            self.message = message_place()
            with gr.Tabs():
                with gr.Tab("Edit a part"):
                    self._edit()
                with gr.Tab("Vary"):
                    self._vary()
                with gr.Tab("Take it along"):
                    self._download()
            self._results()
        self.everything = [
            self.group, self.head, self.undo, self.told, self.canvas, self.new_prompt, self.repair, self.file,
        ]  # fmt: skip

    def _edit(self) -> None:
        gr.Markdown("Paint over what is to be drawn again, or tick a region. Every other pixel stays as it is.")
        with gr.Row():
            self.canvas = gr.ImageEditor(
                label="Paint here",
                type="numpy",
                image_mode="RGBA",
                brush=gr.Brush(default_size=24, colors=[BRUSH], color_mode="fixed"),
                eraser=gr.Eraser(default_size=24),
                layers=False,
                transforms=(),
                sources=(),
                canvas_size=(SIDE, SIDE),
                fixed_canvas=False,
                height=SIDE + 90,
            )
            with gr.Column():
                self.regions = gr.CheckboxGroup(list(NAMED_REGIONS), label="Or by name")
                self.new_prompt = gr.Textbox(label="The whole picture as it is to become", lines=2, max_length=4000)
                self.tries = gr.Number(value=3, label="Tries", precision=0)
                self.redraw = gr.Button("Draw this part again", variant="primary")

    def _results(self) -> None:
        """What editing and varying made; below the tabs, as both show it."""
        self.results = gr.Gallery(
            label="Choose one to go on from it",
            elem_classes="drawings",
            fit_columns=False,
            visible=False,
            columns=4,
            height="auto",
            allow_preview=False,
            object_fit="contain",
            format="png",
            buttons=[],
        )
        self.result_ids = gr.State([])

    def _vary(self) -> None:
        self.share = gr.Slider(0.1, 0.9, value=0.4, step=0.1, label="How much is drawn again")
        self.varied = gr.Button("Draw four variations", variant="primary")

    def _download(self) -> None:
        self.recipe = gr.Checkbox(value=True, label="Keep the recipe (prompt, seed, run) inside the file")
        self.pack = gr.Button("Make the file")
        self.file = gr.DownloadButton("Download it", visible=False)

    def connect(self, screen: Any) -> None:
        """Join the parts with the screen that they are on."""
        about = [*screen.frame.about, screen.current]
        listed = [screen.gallery, screen.ids, screen.none_yet]
        found = [self.message, self.results, self.result_ids, *listed]
        self.screen = screen
        self.redraw.click(
            guarded(self.message, self.edited),
            [*about, self.canvas, self.regions, self.new_prompt, self.tries],
            found,
        )
        self.varied.click(guarded(self.message, self.variations), [*about, self.share], found)
        chosen = [self.message, screen.current, screen.frame.address, *self.everything]
        # Gradio 6.31 may leave the canvas waiting for ever after two quick events in a row, so these show no progress.
        quick: dict[str, Any] = {"show_progress": "hidden"}
        self.results.select(guarded(self.message, self.accept), [*screen.frame.about, self.result_ids], chosen, **quick)
        self.undo.click(guarded(self.message, self.step_back), about, chosen, **quick)
        self.check.click(guarded(self.message, self.look), about, [self.message, self.told, self.repair])
        self.repair.click(
            guarded(self.message, self.mend), about, [screen.current, screen.frame.address, *self.everything, *found]
        )
        self.good.click(guarded(self.message, self.like), about, self.message)
        self.bad.click(guarded(self.message, self.dislike), about, self.message)
        self.pack.click(guarded(self.message, self.download), [screen.current, self.recipe], [self.message, self.file])

    def shown(self, name: str) -> Changes:
        """The part for a drawing; hidden without one."""
        if not name:
            return {self.group: gr.Column(visible=False)}
        folder = self.studio.folder
        one, image = pictures.record(folder, name), pictures.picture(folder, name)
        return {
            self.group: gr.Column(visible=True),
            self.head: head_html(one, figure(image, f"Drawing: {one.prompt}", kind="big")),
            self.undo: gr.Button(visible=bool(one.parent)),
            self.told: gr.HTML("", visible=False),
            self.canvas: {"background": pictures.large(image, SIDE), "layers": [], "composite": None},
            self.new_prompt: one.prompt,
            self.repair: gr.Button(visible=False),
            self.file: gr.DownloadButton(visible=False),
        }

    def _choose(self, thing: str, weights: str, name: str) -> Changes:
        return {
            self.screen.current: name,
            self.screen.frame.address: address(thing=thing, weights=weights, picture=name),
            **self.shown(name),
        }

    def _found(self, thing: str, made: list[Record], notes: list[str]) -> Changes:
        shown = []
        for one in made:
            image = pictures.picture(self.studio.folder, one.id)
            shown.append((pictures.large(image), f"seed {one.seed}"))
        return {
            self.results: gr.Gallery(value=shown, visible=True, selected_index=None),
            self.result_ids: [one.id for one in made],
            **self.screen.listed(pictures.recent(self.studio.folder, thing)),
            **({self.message: done("; ".join(notes), "note")} if notes else {}),
        }

    def edited(
        self,
        thing: str,
        weights: str,
        name: str,
        canvas: dict[str, Any] | None,
        regions: list[str],
        prompt: str,
        tries: float,
    ) -> Changes:
        layers = list((canvas or {}).get("layers") or [])
        wish = Wish(prompt, int(tries or 0), asked=prompt)

        def work(session: Session) -> tuple[list[Record], list[str]]:
            return noting(
                lambda: pictures.edit(self.studio.folder, session, weights, _named(name), wish, regions, layers)
            )

        return self._found(thing, *self.studio.models.use(thing, weights, work))

    def variations(self, thing: str, weights: str, name: str, share: float) -> Changes:
        def work(session: Session) -> tuple[list[Record], list[str]]:
            wish = Wish("", 4)
            return noting(lambda: pictures.vary(self.studio.folder, session, weights, _named(name), share, wish))

        return self._found(thing, *self.studio.models.use(thing, weights, work))

    def accept(self, thing: str, weights: str, ids: list[str], event: gr.SelectData) -> Changes:
        return self._choose(thing, weights, ids[int(event.index)])

    def step_back(self, thing: str, weights: str, name: str) -> Changes:
        parent = pictures.record(self.studio.folder, _named(name)).parent
        if not parent:
            raise ValueError("this drawing was not made from another one")
        return self._choose(thing, weights, parent)

    def look(self, thing: str, weights: str, name: str) -> Changes:
        one, image = self._drawing(name)
        found = self.studio.models.use(thing, weights, lambda session: check.check(session, image, one.prompt))
        wrong = any(not row.right for row in found)
        return {self.told: gr.HTML(checks_html(found), visible=True), self.repair: gr.Button(visible=wrong)}

    def mend(self, thing: str, weights: str, name: str) -> Changes:
        one, image = self._drawing(name)

        def work(session: Session) -> tuple[Record | None, list[Check]]:
            found = check.repair(session, image, one.prompt, TRIES)
            if found.drawing is None:
                return None, found.after
            made = pictures.keep(self.studio.folder, session, found.drawing, weights, one.asked, "repaired", name)
            return made, found.after

        made, checks = self.studio.models.use(thing, weights, work)
        told = gr.HTML(checks_html(checks), visible=True)
        if made is None:
            return {self.message: trouble(f"{TRIES} tries were no better; the picture stays as it is"), self.told: told}
        listed = self.screen.listed(pictures.recent(self.studio.folder, thing))
        return {**self._choose(thing, weights, made.id), **listed, self.told: told}

    def like(self, thing: str, weights: str, name: str) -> Changes:
        return self._rate(thing, weights, name, True)

    def dislike(self, thing: str, weights: str, name: str) -> Changes:
        return self._rate(thing, weights, name, False)

    def _rate(self, thing: str, weights: str, name: str, good: bool) -> Changes:
        path = pictures.picture_file(self.studio.folder, _named(name))
        store = Store.of(thing, self.studio.folder.feedback)
        self.studio.models.use(thing, weights, lambda session: rate_picture(session, store, path, good))
        return {self.message: done("noted; nothing is learned from it before you say so on the Feedback screen")}

    def download(self, name: str, recipe: bool) -> Changes:
        path = pictures.download(self.studio.folder, _named(name), recipe)
        return {self.file: gr.DownloadButton(value=str(path), visible=True)}

    def _drawing(self, name: str) -> tuple[Record, Any]:
        return pictures.record(self.studio.folder, _named(name)), pictures.picture(self.studio.folder, name)


def _named(name: str) -> str:
    if not name:
        raise ValueError("no drawing is chosen; click one above")
    return name


def head_html(one: Record, shown: str) -> str:
    """A drawing with what made it and the ways on."""
    ways = "".join(
        f'<a class="next" href="{link(page, thing=one.thing, weights=one.weights, picture=one.id)}">{said}</a>'
        for page, said in (("chat", "Ask about it"), ("why", "Why does it look so?"))
    )
    asked = "" if one.asked == one.prompt else f"<p>Asked for: {escape(one.asked)}</p>"
    return f"{shown}<p><strong>{escape(one.prompt)}</strong> (seed {one.seed}, {one.how})</p>{asked}<p>{ways}</p>"


def checks_html(found: list[Check]) -> str:
    """What the prompt asks for, ticked or crossed."""
    rows = []
    for one in found:
        if one.right:
            rows.append(f"<li>✓ {escape(one.word)}: {escape(one.asked)}</li>")
        else:
            rows.append(f"<li>✗ {escape(one.word)}: {escape(one.asked)}, but it reads {escape(one.read)}</li>")
    return f'<p>What the model reads in its own picture:</p><ul class="facts">{"".join(rows)}</ul>'
