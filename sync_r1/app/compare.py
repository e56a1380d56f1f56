"""The screen of comparisons: the same prompts and seeds from several weights, open or blind."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    chosen,
    done,
    empty,
    figure,
    guarded,
    link,
    message_place,
    need,
    table,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import comparisons
from sync_r1.apps.studio.comparisons import Comparison
from sync_r1.data import load_image


class CompareScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "compare",
            "Compare",
            "The same prompts with the same seeds, before and after training, or from any two checkpoints.",
            weights=False,
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=2):
                self._ask()
            with gr.Column(scale=3):
                self._show()
        self.current = gr.State("")
        self._connect(page)

    def _ask(self) -> None:
        self.weights = gr.CheckboxGroup([], label="Compare 2 to 4 of these")
        self.prompts = gr.Textbox(label="Prompts", info="One a line, at most 8.", lines=4)
        self.seeds = gr.Slider(1, comparisons.MOST_SEEDS, value=1, step=1, label="Pictures of each prompt")
        self.blind = gr.Checkbox(value=False, label="Blind: hide the names until I have chosen")
        self.start = gr.Button("Compare", variant="primary")
        self.message = message_place()
        self.earlier = gr.Dropdown([], label="Earlier comparisons", interactive=True, visible=False)

    def _show(self) -> None:
        self.grid = gr.HTML()
        self.rest = gr.Button("Draw the rest", variant="primary", visible=False)
        with gr.Row(visible=False) as self.choices:
            self.left = gr.Button("← Left", elem_classes="key-ArrowLeft", min_width=90)
            self.right = gr.Button("Right →", elem_classes="key-ArrowRight", min_width=90)
            self.both = gr.Button("↑ Both", elem_classes="key-ArrowUp", min_width=90)
            self.neither = gr.Button("↓ Neither", elem_classes="key-ArrowDown", min_width=90)
        self.vote_message = message_place()
        self.scores = gr.HTML()

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        view = [self.grid, self.rest, self.choices, self.scores, self.current, self.frame.address]
        everything = [*frame, self.nothing, self.weights, self.prompts, self.earlier, self.start, *view]
        everything = list(dict.fromkeys(everything))
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        asked = [self.frame.thing, self.weights, self.prompts, self.seeds, self.blind]
        drawn = [self.message, self.start, self.earlier, *view]
        self.start.click(guarded(self.message, self.compare), asked, drawn)
        self.rest.click(guarded(self.message, self.draw_the_rest), self.current, drawn)
        self.earlier.input(guarded(self.message, self.open), [self.frame.thing, self.earlier], [self.message, *view])
        for button, verdict in (
            (self.left, "left"), (self.right, "right"), (self.both, "both"), (self.neither, "neither"),
        ):  # fmt: skip
            button.click(
                guarded(self.vote_message, self._voted(verdict)),
                [self.frame.thing, self.current],
                [self.vote_message, *view],
            )

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing, request.query_params.get("comparison", ""))}

    def show(self, thing: str) -> Changes:
        changes, thing, _ = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, "")}

    def _shown(self, thing: str, wanted: str) -> Changes:
        if not thing:
            nothing = empty("There is nothing to compare yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True)}
        folder = self.studio.folder
        options = [(one.label, one.id) for one in folder.steps(thing)]
        known = comparisons.known(folder, thing)
        found = next((one for one in known if one.id == wanted), None)
        called = folder.thing(thing).called
        changes = {
            self.nothing: gr.HTML("", visible=False),
            self.weights: gr.CheckboxGroup(choices=options, value=[one for _, one in options][:2]),
            self.prompts: f"a photo of {called}\na photo of {called} at the beach",
            self.earlier: self._earlier(known),
        }
        if len(options) < 2:
            text = "There is only the model without training. Train it first, then compare before and after."
            changes[self.grid] = empty(text, link("train", thing=thing), "Train")
        else:
            changes[self.grid] = empty("Choose two and press Compare.")
        if found is not None:
            changes |= self._view(found)
        return changes

    def _earlier(self, known: list[Comparison]) -> Any:
        options = []
        for one in known:
            options.append((f"{' and '.join(one.labels)}: {one.rows[0][0]}"[:90], one.id))
        return gr.Dropdown(choices=options, value=None, visible=bool(options))

    def compare(self, thing: str, weights: list[str], prompts: str, seeds: float, blind: bool) -> Iterator[Changes]:
        """Begin a comparison, and draw it."""
        made = comparisons.create(self.studio.folder, need(thing), weights, prompts, seeds, blind)
        yield from self._drawn(made)

    def draw_the_rest(self, name: str) -> Iterator[Changes]:
        """Go on with a comparison whose page was closed before everything was drawn."""
        yield from self._drawn(comparisons.read(self.studio.folder, name))

    def _drawn(self, made: Comparison) -> Iterator[Changes]:
        """Columns come into the grid as they are finished."""
        folder = self.studio.folder
        busy = {self.start: gr.Button(interactive=False), self.rest: gr.Button(visible=False)}
        free = {self.start: gr.Button(interactive=True)}
        yield {**self._view(made), **busy, self.earlier: self._earlier(comparisons.known(folder, made.thing))}
        try:
            while made.drawn < len(made.weights):
                comparisons.draw_column(folder, made, self.studio.models.use)
                yield {**self._view(made), **busy}
        except (ValueError, OSError):
            yield {**self._view(made), **free}
            raise
        yield {**self._view(made), **free}

    def open(self, thing: str, name: str | None) -> Changes:
        if not name:
            return {}
        return self._view(comparisons.read(self.studio.folder, name))

    def _voted(self, verdict: str) -> Any:
        def voted(thing: str, name: str) -> Changes:
            folder = self.studio.folder
            made = comparisons.read(folder, name)
            row = self.studio.models.use(
                made.thing, made.weights[0], lambda session: comparisons.vote(folder, made, session, verdict)
            )
            names = [made.labels[column] for column in made.orders[row]]
            told = done(f"left was {names[0]}, right was {names[1]}")
            return {self.vote_message: told, **self._view(made)}

        return voted

    def _view(self, made: Comparison) -> Changes:
        folder = self.studio.folder
        waits = made.open_row
        rows = comparisons.score_rows(folder, made)
        scored = ""
        if rows and waits is None:
            shown = [[row["task"], *row["scores"], row["difference"]] for row in rows]
            scored = table(("task", *made.labels, "difference"), shown, "Scores of the evaluations")
        if made.blind and waits is None and made.votes:
            counted = [[name, str(count)] for name, count in comparisons.tally(made).items()]
            scored += table(("weights", "liked"), counted, "Blind votes")
        return {
            self.grid: self.grid_html(made),
            self.rest: gr.Button(visible=made.drawn < len(made.weights)),
            self.choices: gr.Row(visible=waits is not None),
            self.scores: scored,
            self.current: made.id,
            self.frame.address: address(thing=made.thing, comparison=made.id),
        }

    def grid_html(self, made: Comparison) -> str:
        """All rows; of a blind comparison the row that waits, without names, and those that were voted about."""
        waits = made.open_row
        parts = []
        for row, (prompt, seed) in enumerate(made.rows):
            hidden = made.blind and str(row) not in made.votes
            if hidden and row != waits:
                continue
            order = made.orders[row] if made.blind else list(range(len(made.labels)))
            cells = "".join(self._cell(made, row, column, place, hidden) for place, column in enumerate(order))
            said = f"<h3>{escape(prompt)} <span class='said'>seed {seed}</span></h3>"
            parts.append(f'<section class="prompt-row">{said}<div class="columns">{cells}</div></section>')
        if made.drawn < len(made.weights):
            parts.append(f'<p role="status">{made.drawn} of {len(made.weights)} are drawn</p>')
        return "".join(parts)

    def _cell(self, made: Comparison, row: int, column: int, place: int, hidden: bool) -> str:
        name = ("Left", "Right")[place] if hidden else made.labels[column]
        path = made.picture(self.studio.folder, row, column)
        if not path.is_file():
            return f"<figure><figcaption>{escape(name)}: not drawn yet</figcaption></figure>"
        alt = f"{name}: {made.rows[row][0]}"
        return figure(load_image(path), alt, name)
