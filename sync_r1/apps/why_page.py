"""One page that says why a picture or a text came out as it did, and how far each of its maps can be trusted."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from sync_r1.apps.check import Check, check
from sync_r1.apps.why import Credit, fact_credit
from sync_r1.apps.why_picture import (
    TokenCredit,
    WordCredit,
    drawn_at,
    film_strip,
    sureness,
    token_credit,
    word_credit,
)
from sync_r1.drawings import Drawing
from sync_r1.files import write_text
from sync_r1.report.run_files import read_trajectories
from sync_r1.report.run_page import finite
from sync_r1.session import Session

SIDE = 192  # px of a map on the page
STRIP_SIDE = 96


@dataclass(frozen=True)
class Explanation:
    """Everything that the page shows. A picture's parts are empty where nothing was drawn."""

    prompt: str
    rewrite: str = ""
    facts: list[Credit] = field(default_factory=list)  # of the rewrite
    drawing: Drawing | None = None
    strip: list[Image.Image] = field(default_factory=list)
    words: list[WordCredit] = field(default_factory=list)
    tokens: list[TokenCredit] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)  # what the model reads in its own picture
    rewards: list[dict[str, Any]] = field(default_factory=list)  # completions of one training prompt
    notes: list[str] = field(default_factory=list)  # parts that are missing, and why


def explain(
    session: Session, prompt: str, seed: int = 0, rewrite: bool = False, trajectories: Path | None = None
) -> Explanation:
    """Draw a prompt and take apart what led to the picture.

    Args:
        rewrite: spell the prompt out first, with the credit of every private fact.
        trajectories: a run's folder of them; its last drawn step shows what the rewards gave.
    Raises:
        ValueError: an empty prompt, or a rewrite without facts.
    """
    text, written, notes = session.mention(prompt.strip()), "", []
    facts: list[Credit] = []
    if rewrite:
        written = session.rewrite(text)
        facts = fact_credit(session, text, written) if written.strip() else []
    drawing = session.draw_traced(session.drawn_text(text, written) if written else text, seed=seed)[0]
    try:
        words = word_credit(session, drawing)
    except ValueError as error:
        words = []
        notes.append(f"words: {error}")
    try:
        checks = check(session, drawing, drawing.prompt)
    except ValueError as error:
        checks = []
        notes.append(f"self-check: {error}")
    strip = film_strip(session, drawing.trace)
    if len(strip) == 1:
        notes.append("film strip: this family draws in one order and shows nothing before the end")
    rewards = completion_rewards(trajectories, notes) if trajectories is not None else []
    return Explanation(
        prompt=text,
        rewrite=written,
        facts=facts,
        drawing=drawing,
        strip=strip,
        words=words,
        tokens=token_credit(session, drawing),
        checks=checks,
        rewards=rewards,
        notes=notes,
    )


