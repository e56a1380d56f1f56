"""The page of a benchmark: the table of its columns, and every prompt with what each model made of it, failures
first."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from sync_r1.files import write_text
from sync_r1.report.run_page import TASKS, picture
from sync_r1.report.unifybench_files import Answer, BenchmarkModel, Key, tasks_of
from sync_r1.unifybench.results import ALL_COLUMNS

# the first of these that a task has decides what counts as a failure
MAIN_METRICS = ("recognition", "gpt", "judge", "bleu", "clip_t", "clip_i")
REWRITES = ("rea", "dense_rea", "rea_gen", "dense_rea_gen")  # texts whose difference to the reference is marked
METRICS = {
    "weight": "mean of both recalls",
    "recognition": "said what is true, yes or no",
    "bleu": "characters in common with the truth",
    "gpt": "the judge: an answer as a whole, a drawing clause by clause",
    "judge": "the judge, on the whole drawing",
    "clip_t": "CLIP: drawing and words",
    "clip_i": "CLIP: drawing and reference photo",
    "unasked": "things in the drawing that nothing named: a count, less is better",
}


NONE, GONE = -1, -2  # in place of a picture's number


class Pictures:
    """Every picture once, as the page refers to it: by number.

    `missing` are those that are not where a manifest says.
    """

    def __init__(self, page: Path, embed: bool) -> None:
        self.folder, self.embed = page.resolve().parent, embed
        self.sources: list[str] = []
        self.missing: list[Path] = []
        self._known: dict[Path, int] = {}

    def number(self, path: Path | None) -> int:
        """Its number, or NONE, or GONE for one that is not there or no picture."""
        if path is None:
            return NONE
        if path not in self._known:
            source = self._source(path)
            if source:
                self._known[path] = len(self.sources)
            else:
                self._known[path] = GONE
            self.sources += [source] if source else []
            self.missing += [] if source else [path]
        return self._known[path]

    def _source(self, path: Path) -> str:
        if self.embed:
            shown = picture(path)
            if shown:
                return str(shown["uri"])
            return ""
        if not path.is_file():
            return ""
        try:
            return quote(Path(os.path.relpath(path.resolve(), self.folder)).as_posix())
        except ValueError:  # another drive
            return path.resolve().as_uri()


def write_page(models: Sequence[BenchmarkModel], page: Path, pictures: str = "link") -> Path:
    """Write the page; the old one stays until the new one is complete.

    Args:
        pictures: "link" refers to the files where they are, relative to the page; "embed" puts them into it.
    Raises:
        ValueError: another value, or no model.
    """
    if pictures not in ("link", "embed"):
        raise ValueError(f"pictures is {pictures!r}; allowed are link and embed")
    if not models:
        raise ValueError("there is no model to show; name a folder of `sync-r1 bench run`")
    return write_text(page, render_page(models, page, embed=pictures == "embed"))


def render_page(models: Sequence[BenchmarkModel], page: Path, *, embed: bool = False) -> str:
    """The whole page as a string."""
    environment = Environment(
        loader=PackageLoader("sync_r1.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    sources = Pictures(page, embed)
    columns = []
    for name in ALL_COLUMNS:
        if any(name in model.columns for model in models):
            columns.append(name)
    cells = []
    for model in models:
        cells.append([_cell(model.columns.get(name)) for name in columns])
    content = {
        "models": [model.label for model in models],
        "concepts": sorted({key[1] for model in models for key in model.answers}),
        "tasks": [_task(name, models) for name in tasks_of(models)],
        "cells": cells,
        "items": _items(models, sources),
        "pictures": sources.sources,
    }
    return environment.get_template("unifybench.html.j2").render(
        models=models,
        columns=[(*name.split("."), METRICS.get(name.split(".")[1], "")) for name in columns],
        titles={name: row[1] for name, row in TASKS.items()},
        content=content,
        settings=settings(models),
        missing=[os.path.normpath(path) for path in sources.missing],
        data=for_script(content),
    )


def settings(models: Sequence[BenchmarkModel]) -> dict[str, list[str]]:
    """Protocol, judge and CLIP, each with its different values: more than one means that models cannot be compared."""
    found: dict[str, list[str]] = {}
    for name in ("protocol", "judge", "clip"):
        found[name] = list(dict.fromkeys(getattr(model, name) or "none" for model in models))
    return found


def for_script(value: Any) -> str:
    """JSON that can stand inside a <script> element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def main_metric(task: str, models: Sequence[BenchmarkModel]) -> str:
    """The metric by which a task's prompts are ordered; "" where nothing was scored."""
    measured = {
        name for model in models for key, answer in model.answers.items() if key[0] == task for name in answer.metrics
    }
    return next((name for name in MAIN_METRICS if name in measured), "")


def differences(truth: str, text: str) -> list[tuple[str, str]]:
    """The words of both in order: "=" in both, "+" in the text only, "-" in the truth only.

    Letter case and final periods do not count.
    """
    ours, theirs = re.findall(r"\S+", truth), re.findall(r"\S+", text)
    plain = []
    for words in (ours, theirs):
        plain.append([word.casefold().rstrip(".,") for word in words])
    parts: list[tuple[str, str]] = []
    for _, a, b, c, d in difflib.SequenceMatcher(None, plain[0], plain[1], autojunk=False).get_opcodes():
        if plain[0][a:b] == plain[1][c:d]:
            parts.append(("=", " ".join(theirs[c:d])))
        else:
            if b > a:
                parts += [("-", " ".join(ours[a:b]))]
            if d > c:
                parts += [("+", " ".join(theirs[c:d]))]
    return parts


def _task(name: str, models: Sequence[BenchmarkModel]) -> dict[str, Any]:
    family, title, about = TASKS[name]
    metric = main_metric(name, models)
    return {
        "name": name,
        "family": family,
        "title": title,
        "about": about,
        "metric": metric,
        "meaning": METRICS.get(metric, ""),
    }


def _cell(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None or row.get("mean") is None:
        return None
    keys = ("mean", "ci95", "n", "unscored", "complete", "per_concept")
    return {key: row.get(key) for key in keys}


def _items(models: Sequence[BenchmarkModel], sources: Pictures) -> list[dict[str, Any]]:
    """One entry per prompt, with the answer of every model or null."""
    keys: dict[Key, None] = dict.fromkeys(key for model in models for key in model.answers)
    metric = {task: main_metric(task, models) for task in tasks_of(models)}
    items = []
    for key in keys:
        answers = [model.answers.get(key) for model in models]
        first = next(answer for answer in answers if answer is not None)
        items.append(
            {
                "task": key[0],
                "concept": key[1],
                "id": key[2],
                "prompt": first.prompt,
                "truth": first.truth,
                "seen": sources.number(first.seen),
                "by": [
                    None if answer is None else _made(answer, key[0], metric[key[0]], sources) for answer in answers
                ],
            }
        )
    return items


def _made(answer: Answer, task: str, metric: str, sources: Pictures) -> dict[str, Any]:
    texts: dict[str, Any] = {"text": answer.text}
    if task in REWRITES and answer.text:
        texts = {"parts": differences(answer.reference, answer.text)}
    others = {name: round(value, 4) for name, value in answer.metrics.items()}
    return {
        "score": others.get(metric),
        "metrics": others,
        **texts,
        "drew": [sources.number(path) for path in answer.pictures],
    }
