"""Markdown pages whose lines have at most 120 columns."""

from __future__ import annotations

import textwrap

COLUMNS = 120
STARTS = ("|", "#", "!", "-", "*", "```")  # first letters of lines that are no prose


def fill_paragraphs(text: str) -> str:
    """The page with every paragraph of prose in lines of at most 120 columns.

    Tables, headings, pictures, lists and blocks of code stay as they are.
    """
    lines: list[str] = []
    paragraph: list[str] = []
    in_code = False
    for line in text.split("\n"):
        if line.startswith("```"):
            in_code = not in_code
        if line and not in_code and (paragraph or not line.startswith(STARTS)):
            paragraph.append(line)
            continue
        lines += [*_filled(paragraph), line]
        paragraph = []
    return "\n".join([*lines, *_filled(paragraph)])


def _filled(paragraph: list[str]) -> list[str]:
    return textwrap.wrap(" ".join(paragraph), COLUMNS, break_long_words=False, break_on_hyphens=False)
