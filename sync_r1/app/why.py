"""The screen of reasons: what led to a picture, cell by cell, word by word, fact by fact, and what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from sync_r1.app.edit import checks_html
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
from sync_r1.apps import why_page
from sync_r1.apps.studio import pictures
from sync_r1.apps.studio.pictures import large
from sync_r1.apps.why_page import Explanation
from sync_r1.run_folder import run_of
from sync_r1.session import Session

WORTH = {
    "words": "Each word was taken away and the finished picture scored again: bright is where the word counts.",
    "sure": "How unsure each cell was when it was drawn. This finds wrong marks and things, but not wrong colours.",
    "order": "Which cells came when. It says how the picture grew, not whether it is right.",
    "facts": "Each private fact was taken away and the text scored again; from 0.05 nats on it counts as used.",
    "tokens": "Each soft token was taken away and the picture scored again.",
    "rewards": "What each reward said about the texts of one training prompt, and the advantage that followed.",
}


class WhyScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "why",
            "Why",
            "Draw a picture and see what led to it: words, private facts, steps, how sure the model was.",
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            self.prompt = gr.Textbox(label="Prompt", max_length=2000, scale=4)
            self.seed = gr.Number(value=0, label="Seed", precision=0, scale=1, min_width=90)
        self.think = gr.Checkbox(value=False, label="Spell it out from the facts first, and show their credit")
        with gr.Row():
            self.explain = gr.Button("Explain", variant="primary")
            self.page = gr.DownloadButton("Download as one page", visible=False)
        self.message = message_place()
        self.strip = gr.State([])
        with gr.Column(visible=False, elem_classes="panel") as self.film:
            self.step = gr.Slider(0, 8, value=8, step=1, label="Step", info="0 is before the first step.")
            self.state = gr.HTML(padding=True)
        self.found = gr.HTML()
        self._connect(page)

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        everything = [*frame, self.nothing, self.prompt, self.seed, self.found]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        asked = [*self.frame.about, self.prompt, self.seed, self.think]
        shown = [self.message, self.frame.address, self.film, self.step, self.state, self.found, self.strip, self.page]
        for event in (self.explain.click, self.prompt.submit):
            event(guarded(self.message, self.take_apart), asked, shown)
        self.step.input(self.show_step, [self.strip, self.step], self.state, show_progress="hidden")

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, _ = arrived(self.studio, self.frame, request)
        asked = request.query_params
        prompt, seed = asked.get("prompt", ""), asked.get("seed", "0")
        known = [one for one in pictures.recent(self.studio.folder, thing) if one.id == asked.get("picture")]
        if known:
            prompt, seed = known[0].prompt, str(known[0].seed)
        return {**changes, **self._shown(thing, prompt[:2000], int(seed) if seed.isdecimal() else 0)}

    def show(self, thing: str) -> Changes:
        changes, thing, _ = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, "", 0)}

    def _shown(self, thing: str, prompt: str, seed: int) -> Changes:
        if not thing:
            nothing = empty("There is nothing to explain yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True)}
        concept = self.studio.folder.thing(thing)
        return {
            self.nothing: gr.HTML("", visible=False),
            self.prompt: prompt or f"a photo of {concept.called}",
            self.seed: seed,
            self.found: empty("Press Explain. It takes a few seconds: every word is taken away once."),
        }

    def take_apart(self, thing: str, weights: str, prompt: str, seed: float, think: bool) -> Changes:
        folder = self.studio.folder
        place = folder.find(need(thing), weights).place
        tried = None if place is None else run_of(place) / "trajectories"
        _, first = pictures.check_count(1, seed or 0)
        target = folder.temporary / "downloads" / "why.html"

        def work(session: Session) -> tuple[Explanation, str]:
            found = why_page.explain(session, prompt, first, think, tried)
            why_page.write_why(found, session, target)
            return found, explanation_html(found, session)

        found, html = self.studio.models.use(thing, weights, work)
        strip = [large(image) for image in found.strip]
        last = len(strip) - 1
        return {
            self.frame.address: address(thing=thing, weights=weights, prompt=prompt, seed=str(first)),
            self.film: gr.Column(visible=last > 0),
            self.step: gr.Slider(maximum=max(last, 1), value=last),
            self.state: step_html(strip, last),
            self.found: html,
            self.strip: strip,
            self.page: gr.DownloadButton(value=str(target), visible=True),
            **({self.message: done("; ".join(found.notes), "note")} if found.notes else {}),
        }

    def show_step(self, strip: Sequence[Image.Image], step: float) -> str:
        return step_html(strip, int(step))


def step_html(strip: Sequence[Image.Image], step: int) -> str:
    """The picture after a step."""
    if not 0 <= step < len(strip):
        return ""
    said = f"After step {step} of {len(strip) - 1}"
    return figure(strip[step], said, said, "big")


def explanation_html(found: Explanation, session: Session) -> str:
    """All maps and tables with what each is worth."""
    shown = session.concept.shown
    parts = []
    if found.rewrite:
        parts.append(f"<p>Spelled out: <strong>{escape(shown(found.rewrite))}</strong></p>")
    if found.facts:
        parts.append(section("Facts", WORTH["facts"], bars([(one.fact, one.nats) for one in found.facts])))
    if found.words:
        maps = [
            map_html(one["uri"], one["alt"], f"{one['words']} ({one['total']:+.1f})")
            for one in why_page.word_maps(found, shown)
        ]
        parts.append(section("Words", WORTH["words"], f'<div class="tiles">{"".join(maps)}</div>'))
    if found.drawing is not None:
        sure, order = why_page.sure_map(found.drawing), why_page.order_map(found.drawing)
        pair = map_html(sure["uri"], sure["alt"], "unsure") + map_html(order["uri"], order["alt"], "drawn late")
        said = f"{WORTH['sure']} {WORTH['order']}"
        parts.append(section("How sure, and when", said, f'<div class="tiles">{pair}</div>'))
    if found.checks:
        parts.append(
            section(
                "Its own check", "The part that reads looks at what the other part drew.", checks_html(found.checks)
            )
        )
    if found.tokens:
        parts.append(section("Soft tokens", WORTH["tokens"], bars([(one.token, one.nats) for one in found.tokens])))
    rewards = why_page.reward_table(found.rewards)
    if rewards is not None:
        parts.append(section("Rewards", WORTH["rewards"], rewards_html(rewards, shown)))
    return "".join(parts)


def section(title: str, worth: str, content: str) -> str:
    return f'<section class="reason"><h2>{escape(title)}</h2><p class="said">{escape(worth)}</p>{content}</section>'


def map_html(uri: str, alt: str, caption: str) -> str:
    """A heat map that says the same in words."""
    return (
        f'<figure><img src="{uri}" alt="{escape(alt)}" title="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def bars(rows: Sequence[tuple[str, float]]) -> str:
    """Nats as bars."""
    most = max(abs(nats) for _, nats in rows) or 1.0
    made = []
    for name, nats in rows:
        width = 100 * max(nats, 0.0) / most
        made.append(f'<tr><td>{escape(name)}</td><td>{nats:+.2f}</td><td class="wide-cell">{bar(width)}</td></tr>')
    return f'<div class="wide"><table class="plain">{"".join(made)}</table></div>'


def bar(width: float) -> str:
    """A bar of so many percent."""
    return f'<div class="bar" aria-hidden="true"><span style="width:{width:.0f}%"></span></div>'


def rewards_html(rewards: dict[str, Any], shown: Any) -> str:
    """The kept texts of one prompt with every reward."""
    rows = []
    for row in [*rewards["rows"], {"text": "mean", "figures": rewards["means"]}]:
        values = ["" if value is None else f"{value:.2f}" for value in row["figures"]]
        rows.append([shown(row["text"]), *values])
    return table(("text", *rewards["titles"]), rows, f"Step {rewards['step']}: {shown(rewards['prompt'])}")
