"""Conversations of the studio: one line a turn, so that a talk is there again when the page is opened anew."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from sync_r1.apps.chat import Chat, Reply
from sync_r1.apps.closer import the_one_meant
from sync_r1.apps.studio.folder import StudioFolder
from sync_r1.apps.studio.pictures import Record, keep, picture_file
from sync_r1.apps.why import Credit
from sync_r1.recognition import Recognition
from sync_r1.session import Session

MOST_TURNS = 200  # that are shown
ASKS = ("What is {name}?", "What colour is {name}?", "What pattern does {name} have?", "What mark does {name} have?")
PIECES = 0.75  # tokens a letter from which on a word is spelled out rather than known


@dataclass(frozen=True)
class Turn:
    """What was said, what was answered, and from what."""

    asked: str
    said: str
    route: str
    credits: list[tuple[str, float]] = field(default_factory=list)
    picture: str = ""  # a drawing that was asked about, or that was drawn
    unknown: list[str] = field(default_factory=list)  # words that the model never learned
    weights: str = ""
    time: str = ""

    @property
    def used(self) -> list[tuple[str, float]]:
        """Facts with their credit in nats, the strongest first."""
        found = [Credit(fact, nats) for fact, nats in self.credits]
        return [(one.fact, one.nats) for one in sorted(found, key=lambda one: -one.nats) if one.used]


def turns(studio: StudioFolder, thing: str) -> list[Turn]:
    """The talk about a thing, the oldest turn first. A line that was cut short by a kill does not count."""
    path = studio.chats / f"{thing}.jsonl"
    if not path.is_file():
        return []
    found: list[Turn] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if row.get("cleared"):
                found = []
                continue
            row["credits"] = [(str(fact), float(nats)) for fact, nats in row["credits"]]
            found.append(Turn(**row))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found[-MOST_TURNS:]


def add(studio: StudioFolder, thing: str, row: dict[str, object]) -> None:
    """Append a line, on the disk when this returns."""
    path = studio.chats / f"{thing}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        lead = b""
        if end:
            file.seek(end - 1)
            lead = b"" if file.read(1) == b"\n" else b"\n"
        file.write(lead + json.dumps(row, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def clear(studio: StudioFolder, thing: str) -> None:
    """Begin a new talk; the old one stays in the file."""
    add(studio, thing, {"cleared": True, "time": _now()})


def say(
    studio: StudioFolder, session: Session, weights: str, text: str, picture: str = "", off: Sequence[str] = ()
) -> Turn:
    """One turn, which is kept.

    Args:
        text: a question; or `/rewrite PROMPT`, `/draw PROMPT`, `/why`.
        picture: the id of a drawing that is asked about, or "".
        off: facts that are not used in this talk, as their owner reads them.
    Raises:
        ValueError: an empty or too long text, an unknown command, or `/why` before the first answer.
    """
    session = without_facts(session, off)
    line, thing = text.strip(), session.concept.name
    talk = Chat({thing: session}, studio.feedback, studio.temporary)
    if picture:
        talk.picture = picture_file(studio, picture)
    if line == "/why":
        turn = _why(studio, thing)
    elif line.startswith("/draw"):
        turn = _draw(studio, session, weights, line.removeprefix("/draw").strip())
    elif line.startswith("/rewrite"):
        turn = _turn(talk.rewrite(line.removeprefix("/rewrite").strip()), line)
    elif line.startswith("/"):
        raise ValueError(f"unknown command {line.split()[0]}; there are /draw, /rewrite and /why")
    else:
        turn = _turn(talk.ask(line), line)
    turn = replace(
        turn,
        picture=turn.picture or picture,
        unknown=unknown_words(session, line),
        weights=weights,
        time=_now(),
    )
    add(studio, thing, asdict(turn))
    return turn


def without_facts(session: Session, off: Sequence[str]) -> Session:
    """The session as if it had never been told some facts."""
    if not off:
        return session
    concept = session.concept
    kept = [fact for fact in concept.facts if concept.shown(fact) not in off]
    return replace(session, concept=replace(concept, facts=kept))


def _turn(reply: Reply, asked: str) -> Turn:
    return Turn(asked, reply.text, reply.route, [(one.fact, one.nats) for one in reply.credits])


def _why(studio: StudioFolder, thing: str) -> Turn:
    before = [turn for turn in turns(studio, thing) if turn.route != "why"]
    if not before:
        raise ValueError("nothing was answered yet; ask something first")
    rows = sorted(before[-1].credits, key=lambda row: -row[1])
    text = "; ".join(f"{fact} {nats:+.2f}" for fact, nats in rows) or "nothing that it was told led to it"
    return Turn("/why", text, "why")


def _draw(studio: StudioFolder, session: Session, weights: str, prompt: str) -> Turn:
    """Drawn from the model's own wording where the thing has facts."""
    asked = session.mention(prompt or f"a photo of {session.concept.placeholder}")
    text = asked
    if session.concept.facts:
        text = session.drawn_text(asked, session.mention(session.rewrite(asked)))
    drawing = session.draw_traced(text)[0]
    made: Record = keep(studio, session, drawing, weights, session.concept.shown(asked))
    return Turn(f"/draw {prompt}".strip(), made.prompt, "drawing", picture=made.id)


def rate(studio: StudioFolder, session: Session, good: bool, right: str = "") -> Turn:
    """A thumb for the last answer of the talk, with what it should have been. Returns the turn that it is about."""
    from sync_r1.apps.feedback import Store, rate_answer, rate_picture, rate_rewrite

    thing = session.concept.name
    before = [turn for turn in turns(studio, thing) if turn.route != "why"]
    if not before:
        raise ValueError("nothing was answered yet; ask something first")
    last, store = before[-1], Store.of(thing, studio.feedback)
    if last.route == "drawing":
        if right:
            raise ValueError("a picture has no right answer in words; leave the correction empty")
        rate_picture(session, store, picture_file(studio, last.picture), good)
    elif last.route == "rewrite":
        rate_rewrite(session, store, last.asked.removeprefix("/rewrite").strip(), last.said, good, right)
    else:
        image = picture_file(studio, last.picture) if last.picture else None
        rate_answer(session, store, last.asked, last.said, good, image)
        if right:
            rate_answer(session, store, last.asked, right, True, image)
    return last


def unknown_words(session: Session, text: str) -> list[str]:
    """Words that the model's tokenizer has to spell out: it never learned what they mean."""
    known = session.mention(text)
    found = []
    for word in re.findall(r"[^\W\d_]{3,}", re.sub(r"<[^<>\s]+>|/\w+", " ", known)):
        pieces = len(session.model.tokenizer(f" {word.lower()}", add_special_tokens=False)["input_ids"])
        if pieces >= PIECES * len(word) and word not in found:
            found.append(word)
    return found


@dataclass(frozen=True)
class Mine:
    """Whether a thing is in a picture."""

    thing: str
    found: Recognition


def is_it(session: Session, image: Path) -> Mine:
    """By words and by drawing. Without photos to learn from, by words alone."""
    shown = the_one_meant(session, [image])
    try:
        found = session.recognitions(shown, "both")[0]
    except ValueError:
        found = session.recognitions(shown, "words")[0]
    return Mine(session.concept.called, found)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
