"""benchmarks/serve.py: the table in docs/serve.md."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import benchmark


def test_the_table_is_put_behind_its_heading(tmp_path: Path) -> None:
    serve = benchmark("serve")
    rows = [{"clients": count, "per_second": 10.0 + count} for count in (1, 8)]
    found = {
        "speed": {kind: {"rows": rows, "ratio": 1.4} for kind in serve.KINDS},
        "passes": {kind: {"most_gain": 2.8} for kind in serve.KINDS},
    }
    page = tmp_path / "serve.md"
    page.write_text(f"before\n{serve.HEADING}\nafter\n", encoding="utf-8")
    for _ in range(2):
        serve.write_table(found, page)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and len(lines) == 10
    assert lines[5] == "| questions | 11.0 | 18.0 | 1.40 | 2.80 | 50% |"


def test_the_page_has_the_heading() -> None:
    serve = benchmark("serve")
    assert (serve.ROOT / "docs" / "serve.md").read_text(encoding="utf-8").count(serve.HEADING) == 1
