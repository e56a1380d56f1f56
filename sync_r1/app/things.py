"""The screen of things: cards, a form that checks every field as it is left, and the way back from a deletion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sync_r1.app.parts import (
    Changes,
    arrived,
    begin,
    chosen,
    data_uri,
    done,
    empty,
    figure,
    guarded,
    link,
    message_place,
    need,
    silent,
    tiles,
    trouble,
)
from sync_r1.app.server import Studio
from sync_r1.apps.facts import ProposedFact, read_facts, unknown_thing
from sync_r1.apps.studio import things
from sync_r1.apps.studio.things import Card, Form, split_facts
from sync_r1.apps.studio.uploads import read_upload
from sync_r1.data import load_image

SHOWN_PHOTOS = 12
FIELDS = ("pictures", "name", "class_noun", "info", "facts")


class ThingsScreen:
    """Everything of the first screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "things",
            "Your things",
            "Show the model what is yours: a few pictures, a name, and what only you know about it.",
            weights=False,
        )
        self.cards = gr.HTML()
        self.message = message_place()
        with gr.Row():
            self.example = gr.Button("Try it with an example", variant="secondary", visible=False)
            self.put_back = gr.Button("Put it back", visible=False)
        self.trash = gr.State("")
        self._details()
        self._form()
        self._connect(page)

    def _details(self) -> None:
        with gr.Column(visible=False, elem_classes="panel") as self.about:
            self.shown = gr.HTML(padding=True)
            with gr.Row():
                self.edit = gr.Button("Change")
                self.copy = gr.Button("Make another like it")
                self.export = gr.Button("Export")
                self.delete = gr.Button("Delete", variant="stop")
            self.archive = gr.DownloadButton("Download the archive", visible=False)
            with gr.Row(visible=False) as self.sure:
                self.confirm = gr.Button("Yes, delete it", variant="stop")
                self.keep = gr.Button("No, keep it")

    def _form(self) -> None:
        self.source, self.replaces = gr.State(""), gr.State("")
        self.wrong: dict[str, gr.HTML] = {}
        with gr.Accordion("Add a thing", open=False) as self.form:
            self.pictures = gr.File(
                label="5 to 10 pictures (PNG, JPEG, WebP)",
                file_count="multiple",
                type="filepath",
                height=190,
            )
            self._place("pictures")
            with gr.Row():
                with gr.Column():
                    self.name = gr.Textbox(label="Name", placeholder="Momo", max_length=40)
                    self._place("name")
                with gr.Column():
                    self.noun = gr.Textbox(label="What is it?", placeholder="dog", info="One word: dog, woman, mug.")
                    self._place("class_noun")
            self.info = gr.Textbox(
                label="What does it look like?", placeholder="a small grey terrier with a folded ear"
            )
            self._place("info")
            self.facts = gr.Textbox(
                label="What do only you know about it?",
                info="One fact a line.",
                placeholder="it has a green raincoat\nit carries a ball",
                lines=3,
            )
            self._place("facts")
            self._facts_from_a_picture()
            with gr.Row():
                self.save = gr.Button("Save", variant="primary")
                self.clear = gr.Button("Empty the form")
            self.saved = message_place()
        self.typed = gr.BrowserState(["", "", "", ""], storage_key="studio-thing", secret="studio-thing")

    def _place(self, field: str) -> None:
        self.wrong[field] = message_place()

    def _facts_from_a_picture(self) -> None:
        with gr.Accordion("Read facts from a picture", open=False):
            gr.Markdown("The model reads a picture of it and proposes facts. Nothing is kept that you do not tick.")
            with gr.Row():
                self.fact_picture = gr.Image(
                    label="A picture of it", type="filepath", sources=["upload", "clipboard"], height=200
                )
                with gr.Column():
                    self.read = gr.Button("Read it")
                    self.proposed = gr.CheckboxGroup([], label="What it seems to tell", visible=False)
                    self.take = gr.Button("Take over what is ticked", visible=False)
            self.read_message = message_place()

    # what happens

    def _connect(self, page: gr.Blocks) -> None:
        everything = [*self._frame_parts(), self.cards, self.example, self.about, self.shown, self.form, self.archive]
        page.load(self.arrive, None, [*everything, self.put_back, self.trash])
        page.load(self.restore, self.typed, [self.name, self.noun, self.info, self.facts])
        self.frame.thing.input(self.show, self.frame.thing, everything)
        for field, box in self._boxes().items():
            box.blur(self._check(field), [*self._typed(), self.replaces], self.wrong[field])
            box.change(lambda *texts: list(texts), self._typed(), self.typed, show_progress="hidden")
        entered = [*self._typed(), self.pictures, self.source, self.replaces]
        self.save.click(
            guarded(self.saved, self.store),
            entered,
            [self.saved, self.message, *everything, *self.wrong.values(), *self._entries()],
        )
        self.clear.click(self.emptied, None, [*self._entries(), *self.wrong.values(), self.saved])
        filled = [self.message, self.form, *self._entries()]
        self.edit.click(guarded(self.message, self.change), self.frame.thing, filled)
        self.copy.click(guarded(self.message, self.another), self.frame.thing, filled)
        self.export.click(guarded(self.message, self.pack), self.frame.thing, [self.message, self.archive])
        self.delete.click(lambda: gr.Row(visible=True), None, self.sure)
        self.keep.click(lambda: gr.Row(visible=False), None, self.sure)
        after = [self.message, self.sure, self.put_back, self.trash, *everything]
        self.confirm.click(guarded(self.message, self.remove), self.frame.thing, after)
        self.put_back.click(guarded(self.message, self.restore_thing), self.trash, after)
        self.example.click(guarded(self.message, self.add_example), None, [self.message, *everything])
        proposals = [self.read_message, self.proposed, self.take]
        self.read.click(
            guarded(self.read_message, self.read_facts), [self.fact_picture, self.noun, self.frame.thing], proposals
        )
        self.take.click(self.take_over, [self.facts, self.proposed], [self.facts, self.proposed, self.take])

    def _frame_parts(self) -> list[Any]:
        return [self.frame.thing, self.frame.weights, self.frame.address]

    def _typed(self) -> list[Any]:
        return [self.name, self.noun, self.info, self.facts]

    def _boxes(self) -> dict[str, gr.Textbox]:
        return dict(zip(FIELDS[1:], self._typed(), strict=True))

    def _entries(self) -> list[Any]:
        return [*self._typed(), self.pictures, self.source, self.replaces]

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing), **self._deleted()}

    def _deleted(self) -> Changes:
        """A way back for what was deleted last, unless another thing has its name by now."""
        key, name = things.last_deleted(self.studio.folder)
        there = bool(key) and name not in self.studio.folder.names()
        return {self.trash: key, self.put_back: gr.Button(f"Put {name} back", visible=there)}

    def show(self, thing: str) -> Changes:
        changes, thing, _ = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing)}

    def _shown(self, thing: str) -> Changes:
        found = things.cards(self.studio.folder)
        if not found:
            nothing = empty("There is nothing here yet. Add your first thing below, or try everything with an example.")
            return {
                self.cards: nothing,
                self.example: gr.Button(visible=True),
                self.about: gr.Column(visible=False),
                self.form: gr.Accordion(open=True),
            }
        own = next((card for card in found if card.concept.name == thing), found[0])
        return {
            self.cards: f'<div class="cards">{"".join(map(card_html, found))}</div>',
            self.example: gr.Button(visible=False),
            self.about: gr.Column(visible=True),
            self.shown: about_html(own),
            self.archive: gr.DownloadButton(visible=False),
        }

    def restore(self, typed: list[str]) -> list[str]:
        """What was typed before the page was opened anew; pictures have to be brought again."""
        return [str(text) for text in typed]

    def _check(self, field: str) -> Callable[..., Any]:
        def check(name: str, noun: str, info: str, facts: str, replaces: str) -> Any:
            form = Form(name, noun, info, split_facts(facts), replaces=replaces)
            texts = {"name": name, "class_noun": noun, "info": info, "facts": facts}
            wrong = things.problems(self.studio.folder, form).get(field)
            if not wrong or not texts[field].strip():
                return silent()
            return trouble(wrong)

        return check

    def store(
        self, name: str, noun: str, info: str, facts: str, pictures: list[str] | None, source: str, replaces: str
    ) -> Changes:
        form = Form(name, noun, info, split_facts(facts), list(pictures or []), source, replaces)
        wrong = things.problems(self.studio.folder, form)
        places = {place: trouble(wrong[field]) if field in wrong else silent() for field, place in self.wrong.items()}
        if wrong:
            return {**places, self.saved: trouble("nothing is saved yet; see what is marked above")}
        try:
            added = things.save(self.studio.folder, form)
        except ValueError as error:
            return {**places, self.wrong["pictures"]: trouble(error)}
        text = f"{added.concept.called} is here. Next: train it. " + " ".join(f"{note}." for note in added.notes)
        return {
            **places,
            **self.show(added.concept.name),
            **self.emptied(),
            self.form: gr.Accordion(open=False),
            self.message: done(text),
        }

    def emptied(self) -> Changes:
        places = {place: silent() for place in self.wrong.values()}
        texts = dict.fromkeys(self._typed(), "")
        return {**places, **texts, self.pictures: None, self.source: "", self.replaces: "", self.saved: silent()}

    def change(self, thing: str) -> Changes:
        return self._fill(things.form_of(self.studio.folder, need(thing)), "Change it")

    def another(self, thing: str) -> Changes:
        return self._fill(things.form_of(self.studio.folder, need(thing), copy=True), "Add a thing")

    def _fill(self, form: Form, title: str) -> Changes:
        return {
            self.form: gr.Accordion(open=True, label=title),
            self.name: form.name,
            self.noun: form.class_noun,
            self.info: form.info,
            self.facts: "\n".join(form.facts),
            self.pictures: None,
            self.source: form.source,
            self.replaces: form.replaces,
            self.message: done(f"the form below has it; without new pictures those of {form.source} are kept", "note"),
        }

    def pack(self, thing: str) -> Changes:
        path = things.export_zip(self.studio.folder, need(thing))
        return {self.archive: gr.DownloadButton(value=str(path), visible=True)}

    def remove(self, thing: str) -> Changes:
        key = things.delete(self.studio.folder, need(thing))
        return {
            **self.show(self.studio.folder.chosen()),
            self.sure: gr.Row(visible=False),
            self.put_back: gr.Button("Put it back", visible=True),
            self.trash: key,
            self.message: done(f"{thing} is deleted; its runs are kept", "note"),
        }

    def restore_thing(self, key: str) -> Changes:
        name = things.put_back(self.studio.folder, key)
        return {**self.show(name), self.put_back: gr.Button(visible=False), self.message: done(f"{name} is back")}

    def add_example(self) -> Changes:
        name = things.add_example(self.studio.folder)
        return {
            **self.show(name),
            self.form: gr.Accordion(open=False),
            self.message: done(f"{name} is a dog of the embedded pixel world. Next: train it, or draw it as it is."),
        }

    def read_facts(self, picture: str | None, noun: str, thing: str | None) -> Changes:
        if picture is None:
            raise ValueError("there is no picture yet; drop one first")
        image = read_upload(picture)
        kind = noun.strip() or (self.studio.folder.thing(thing).class_noun if thing else "")
        if not kind:
            raise ValueError("say first what it is, for example a dog")
        model = self.studio.folder.model

        def work() -> list[ProposedFact]:
            session = unknown_thing(kind, model)
            return [
                replace(one, sentence=one.sentence.replace(session.concept.placeholder, "it"))
                for one in read_facts(session, image)
            ]

        found = self.studio.models.do(work)
        if not found:
            raise ValueError("nothing that could be a fact was read in this picture")
        options = [(f"{one.sentence} ({one.agreement:.0%} of the readings)", one.sentence) for one in found]
        sure = [one.sentence for one in found if one.sure]
        return {
            self.proposed: gr.CheckboxGroup(choices=options, value=sure, visible=True),
            self.take: gr.Button(visible=True),
        }

    def take_over(self, facts: str, ticked: list[str]) -> Changes:
        lines = split_facts(facts)
        lines += [sentence for sentence in ticked if sentence not in lines]
        hidden = gr.CheckboxGroup(choices=[], value=[], visible=False)
        return {self.facts: "\n".join(lines), self.proposed: hidden, self.take: gr.Button(visible=False)}


