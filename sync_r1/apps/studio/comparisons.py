"""Comparisons in the studio: the same prompts and seeds from several weights, and a blind vote about them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.apps.compare import check_alike, scores, shared_facts
from sync_r1.apps.feedback import Store, rate_picture
from sync_r1.apps.studio.folder import StudioFolder, new_id, newest_first
from sync_r1.apps.studio.pictures import check_count
from sync_r1.apps.studio.thumbs import VERDICTS
from sync_r1.asked_texts import LONGEST_TEXT
from sync_r1.drawings import save_picture
from sync_r1.files import read_json, write_json
from sync_r1.session import Session

FILE = "comparison.json"
MOST_PROMPTS, MOST_SEEDS, MOST_WEIGHTS = 8, 4, 4
Use = Callable[[str, str, Callable[[Session], Any]], Any]  # thing, weights, work


@dataclass
class Comparison:
    """Rows are prompts with a seed, columns are weights."""

    id: str
    thing: str
    weights: list[str]
    labels: list[str]
    rows: list[tuple[str, int]]
    orders: list[list[int]]  # of every row, which column stands where in a blind vote
    votes: dict[str, str] = field(default_factory=dict)  # row → left, right, both or neither
    blind: bool = False
    drawn: int = 0  # columns that are finished

    def write(self, studio: StudioFolder) -> None:
        write_json(studio.below(studio.comparisons, self.id) / FILE, asdict(self))

    def picture(self, studio: StudioFolder, row: int, column: int) -> Path:
        """Where the picture of a cell lies."""
        return studio.below(studio.comparisons, self.id) / f"{row}_{column}.png"

    @property
    def open_row(self) -> int | None:
        """The first row of a blind comparison that waits for a vote."""
        if not self.blind or self.drawn < len(self.weights):
            return None
        return next((row for row in range(len(self.rows)) if str(row) not in self.votes), None)


def create(
    studio: StudioFolder, thing: str, weights: Sequence[str], prompts: str, seeds: float, blind: bool
) -> Comparison:
    """A comparison that is still to be drawn. ValueError for fewer than two weights, or too much of anything."""
    texts = [line.strip() for line in prompts.splitlines() if line.strip()]
    if not 2 <= len(weights) <= MOST_WEIGHTS:
        raise ValueError(f"{len(weights)} weights are chosen; choose 2 to {MOST_WEIGHTS}")
    if blind and len(weights) != 2:
        raise ValueError("a blind vote is between two; choose two weights")
    if not 1 <= len(texts) <= MOST_PROMPTS:
        raise ValueError(f"there are {len(texts)} prompts; write 1 to {MOST_PROMPTS}, one a line")
    if max(map(len, texts)) > LONGEST_TEXT:
        raise ValueError(f"a prompt has more than {LONGEST_TEXT} letters; shorten it")
    number, _ = check_count(seeds, 0)
    if number > MOST_SEEDS:
        raise ValueError(f"{number} seeds are too many; at most {MOST_SEEDS}")
    labels = [studio.find(thing, one).label for one in weights]
    rows = [(text, seed) for text in texts for seed in range(number)]
    shuffle = random.Random(len(rows))
    orders = [shuffle.sample(range(len(weights)), len(weights)) for _ in rows]
    made = Comparison(new_id(), thing, list(weights), labels, rows, orders, blind=blind)
    made.write(studio)
    return made


def read(studio: StudioFolder, name: str) -> Comparison:
    """A comparison by its id. ValueError for one that is not there."""
    stored = read_json(studio.below(studio.comparisons, name) / FILE)
    stored["rows"] = [(str(text), int(seed)) for text, seed in stored["rows"]]
    return Comparison(**stored)


def known(studio: StudioFolder, thing: str) -> list[Comparison]:
    """All comparisons of a thing, the newest first."""
    found = []
    for file in newest_first([path.parent for path in studio.comparisons.glob(f"*/{FILE}")]):
        try:
            one = read(studio, file.name)
        except (ValueError, TypeError, KeyError):
            continue
        if one.thing == thing:
            found.append(one)
    return found


def draw_column(studio: StudioFolder, made: Comparison, use: Use) -> None:
    """Draw what the next weights make of every row. ValueError where they differ in what must be the same."""
    column = made.drawn

    def work(session: Session) -> dict[str, Any]:
        for row, (prompt, seed) in enumerate(made.rows):
            save_picture(session.draw(prompt, 1, seed)[0], made.picture(studio, row, column))
        return shared_facts(session)

    facts = use(made.thing, made.weights[column], work)
    if column:
        first = use(made.thing, made.weights[0], shared_facts)
        check_alike(made.labels[0], first, made.labels[column], facts)
    made.drawn += 1
    made.write(studio)


def vote(studio: StudioFolder, made: Comparison, session: Session, verdict: str) -> int:
    """Keep a blind vote about the open row, and a thumb for each of its pictures. Returns the row."""
    row = made.open_row
    if row is None:
        raise ValueError("there is nothing to vote about")
    if verdict not in VERDICTS:
        raise ValueError(f"the verdict is {verdict!r}; it must be one of {', '.join(VERDICTS)}")
    store = Store.of(made.thing, studio.feedback)
    for column, good in zip(made.orders[row], VERDICTS[verdict], strict=True):
        rate_picture(session, store, made.picture(studio, row, column), good)
    made.votes[str(row)] = verdict
    made.write(studio)
    return row


def tally(made: Comparison) -> dict[str, int]:
    """How often each of the weights was liked in blind votes."""
    counts = dict.fromkeys(made.labels, 0)
    for row, verdict in made.votes.items():
        for column, good in zip(made.orders[int(row)], VERDICTS[verdict], strict=True):
            counts[made.labels[column]] += good
    return counts


def score_rows(studio: StudioFolder, made: Comparison) -> list[dict[str, Any]]:
    """Scores of the evaluations where every one of the weights is a run that has one; else nothing."""
    try:
        places = [studio.find(made.thing, one).place for one in made.weights]
        if any(place is None for place in places):
            return []
        return scores([place for place in places if place is not None])
    except ValueError:  # weights that are gone by now, or evaluations of different items
        return []
