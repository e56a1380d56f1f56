"""Every example runs as a newcomer would run it, is short, writes its picture, and is shown by the documents."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in ("shared", "custom_reward"))
APPLICATIONS = (ROOT / "docs" / "applications.md").read_text(encoding="utf-8")
MOST_LINES = 40
PAGES = {"story": "story.html", "why": "why.html"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), "--out", str(tmp_path), "--seconds", "1"])
    runpy.run_path(str(path), run_name="__main__")
    with Image.open(tmp_path / f"{path.stem}.png") as picture:
        assert picture.width > picture.height > 100 or path.stem == "background_job"
    if path.stem in PAGES:
        assert "<img" in (tmp_path / PAGES[path.stem]).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_shown(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert f"](examples/{path.stem}.png)" in APPLICATIONS and f"`examples/{path.stem}.py`" in APPLICATIONS
    assert (ROOT / "docs" / "examples" / f"{path.stem}.png").stat().st_size < 100_000


def test_every_picture_has_its_example() -> None:
    pictures = {path.stem for path in (ROOT / "docs" / "examples").iterdir()}
    assert pictures == {path.stem for path in EXAMPLES}