def card_html(card: Card) -> str:
    """One thing with the ways on from it."""
    concept = card.concept
    picture = data_uri(load_image(concept.train_images[0]))
    ways = []
    for page, shown in (("train", "Train"), ("draw", "Draw"), ("chat", "Chat")):
        ways.append(f'<a href="{link(page, thing=concept.name)}">{shown}</a>')
    facts = "1 fact" if len(concept.facts) == 1 else f"{len(concept.facts)} facts"
    return (
        f'<article class="card"><img src="{picture}" alt="A photo of {escape(concept.called)}"><div>'
        f'<h2><a href="{link("things", thing=concept.name)}">{escape(concept.called)}</a></h2>'
        f"<p>{escape(concept.class_noun)}, {card.photos} pictures, {facts}<br>{escape(card.known_since)}</p>"
        f"<nav aria-label='{escape(concept.called)}'>{''.join(ways)}</nav></div></article>"
    )


def about_html(card: Card) -> str:
    """Everything about one thing."""
    known = things.details(card.concept)
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in known["facts"])
    photos: list[Path] = [*card.concept.train_images, *card.concept.test_images][:SHOWN_PHOTOS]
    shown = [
        figure(load_image(path), f"Photo {number} of {known['name']}", side=120)
        for number, path in enumerate(photos, 1)
    ]
    return (
        f"<h2>{escape(known['name'])}</h2><p>{escape(known['looks'])}</p>"
        f'<p><strong>Only you know:</strong></p><ul class="facts">{facts}</ul>{tiles(shown)}'
    )
