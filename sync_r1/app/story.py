"""The screen of picture books: one line becomes pages, which can be changed, drawn, locked and given away."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    chosen,
    data_uri,
    done,
    empty,
    guarded,
    link,
    message_place,
    need,
    silent,
    unchanged,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import books
from sync_r1.apps.studio.books import Book

LOOK_S = 2.0


class StoryScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "story",
            "Story",
            "One line becomes a picture book. The plot is by rules; the model draws every page and looks at it again.",
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            self.line = gr.Textbox(label="What happens?", max_length=500, scale=4)
            self.pages = gr.Number(value=6, label="Pages", precision=0, scale=1, min_width=90)
        with gr.Row():
            self.plan = gr.Button("Plan it", variant="primary")
            self.earlier = gr.Dropdown([], label="Books", interactive=True, visible=False)
        self.message = message_place()
        with gr.Column(visible=False, elem_classes="panel") as self.group:
            self.head = gr.HTML(padding=True)
            with gr.Row():
                self.draw = gr.Button("Draw what is missing", variant="primary")
                self.stop = gr.Button("Stop", variant="stop", visible=False)
                self.restyle = gr.Button("New seeds for all pages")
            self.draw_message = message_place()
            self.book = gr.HTML(padding=True)
            self._page()
            self._give_away()
        self.current, self.seen = gr.State(""), gr.State("")
        self.timer = gr.Timer(LOOK_S)
        self._connect(page)

    def _page(self) -> None:
        with gr.Accordion("Change a page", open=False):
            with gr.Row():
                self.number = gr.Dropdown([], label="Page", interactive=True, min_width=90)
                self.seed = gr.Number(value=0, label="Seed", precision=0, min_width=90)
                self.locked = gr.Checkbox(label="Keep its picture as it is")
            self.text = gr.Textbox(label="Text", lines=2, max_length=500)
            self.prompt = gr.Textbox(label="What the picture shows", lines=2, max_length=2000)
            with gr.Row():
                self.keep = gr.Button("Save the page", variant="primary")
                self.again = gr.Button("Draw it anew")
                self.up = gr.Button("Earlier")
                self.down = gr.Button("Later")
                self.add = gr.Button("Add a page behind it")
                self.remove = gr.Button("Remove it", variant="stop")
            self.page_message = message_place()

    def _give_away(self) -> None:
        with gr.Row():
            self.ending = gr.Radio(["html", "pdf", "png"], value="html", label="Give it away as")
            self.export = gr.Button("Make the file")
            self.file = gr.DownloadButton("Download the book", visible=False)
        self.export_message = message_place()

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        fields = [self.number, self.seed, self.locked, self.text, self.prompt]
        view = [self.group, self.head, self.book, self.draw, self.stop, self.file, self.current, self.seen, *fields]
        everything = [*frame, self.nothing, self.line, self.earlier, *view]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        told = [self.message, self.nothing, self.frame.address, self.earlier, *view]
        for event in (self.plan.click, self.line.submit):
            event(guarded(self.message, self.make), [*self.frame.about, self.line, self.pages], told)
        self.earlier.input(guarded(self.message, self.open), [*self.frame.about, self.earlier], told)
        drawn = [self.draw_message, *view]
        self.draw.click(guarded(self.draw_message, self.draw_all), [self.frame.weights, self.current], drawn)
        self.stop.click(guarded(self.draw_message, self.end), self.current, drawn)
        self.restyle.click(guarded(self.draw_message, self.new_seeds), self.current, drawn)
        news = [*view, self.draw_message]
        self.timer.tick(self.look, [self.current, self.number, self.seen], news, show_progress="hidden")
        self.number.input(self.choose_page, [self.current, self.number], fields)
        changed = [self.page_message, *view]
        self.keep.click(guarded(self.page_message, self.change), [self.current, *fields], changed)
        at = [self.current, self.number]
        self.again.click(guarded(self.page_message, self.redraw), [*self.frame.about, *at], changed)
        for button, handler in (
            (self.up, self.earlier_page), (self.down, self.later_page), (self.add, self.add_page),
            (self.remove, self.remove_page),
        ):  # fmt: skip
            button.click(guarded(self.page_message, handler), at, changed)
        self.export.click(
            guarded(self.export_message, self.give), [self.current, self.ending], [self.export_message, self.file]
        )

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, weights = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing, weights, request.query_params.get("story", ""))}

    def show(self, thing: str) -> Changes:
        changes, thing, weights = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, weights, "")}

    def _shown(self, thing: str, weights: str, wanted: str) -> Changes:
        if not thing:
            nothing = empty("There is no thing to tell about yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True)}
        known = books.known(self.studio.folder, thing)
        called = self.studio.folder.thing(thing).called
        found = next((book for book in known if book.id == wanted), None)
        first = "" if known else empty("No book yet. Say in one line what happens, and press Plan it.")
        return {
            self.nothing: gr.HTML(first, visible=bool(first)),
            self.line: f"{called} finds a kite at the beach and takes it home",
            self.earlier: self._earlier(known, found),
            **(self._view(found, 1) if found is not None else {self.group: gr.Column(visible=False), self.current: ""}),
            self.frame.address: address(thing=thing, weights=weights, story=found.id if found else ""),
        }

    def _earlier(self, known: list[Book], current: Book | None) -> Any:
        options = [(book.story.title[:80], book.id) for book in known]
        return gr.Dropdown(choices=options, value=current.id if current else None, visible=bool(options))

    def _view(self, book: Book, number: int) -> Changes:
        state = books.drawing(book)
        going = state is not None and state.name == "running"
        return {
            self.group: gr.Column(visible=True),
            self.head: self.head_html(book),
            self.book: self.book_html(book),
            self.draw: gr.Button(visible=not going, interactive=book.missing > 0),
            self.stop: gr.Button(visible=going),
            self.file: gr.DownloadButton(visible=False),
            self.current: book.id,
            self.seen: self._mark(book),
            **self._fields(book, number),
        }

    def _fields(self, book: Book, number: int) -> Changes:
        page = book.story.pages[number - 1]
        numbers = list(range(1, len(book.story.pages) + 1))
        return {
            self.number: gr.Dropdown(choices=numbers, value=number),
            self.seed: page.seed,
            self.locked: page.locked,
            self.text: page.text,
            self.prompt: page.prompt,
        }

    def _mark(self, book: Book) -> str:
        return f"{book.missing} {books.drawing(book)}"

    def _read(self, name: str) -> Book:
        if not name:
            raise ValueError("there is no book open; plan one first")
        return books.read(self.studio.folder, name)

    def look(self, name: str, number: int | None, seen: str) -> Changes:
        """News of a book that is being drawn; the fields of the page stay as they are being typed."""
        try:
            book = self._read(name)
        except ValueError:
            return unchanged(self.seen)
        if self._mark(book) == seen:
            return unchanged(self.seen)
        fields = {*self._fields(book, 1), self.file}  # a file that was made meanwhile stays
        news = {part: change for part, change in self._view(book, 1).items() if part not in fields}
        state = books.drawing(book)
        if state is not None and state.name != "running":
            news[self.draw_message] = silent()
        return news

    def make(self, thing: str, weights: str, line: str, pages: float) -> Changes:
        folder = self.studio.folder
        book = books.plan(folder, folder.thing(need(thing)), line, int(pages or 0))
        return self._opened(thing, weights, book)

    def open(self, thing: str, weights: str, name: str | None) -> Changes:
        if not name:
            return {}
        return self._opened(thing, weights, self._read(name))

    def _opened(self, thing: str, weights: str, book: Book) -> Changes:
        return {
            self.nothing: gr.HTML("", visible=False),
            self.frame.address: address(thing=thing, weights=weights, story=book.id),
            self.earlier: self._earlier(books.known(self.studio.folder, thing), book),
            **self._view(book, 1),
        }

    def draw_all(self, weights: str, name: str) -> Changes:
        book = self._read(name)
        books.draw(self.studio.folder, book, weights)
        told = "it is drawn by a process of its own; you may close this page"
        return {**self._view(book, 1), self.draw_message: done(told)}

    def end(self, name: str) -> Changes:
        book = self._read(name)
        books.stop(book)
        return self._view(self._read(name), 1)

    def new_seeds(self, name: str) -> Changes:
        book = self._read(name)
        books.restyle(book)
        return {**self._view(book, 1), self.draw_message: done("every page has another seed now; press Draw", "note")}

    def choose_page(self, name: str, number: int) -> Changes:
        return self._fields(self._read(name), int(number))

    def change(self, name: str, number: int, seed: float, locked: bool, text: str, prompt: str) -> Changes:
        book = self._read(name)
        books.change_page(book, int(number), text, prompt, seed or 0, locked)
        return {**self._view(book, int(number)), self.page_message: done("saved")}

    def redraw(self, thing: str, weights: str, name: str, number: int) -> Changes:
        book = self._read(name)
        self.studio.models.use(thing, weights, lambda session: books.redraw_page(session, book, int(number)))
        return self._view(book, int(number))

    def earlier_page(self, name: str, number: int) -> Changes:
        book = self._read(name)
        return self._view(book, books.move_page(book, int(number), -1))

    def later_page(self, name: str, number: int) -> Changes:
        book = self._read(name)
        return self._view(book, books.move_page(book, int(number), 1))

    def add_page(self, name: str, number: int) -> Changes:
        book = self._read(name)
        return self._view(book, books.add_page(book, int(number)))

    def remove_page(self, name: str, number: int) -> Changes:
        book = self._read(name)
        return self._view(book, books.remove_page(book, int(number)))

    def give(self, name: str, ending: str) -> Changes:
        path = books.give_away(self.studio.folder, self._read(name), ending)
        return {self.file: gr.DownloadButton(value=str(path), visible=True)}

    def head_html(self, book: Book) -> str:
        """Title and state."""
        state = books.drawing(book)
        drawn = len(book.story.pages) - book.missing
        said = f"{drawn} of {len(book.story.pages)} pages are drawn"
        problem = ""
        if state is not None and state.name == "failed":
            problem = f'<div class="problem" role="alert">{escape(state.line)}</div>'
        elif state is not None and state.name == "stopped" and book.missing:
            problem = '<div class="note">The drawing was stopped; press Draw to go on.</div>'
        elif state is not None and state.name == "running":
            said += ", the others are on their way"
        return f'<h2>{escape(book.story.title)}</h2><p role="status">{said}.</p>{problem}'

    def book_html(self, book: Book) -> str:
        """All pages."""
        shown = []
        for number, page in enumerate(book.story.pages, 1):
            image = book.picture(number)
            alt = escape(page.prompt)
            picture = (
                f'<img src="{data_uri(image)}" alt="{alt}">'
                if image is not None
                else '<div class="blank">not drawn yet</div>'
            )
            marks = " (kept)" if page.locked else ""
            wrong = "".join(f'<p class="said">✗ {escape(one)}</p>' for one in page.mistakes)
            below = f"<strong>{number}{marks}</strong> {escape(page.text)}{wrong}"
            shown.append(f"<figure>{picture}<figcaption>{below}</figcaption></figure>")
        return f'<div class="tiles pages">{"".join(shown)}</div>'
