"""The screen of talks: every answer names what it came from, and takes thumbs."""

from __future__ import annotations

from html import escape

import gradio as gr

from sync_r1.app.parts import (
    Changes,
    address,
    arrived,
    begin,
    chips,
    chosen,
    data_uri,
    done,
    empty,
    guarded,
    link,
    message_place,
    need,
)
from sync_r1.app.server import Studio
from sync_r1.apps.studio import pictures, talk
from sync_r1.apps.studio.talk import Mine, Turn
from sync_r1.apps.studio.uploads import read_upload

ROUTES = {
    "info": "from its info line",
    "facts": "with the facts in view",
    "picture": "read from the picture",
    "rewrite": "spelled out from the facts",
    "drawing": "drawn",
    "why": "credit in nats",
}


class ChatScreen:
    """Everything of the screen."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self.frame = begin(
            studio,
            "chat",
            "Chat",
            "Ask about your thing, with or without a picture. Every answer says what it came from.",
        )
        self.nothing = gr.HTML(visible=False)
        with gr.Row():
            with gr.Column(scale=3):
                self._talk()
            with gr.Column(scale=2):
                self._beside()
        self.picture = gr.State("")
        self._connect(page)

    def _talk(self) -> None:
        self.shown = gr.HTML()
        with gr.Row():
            self.text = gr.Textbox(
                label="Your message",
                max_length=4000,
                lines=1,
                scale=4,
                info="Also /draw PROMPT, /rewrite PROMPT, /why.",
            )
            self.send = gr.Button("Send", variant="primary", scale=1, min_width=90)
        self.message = message_place()
        self.hints = gr.Dataset(components=[self.text], samples=[], label="The small model answers", visible=False)
        with gr.Row():
            self.good = gr.Button("✓ Right")
            self.bad = gr.Button("✗ Wrong")
            self.clear = gr.Button("New talk")
        self.right = gr.Textbox(label="What it should have said", info="Goes with Wrong; may stay empty.")
        self.rated = message_place()

    def _beside(self) -> None:
        self.about = gr.HTML()
        self.upload = gr.Image(
            label="Ask about a picture: drop, paste or choose it",
            type="filepath",
            sources=["upload", "clipboard"],
            height=220,
        )
        with gr.Row():
            self.mine = gr.Button("Is this mine?")
            self.without = gr.Button("Without a picture")
        self.picture_message = message_place()
        self.off = gr.CheckboxGroup([], label="Facts it may use in this talk", visible=False)

    def _connect(self, page: gr.Blocks) -> None:
        frame = [self.frame.thing, self.frame.weights, self.frame.address]
        everything = [*frame, self.nothing, self.shown, self.about, self.picture, self.off, self.hints]
        page.load(self.arrive, None, everything)
        self.frame.thing.input(self.show, self.frame.thing, everything)
        self.frame.weights.input(self.with_weights, [*self.frame.about, self.picture], self.frame.address)
        asked = [*self.frame.about, self.text, self.picture, self.off]
        for event in (self.send.click, self.text.submit):
            event(guarded(self.message, self.say), asked, [self.message, self.shown, self.text])
        self.hints.click(lambda sample: sample[0], self.hints, self.text)
        looked = [self.picture_message, self.about, self.picture, self.frame.address]
        self.upload.upload(guarded(self.picture_message, self.bring), [*self.frame.about, self.upload], looked)
        for event in (self.without.click, self.upload.clear):
            event(guarded(self.picture_message, self.leave), self.frame.about, [*looked, self.upload])
        self.mine.click(guarded(self.picture_message, self.whose), self.picture, self.picture_message)
        self.good.click(guarded(self.rated, self.like), self.frame.about, [self.rated, self.right])
        self.bad.click(guarded(self.rated, self.dislike), [*self.frame.about, self.right], [self.rated, self.right])
        self.clear.click(guarded(self.message, self.anew), self.frame.thing, [self.message, self.shown])

    def arrive(self, request: gr.Request) -> Changes:
        changes, thing, weights = arrived(self.studio, self.frame, request)
        return {**changes, **self._shown(thing, weights, request.query_params.get("picture", ""))}

    def show(self, thing: str) -> Changes:
        changes, thing, weights = chosen(self.studio, self.frame, thing)
        return {**changes, **self._shown(thing, weights, "")}

    def _shown(self, thing: str, weights: str, picture: str) -> Changes:
        if not thing:
            nothing = empty("There is nothing to talk about yet.", link("things"), "Add your first thing")
            return {self.nothing: gr.HTML(nothing, visible=True), self.shown: ""}
        concept = self.studio.folder.thing(thing)
        known = picture if picture in [one.id for one in pictures.recent(self.studio.folder, thing)] else ""
        facts = [concept.shown(fact) for fact in concept.facts]
        asks = [[ask.format(name=concept.called)] for ask in talk.ASKS]
        return {
            self.nothing: gr.HTML("", visible=False),
            self.shown: self.talk_html(thing),
            self.about: self.picture_html(known),
            self.picture: known,
            self.off: gr.CheckboxGroup(choices=facts, value=facts, visible=bool(facts)),
            self.hints: gr.Dataset(samples=asks, visible=True),
            self.frame.address: address(thing=thing, weights=weights, picture=known),
        }

    def with_weights(self, thing: str, weights: str, picture: str) -> str:
        return address(thing=thing, weights=weights, picture=picture)

    def say(self, thing: str, weights: str, text: str, picture: str, allowed: list[str]) -> Changes:
        concept = self.studio.folder.thing(need(thing))
        off = [fact for fact in map(concept.shown, concept.facts) if fact not in allowed]
        folder = self.studio.folder
        self.studio.models.use(thing, weights, lambda session: talk.say(folder, session, weights, text, picture, off))
        return {self.shown: self.talk_html(thing), self.text: ""}

    def anew(self, thing: str) -> Changes:
        talk.clear(self.studio.folder, need(thing))
        return {self.shown: self.talk_html(thing)}

    def bring(self, thing: str, weights: str, path: str | None) -> Changes:
        if path is None:
            return self.leave(thing, weights)
        image = read_upload(path)
        made = pictures.keep_brought(self.studio.folder, image, need(thing), "a picture that was brought")
        return self._look_at(thing, weights, made.id)

    def leave(self, thing: str, weights: str) -> Changes:
        return {**self._look_at(thing, weights, ""), self.upload: None}

    def _look_at(self, thing: str, weights: str, picture: str) -> Changes:
        return {
            self.picture: picture,
            self.about: self.picture_html(picture),
            self.frame.address: address(thing=thing, weights=weights, picture=picture),
        }

    def whose(self, picture: str) -> Changes:
        if not picture:
            raise ValueError("there is no picture to look at; drop one first")
        folder = self.studio.folder
        path = pictures.picture_file(folder, picture)
        rows = []
        for thing in folder.names():
            best = folder.best(thing)
            rows.append(self.studio.models.use(thing, best, lambda session: talk.is_it(session, path)))
        found = [row.thing for row in rows if row.found.present]
        said = f"This is {' and '.join(found)}. " if found else "This is none of your things. "
        return {self.picture_message: done(said + " ".join(map(mine_text, rows)), "note")}

    def like(self, thing: str, weights: str) -> Changes:
        return self._rate(thing, weights, True, "")

    def dislike(self, thing: str, weights: str, right: str) -> Changes:
        return self._rate(thing, weights, False, right.strip())

    def _rate(self, thing: str, weights: str, good: bool, right: str) -> Changes:
        folder = self.studio.folder
        turn = self.studio.models.use(need(thing), weights, lambda session: talk.rate(folder, session, good, right))
        said = f"noted for “{turn.said}”; nothing is learned from it before you say so on the Feedback screen"
        return {self.rated: done(said), self.right: ""}

    def talk_html(self, thing: str) -> str:
        """The whole talk."""
        known = talk.turns(self.studio.folder, thing)
        if not known:
            return empty("Ask something. The chips below show what the small model understands.")
        return (
            f'<div class="talk" role="log" aria-label="Talk">{"".join(self._turn_html(turn) for turn in known)}</div>'
        )

    def _turn_html(self, turn: Turn) -> str:
        picture = self.picture_html(turn.picture, 160)
        facts = chips([(fact, True, f"{nats:+.2f} nats") for fact, nats in turn.used])
        lost = ""
        if turn.unknown:
            words = ", ".join(turn.unknown)
            lost = f'<p class="said">outside what it learned: <u>{escape(words)}</u></p>'
        return (
            f'<div class="turn you"><span class="who">You</span> {escape(turn.asked)}</div>'
            f'<div class="turn it"><span class="who">It</span> {escape(turn.said) or "(nothing)"}{picture}{facts}{lost}'
            f'<p class="said">{escape(ROUTES.get(turn.route, ""))}</p></div>'
        )

    def picture_html(self, picture: str, side: int = 200) -> str:
        if not picture:
            return ""
        try:
            one, image = pictures.record(self.studio.folder, picture), pictures.picture(self.studio.folder, picture)
        except ValueError:
            return '<p class="said">its picture is gone</p>'
        return f'<img class="talked" width="{side}" src="{data_uri(image)}" alt="{escape(one.prompt)}">'


def mine_text(row: Mine) -> str:
    """Both votes about one thing."""
    votes = []
    if row.found.words is not None:
        votes.append(f"in words {'yes' if row.found.words else 'no'}")
    if row.found.margin is not None:
        votes.append(f"by drawing {'yes' if row.found.margin > 0 else 'no'} ({row.found.margin:+.2f})")
    return f"{row.thing}: {', '.join(votes)}."
