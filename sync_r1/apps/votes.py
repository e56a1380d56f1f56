"""Blind votes between runs: which picture of a prompt is better, chosen without knowing whose it is, kept as thumbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_r1.apps.compare import Row, blind_orders
from sync_r1.apps.feedback import Store, rate_picture
from sync_r1.drawings import save_picture
from sync_r1.session import Session

ALL, NONE = "all", "none"


@dataclass(frozen=True)
class Ballot:
    """The pictures of one prompt and seed in an order that gives nothing away."""

    prompt: str
    seed: int
    pictures: list[Path]
    names: list[str]  # whose they are, in the same order


def write_ballots(names: Sequence[str], rows: Sequence[Row], folder: Path | str) -> list[Ballot]:
    """Write every picture as `<row>_<place>.png`, with its prompt and seed but without its run, in the order of a
    blind page."""
    ballots = []
    orders = blind_orders(len(rows), len(names))
    for number, (row, order) in enumerate(zip(rows, orders, strict=True), 1):
        pictures = []
        for place, run in enumerate(order, 1):
            image = row.images[run].copy()
            image.info = {key: row.images[run].info[key] for key in ("prompt", "seed", "concept")}
            pictures.append(save_picture(image, Path(folder) / f"{number}_{place}.png"))
        ballots.append(Ballot(row.prompt, row.seed, pictures, [names[run] for run in order]))
    return ballots


def vote(session: Session, store: Store, ballot: Ballot, choice: str) -> list[str]:
    """Keep a vote as thumbs: up for what was chosen, down for the others. Returns whose pictures were chosen.

    Args:
        choice: the place of the better picture ("1" is the left one), "all" or "none".
    Raises:
        ValueError: anything else, or what `apps.feedback.rate_picture` refuses.
    """
    count = len(ballot.pictures)
    places = {str(place): [place - 1] for place in range(1, count + 1)}
    choices = {**places, ALL: list(range(count)), NONE: []}
    if choice not in choices:
        raise ValueError(f"{choice!r} is no vote; write 1 to {count} for the better picture, {ALL} or {NONE}")
    for place, picture in enumerate(ballot.pictures):
        rate_picture(session, store, picture, place in choices[choice])
    return [ballot.names[place] for place in choices[choice]]