def completion_rewards(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The kept completions of the last saved step's first prompt: every reward, and the advantages that followed."""
    problems: list[str] = []
    rows = [row for row in read_trajectories(folder, problems) if row["kept"]]
    notes += [f"rewards: {problem}" for problem in problems]
    if not rows:
        notes.append(f"rewards: {folder} holds no trajectories; run.log_completions=true writes them")
        return []
    last = max(row["step"] for row in rows)
    return [row for row in rows if row["step"] == last and row["prompt_index"] == 0]


def write_why(explanation: Explanation, session: Session, path: Path) -> Path:
    """The page as one HTML file that loads nothing from elsewhere."""
    return write_text(path, render_why(explanation, session))


def render_why(explanation: Explanation, session: Session) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("sync_r1.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    drawing, shown = explanation.drawing, session.concept.shown
    maps = word_maps(explanation, shown) if drawing is not None else []
    return environment.get_template("why.html.j2").render(
        prompt=shown(explanation.prompt),
        rewrite=shown(explanation.rewrite),
        drawn=shown(drawing.prompt) if drawing else "",
        seed=drawing.seed if drawing else None,
        facts=[_bar(one.fact, one.nats, explanation.facts) for one in explanation.facts],
        tokens=[_bar(one.token, one.nats, explanation.tokens) for one in explanation.tokens],
        picture=_uri(drawing.image, SIDE) if drawing else "",
        strip=[_uri(image, STRIP_SIDE) for image in explanation.strip],
        maps=maps,
        order=order_map(drawing) if drawing else None,
        sure=sure_map(drawing) if drawing else None,
        checks=explanation.checks,
        rewards=reward_table(explanation.rewards),
        notes=explanation.notes,
        run=session.run,
    )


def _bar(name: str, nats: float, among: Sequence[Credit] | Sequence[TokenCredit]) -> dict[str, Any]:
    most = max(abs(one.nats) for one in among) or 1.0
    return {"name": name, "nats": round(nats, 2) + 0.0, "width": round(100 * abs(nats) / most)}


def word_maps(explanation: Explanation, shown: Any) -> list[dict[str, Any]]:
    """One heat map per word, all on one scale."""
    assert explanation.drawing is not None
    most = max((float(one.cells.max()) for one in explanation.words), default=0.0)
    return [
        {
            "words": shown(one.words),
            "total": round(one.total, 1),
            "uri": _uri(overlay(explanation.drawing.image, one.cells, most), SIDE),
            "alt": f"Credit of “{shown(one.words)}”: {one.total:+.1f} nats in all. {place_of(one.cells)}",
        }
        for one in explanation.words
    ]


def sure_map(drawing: Drawing) -> dict[str, str]:
    logps = sureness(drawing)
    doubt = -logps
    return {
        "uri": _uri(overlay(drawing.image, doubt, float(doubt.max())), SIDE),
        "alt": f"How unsure each cell was: {doubt.mean():.2f} nats on average. {place_of(doubt, 'Least sure')}",
    }


def order_map(drawing: Drawing) -> dict[str, str]:
    steps = drawn_at(drawing)
    late = steps.astype(np.float32) + 1
    counts = ", ".join(str(int((steps == step).sum())) for step in range(drawing.trace.timesteps))
    return {
        "uri": _uri(overlay(drawing.image, late, float(late.max())), SIDE),
        "alt": f"When each cell was drawn, the last ones brightest. Cells per step: {counts}.",
    }


def overlay(image: Image.Image, cells: np.ndarray, most: float) -> Image.Image:
    """The picture, dark where `cells` [N] is 0 or less and bright where it is `most`."""
    grid = math.isqrt(len(cells))
    light = (cells.clip(min=0) / max(most, 1e-9)).clip(max=1).reshape(grid, grid)
    mask = Image.fromarray((255 * light).astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    bright = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, (255, 196, 0)), 0.25)
    dark = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, (15, 18, 28)), 0.82)
    return Image.composite(bright, dark, mask)


def place_of(cells: np.ndarray, what: str = "Strongest") -> str:
    """In words, where a map is brightest."""
    grid = math.isqrt(len(cells))
    row, column = divmod(int(cells.argmax()), grid)
    height = ("top", "middle", "bottom")[min(3 * row // grid, 2)]
    width = ("left", "middle", "right")[min(3 * column // grid, 2)]
    place = height if height == width else f"{height} {width}"
    return f"{what} in the {place}, row {row + 1}, column {column + 1} of {grid}."


def reward_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not rows:
        return None
    names = sorted(key for key in rows[0] if key.startswith("rewards/") and any(row[key] is not None for row in rows))
    columns = [*names, "text_advantage", "image_advantage"]
    table = []
    for row in rows:
        figures = [finite(row[name]) for name in columns]
        table.append({"text": row["completion"], "figures": figures})
    means = []
    for name in columns:
        known = [value for row in rows if (value := finite(row[name])) is not None]
        means.append(sum(known) / len(known) if known else None)
    titles = [name.removeprefix("rewards/").replace("_", " ") for name in columns]
    return {"prompt": rows[0]["prompt"], "step": rows[0]["step"], "titles": titles, "rows": table, "means": means}


def _uri(image: Image.Image, side: int) -> str:
    """The picture as a data URI; small ones are enlarged in whole pixels."""
    picture = image.convert("RGB")
    if picture.width < side:
        scale = max(side // picture.width, 1)
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
