"""The section of docs/applications.md that shows docs/applications.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from sync_r1.files import read_text, write_text

HEADING = "## What is claimed, and what holds"
VERDICTS = {True: "holds", False: "**does not hold**", None: "too few cells yet"}
INTRODUCTION = """
Written by `python benchmarks/applications.py` from [applications.json](applications.json), which it computes from
[studies/applications.yaml](../studies/applications.yaml): every claim on {concepts} with seeds {seeds}, one training
each (recipe {recipes}). Pictures are read by the evaluator, which no reward uses. Values are means; the 95 % intervals
draw concepts and their cases anew. Fewer than three cells (concept and seed) decide nothing.
""".strip()


def section(result: Mapping[str, Any]) -> str:
    """The section's text, from its heading to its last line."""
    setting = result["setting"]
    words = {name: ", ".join(map(str, setting[name])) for name in ("concepts", "seeds", "recipes")}
    text = INTRODUCTION.format(**words)
    if setting["most"]:
        text += f" A pilot, with other counts than declared: {', '.join(setting['most'])}."
    introduction = fill(text, 120, break_long_words=False, break_on_hyphens=False)
    lines = [HEADING, "", introduction, ""]
    lines += ["| | claim | measure | goal | value | 95 % interval | n | cells | verdict |", "|---" * 9 + "|"]
    for claim in result["claims"]:
        head = f"{claim['id']} | {claim['statement']}"
        for row in claim["measures"]:
            lines.append(f"| {head} | {row['measure']} | {row['goal']} | {_figures(row)} | {_verdict(row)} |")
            head = " | "
    if not result["seconds"]:
        return "\n".join(lines) + "\n"
    lines += ["", f"Seconds that a person waits ({setting['device']}, whose load was {setting['load']}):", ""]
    lines += ["| what | median | shortest to longest | n |", "|---|---|---|---|"]
    for what, row in result["seconds"].items():
        shortest, longest = row["range"]
        lines.append(f"| {what} | {row['median']:.2f} | {shortest:.2f} to {longest:.2f} | {row['n']} |")
    return "\n".join(lines) + "\n"


def _figures(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return f"not measured | | 0 | {row['cells']}"
    low, high = row["ci95"]
    return f"{row['value']:.3f} | [{low:.3f}, {high:.3f}] | {row['n']} | {row['cells']}"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["goal"] == "shown":
        return ""
    return VERDICTS[row["holds"]]


def write_section(page: Path, result: Mapping[str, Any]) -> None:
    """Put the section into a page, in place of the one that is there, else at its end."""
    text, new = read_text(page), section(result)
    old = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if old.search(text):
        write_text(page, old.sub(lambda _: f"{new}\n", text).rstrip("\n") + "\n")
    else:
        write_text(page, f"{text.rstrip()}\n\n{new}")
