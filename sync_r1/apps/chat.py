"""A conversation about one or several things: every answer says what it came from, and takes thumbs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sync_r1.apps.closer import closer
from sync_r1.apps.feedback import Store, rate_answer, rate_picture, rate_rewrite
from sync_r1.apps.feedback.naming import LITTLE_WORDS
from sync_r1.apps.why import Credit, answer_credit, fact_answer_credit, fact_credit
from sync_r1.asked_texts import checked_text
from sync_r1.data import verify_images
from sync_r1.data.names import is_called
from sync_r1.data.prompts import fact_prompt
from sync_r1.drawings import save_pictures
from sync_r1.session import Session
from sync_r1.types import TextContext

Route = Literal["info", "facts", "picture", "rewrite", "drawing"]

HELP = (
    "ask anything about it; /picture FILE asks about a picture, /picture alone ends that; /rewrite PROMPT spells a "
    "drawing prompt out; /draw PROMPT draws it; /why shows what the last answer came from; /good, /bad and /bad RIGHT "
    "ANSWER rate it; /thing NAME changes the thing; /quit leaves"
)
SAME_START = 4  # letters from which on two words count as forms of one: "carry", "carries"


@dataclass(frozen=True)
class Reply:
    """What was answered, and from what."""

    text: str
    route: Route  # where the answer was looked for
    thing: str
    asked: str
    credits: list[Credit]
    picture: Path | None = None  # that was asked about, or that was drawn

    @property
    def used(self) -> list[Credit]:
        """What the text is less likely without, the strongest first."""
        return sorted((one for one in self.credits if one.used), key=lambda one: -one.nats)

    def line(self) -> str:
        """The answer with its sources, on one line."""
        named = "; ".join(f"{one.fact} ({one.nats:+.2f})" for one in self.used)
        return f"{self.text}  [{f'used: {named}' if named else 'used nothing that it was given'}]"


class Chat:
    """One conversation.

    Args:
        things: a session per name; several may share a model.
        folder: of feedback and, with `/draw`, `drawings` beside it.
    """

    def __init__(self, things: Mapping[str, Session], folder: Path, drawings: Path = Path("drawings")) -> None:
        if not things:
            raise ValueError("there is nothing to talk about; name a concept")
        self.things, self.folder, self.drawings = dict(things), folder, drawings
        self.thing = next(iter(things)) if len(things) == 1 else ""
        self.picture: Path | None = None
        self.last: Reply | None = None
        self.left = False  # by /quit
        self.commands: dict[str, Callable[[str], str]] = {
            "help": lambda rest: HELP,
            "picture": self._look_at,
            "thing": self._talk_about,
            "why": lambda rest: self.why(),
            "good": lambda rest: self._rate(True, ""),
            "bad": lambda rest: self._rate(False, rest),
            "rewrite": lambda rest: self.rewrite(rest).line(),
            "draw": self._draw,
            "quit": self._leave,
        }

    def say(self, line: str) -> str:
        """One line of the person → one line back.

        Raises ValueError for what cannot be done: an unknown command or thing, an unreadable picture, an empty text.
        """
        text = line.strip()
        if not text.startswith("/"):
            return self.ask(text).line()
        name, _, rest = text[1:].partition(" ")
        if name not in self.commands:
            raise ValueError(f"unknown command /{name}; there are {', '.join(f'/{one}' for one in self.commands)}")
        return self.commands[name](rest.strip())

    def ask(self, question: str) -> Reply:
        """Answer a question, about the picture if there is one; of a picture of two about the one that is meant.

        Without a picture, a question that has a word of a private fact is asked with the facts, any other with the
        info line.
        """
        name, session, text = self._about(question)
        concept, picture = session.concept, self.picture
        route: Route = "picture" if picture is not None else "info"
        if picture is None and _about_facts(concept.facts, text):
            route = "facts"
            answer = concept.shown(session.answers([TextContext(fact_prompt(concept, text))])[0])
            credits = fact_answer_credit(session, text, answer) if answer.strip() else []
        else:
            seen = None if picture is None else closer(session, text, picture)
            answer = session.ask(text, seen)
            credits = answer_credit(session, text, answer, seen) if answer.strip() else []
        self.last = Reply(answer, route, name, text, credits, picture)
        return self.last

    def rewrite(self, prompt: str) -> Reply:
        """Spell a drawing prompt out from the facts."""
        name, session, text = self._about(prompt)
        written = session.rewrite(text)
        credits = fact_credit(session, text, written) if written.strip() else []
        self.last = Reply(written, "rewrite", name, text, credits)
        return self.last

    def why(self) -> str:
        """Everything that the last answer could have come from, with its credit in nats."""
        last = self._answered()
        if not last.credits:
            return "nothing was written, so nothing led to it"
        ordered = sorted(last.credits, key=lambda one: -one.nats)
        return "; ".join(f"{one.fact} {one.nats:+.2f}" for one in ordered)

    def _look_at(self, file: str) -> str:
        if not file:
            self.picture = None
            return "no picture"
        path = Path(file).expanduser()
        verify_images([path])
        self.picture = path
        return f"looking at {path}"

    def _talk_about(self, name: str) -> str:
        self.thing = self._known(name.strip("<>"))
        return f"talking about {self.thing}"

    def _draw(self, prompt: str) -> str:
        """The prompt is spelled out first where the thing has facts; the picture is what is rated afterwards."""
        name, session, text = self._about(prompt)
        credits: list[Credit] = []
        if session.concept.facts:
            written = session.rewrite(text)
            credits = fact_credit(session, text, written) if written.strip() else []
            text = session.drawn_text(text, written)
        path = save_pictures(session.draw(text), self.drawings)[0]
        self.last = Reply(f"{path}: {session.concept.shown(text)}", "drawing", name, text, credits, path)
        return self.last.line()

    def _rate(self, good: bool, right: str) -> str:
        last = self._answered()
        session, store = self.things[last.thing], Store.of(last.thing, self.folder)
        if right and last.route == "drawing":
            raise ValueError("a picture has no right answer in words; say /bad alone")
        if last.route == "rewrite":
            rate_rewrite(session, store, last.asked, last.text, good, right)
        elif last.route == "drawing":
            assert last.picture is not None
            rate_picture(session, store, last.picture, good)
        else:
            rate_answer(session, store, last.asked, last.text, good, last.picture)
            if right:
                rate_answer(session, store, last.asked, right, True, last.picture)
        return f"noted in {store.path}"

    def _leave(self, rest: str) -> str:
        self.left = True
        return "bye"

    def _answered(self) -> Reply:
        if self.last is None:
            raise ValueError("nothing was answered yet; ask something first")
        return self.last

    def _known(self, name: str) -> str:
        """The id of a thing, by its id or by the name that its owner gave it."""
        for thing, session in self.things.items():
            if is_called(thing, session.concept.display_name, name):
                return thing
        raise ValueError(f"unknown thing {name!r}; known here are {', '.join(self.things)}")

    def _about(self, text: str) -> tuple[str, Session, str]:
        """The thing that a text is about, its session, and the text with the placeholder.

        The thing that it mentions; else the one that was talked about last. ValueError for several.
        """
        written = checked_text(text, "message")
        for session in self.things.values():
            written = session.mention(written)
        named = [self._known(name) for name in dict.fromkeys(re.findall(r"<([^<>\s]+)>", written))]
        if len(named) > 1:
            raise ValueError(
                f"the message names {', '.join(named)}; talk about one at a time (`sync-r1 draw` draws two together)"
            )
        self.thing = named[0] if named else self.thing
        if not self.thing:
            raise ValueError(f"which thing is meant? name one of {', '.join(self.things)}, or say /thing NAME")
        return self.thing, self.things[self.thing], written


def _about_facts(facts: list[str], question: str) -> bool:
    """Whether a question and a fact share a word, in whatever form: "carry" and "carries"."""
    starts = {word[:SAME_START] for fact in facts for word in _content(fact)}
    return any(word[:SAME_START] in starts for word in _content(question))


def _content(text: str) -> set[str]:
    words = set(re.findall(r"\w+", re.sub(r"<[^<>\s]+>", " ", text.lower())))
    return {word for word in words - LITTLE_WORDS if len(word) >= SAME_START}
