"""Pages are filled to 120 columns, and say what they said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.study.markdown import fill_paragraphs

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("results*.md"))


def test_prose_is_filled_and_the_rest_stays() -> None:
    row = "| " + "cell " * 40 + "|"
    code = "```\n" + "word " * 40 + "\n```"
    prose = "- ".join(["word " * 10] * 6).strip()
    filled = fill_paragraphs("\n".join(["# Title", "", prose, "more of it", "", row, "", code, ""]))
    head, _, rest = filled.partition(row)
    assert max(map(len, head.splitlines())) <= 120
    assert head.split() == ["#", "Title", *prose.split(), "more", "of", "it"]
    assert rest == f"\n\n{code}\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_are_as_the_study_writes_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill_paragraphs(text) == text
