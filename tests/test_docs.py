"""The documents are true: links lead somewhere, commands exist, figures are those of the files beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from typer.main import get_command

from sync_r1.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
DATA_READMES = [ROOT / "tests" / "data" / "parity" / "README.md"]
LOG_PARTS = ["Question", "Setting", "Numbers", "Conclusion"]
NUMBER = r"([+−-]?\d+(?:\.\d+)?)"
INTERVAL = re.compile(rf"{NUMBER}( %)? \[{NUMBER}, {NUMBER}\]")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def load(name: str) -> Any:
    return json.loads(read(DOCS / name))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(text: str, first: str) -> Iterator[list[str]]:
    """Cells of the table rows whose first cell matches `first`."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(first, cells[0]):
            yield cells


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_nothing_is_left_open(path: Path) -> None:
    text = read(path)
    assert not re.findall(r"<!--|(?<!\w)@[A-Z]{2,}\b|\bTODO\b|\bTBD\b", text)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            place = path.parent / name if name else path
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), f"{target}: no such heading"


@pytest.mark.parametrize("path", [*DOCUMENTS, *DATA_READMES], ids=lambda path: path.name)
def test_text_lines_have_at_most_120_columns(path: Path) -> None:
    for number, line in enumerate(read(path).splitlines(), 1):
        assert len(line) <= 120 or line.startswith("|"), f"{path.name}:{number} has {len(line)} columns"


def test_readme_fits_two_screens() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 95


def test_every_page_is_on_the_map() -> None:
    mapped = re.findall(r"^\| \[([a-z_]+\.md)\]\(\1\) \| \S", read(DOCS / "README.md"), re.MULTILINE)
    assert sorted(mapped) == sorted(path.name for path in DOCS.glob("*.md") if path.name != "README.md")


def test_every_data_file_is_named_by_a_page() -> None:
    pages = "".join(read(path) for path in DOCUMENTS)
    assert [path.name for path in DOCS.glob("*.json") if path.name not in pages] == []


def test_files_the_architecture_names_exist() -> None:
    text = read(DOCS / "architecture.md")
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text):
        assert (ROOT / name).is_file() or (ROOT / "sync_r1" / name).is_file(), name


def test_files_that_the_code_names_exist() -> None:
    """Docstrings and comments send a reader to modules that are there."""
    sources = [path for folder in ("sync_r1", "benchmarks", "tests", "tools") for path in (ROOT / folder).rglob("*.py")]
    names = {path.name for path in sources}
    for path in sources:
        if path.is_relative_to(ROOT / "sync_r1"):
            gone = set(re.findall(r"\b[a-z_]+\.py\b", read(path))) - names
            assert not gone, f"{path.relative_to(ROOT)} names {gone}"


def test_every_entry_of_the_log_has_its_four_parts() -> None:
    entries = re.split(r"^## ", read(DOCS / "log.md"), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        parts = re.findall(r"^\*\*([A-Z]\w+)\.\*\*", entry, re.MULTILINE)
        assert parts == LOG_PARTS, entry.splitlines()[0]


def commands(group: click.Command, name: str = "sync-r1") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, by its whole name."""
    for word, found in getattr(group, "commands", {}).items():
        if hasattr(found, "commands"):
            yield from commands(found, f"{name} {word}")
        else:
            yield f"{name} {word}", found


COMMANDS = dict(commands(get_command(app)))


def calls(text: str) -> Iterator[str]:
    """What documents call: `sync-r1 …` in code, one line each, without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for code in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        if code.startswith("sync-r1 "):
            yield re.split(r"\s#", code)[0].strip()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_the_documents_exist(path: Path) -> None:
    for call in calls(read(path)):
        words = call.split()
        if words[1].startswith("-") or call in {name.rpartition(" ")[0] for name in COMMANDS}:
            continue
        name = next((name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), None)
        assert name, f"no such command: {call}"
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        given = {word for word in words if re.fullmatch(r"--[a-z][a-z-]*", word)}
        assert given <= known | {"--help"}, f"{name} has no {given - known}"


def test_every_command_is_in_the_table_of_commands() -> None:
    rows = [row[0].strip("`") for row in table_rows(read(DOCS / "commands.md"), "`sync-r1 .+`")]
    assert sorted(rows) == sorted(COMMANDS)


def test_readme_shows_the_summary_of_the_demo() -> None:
    text, summary = read(ROOT / "README.md"), load("demo_summary.json")
    for part in ("understanding", "generation"):
        found = summary[part]
        low, high = found["ci95"]
        scores = [str(found["n"]), f"{found['before']:.3f}", f"{found['after']:.3f}", f"{found['delta']:+.3f}"]
        assert list(table_rows(text, part)) == [[part, *scores, f"[{low:+.3f}, {high:+.3f}]"]]
    minutes, gibibytes = summary["wall_time_s"] / 60, summary["peak_memory_mb"] / 1024
    assert f"{minutes:.1f} min after installation and {gibibytes:.1f} GiB" in text


def test_claims_show_the_seeds_of_the_demo() -> None:
    rows = list(table_rows(read(DOCS / "claims.md"), r"\d"))
    ends = [[run[part]["after"] for part in ("understanding", "generation")] for run in load("demo.json")["runs"]]
    assert rows == [[str(seed), *(f"{score:.3f}" for score in scores)] for seed, scores in enumerate(ends)]


def is_rounded(shown: tuple[str, ...], percent: bool, measure: Mapping[str, Any]) -> bool:
    """Whether a value and its interval are those of a measure, to the digits shown."""
    values = [measure["value"], *measure["ci95"]]
    for text, value in zip(shown, values):
        digits = len(text.partition(".")[2])
        scaled = value * 100 if percent else value
        if abs(float(text.replace("−", "-")) - scaled) > 0.5 * 10**-digits + 1e-9:
            return False
    return True


def check_figures(text: str, measures: list[Mapping[str, Any]]) -> int:
    """Fails where a value with an interval is none of the measures; how many there were."""
    found = list(INTERVAL.finditer(text))
    for match in found:
        value, percent, low, high = match.groups()
        known = any(is_rounded((value, low, high), bool(percent), measure) for measure in measures)
        assert known, f"not in the results: {match.group()}"
    return len(found)


@pytest.mark.parametrize(
    ("study", "name"),
    [
        (r"\*\*Sync-R1\*\*.*", "results"),
        (r"rewards alone \(.*", "results_rewards_alone"),
        (r"larger model \(.*", "results_larger"),
    ],
)
def test_claims_show_the_gains_of_the_three_studies(study: str, name: str) -> None:
    (row,) = table_rows(read(DOCS / "claims.md"), study)
    measures = next(claim for claim in load(f"{name}.json")["claims"] if claim["id"] == "both-halves")["measures"]
    for cell, measure in zip(row[1:], measures, strict=True):
        assert cell.startswith(f"{measure['other']:.3f} → {measure['arm']:.3f}, ")
        assert check_figures(cell, [measure]) == 1


def test_every_claim_has_its_verdict_and_its_figures() -> None:
    claims = {claim["id"]: claim for claim in load("results.json")["claims"]}
    rows = {row[0].strip("`"): row for row in table_rows(read(DOCS / "claims.md"), r"`[a-z-]+`") if row[0] != "`id`"}
    assert sorted(rows) == sorted(claims)
    for name, (_, _, verdict, figures) in rows.items():
        verdicts = [measure["holds"] for measure in claims[name]["measures"]]
        assert (verdict == "not measured") == (not verdicts), name
        if not verdicts:
            continue
        assert (verdict == "**holds**") == all(verdicts), name
        assert (verdict.endswith("only")) == (any(verdicts) and not all(verdicts)), name
        shown = check_figures(figures, claims[name]["measures"])
        assert shown or name in ("balance", "credit"), f"{name} shows no figure"


def test_what_the_numbers_leave_out_is_in_the_files() -> None:
    text, results = " ".join(read(DOCS / "claims.md").split()), load("results.json")
    arms, demo = results["arms"], load("demo_summary.json")["tasks"]["vqa"]
    scores = {name: arm["scores"] for name, arm in arms.items()}
    assert f"goes from {demo['before']:.3f} to {demo['after']:.3f} in the demo" in text
    assert f"from {scores['start']['vqa']:.3f} to {scores['joint']['vqa']:.3f} over the five concepts" in text
    assert scores["start"]["rec"] == scores["joint"]["rec"] and f"stays at {scores['joint']['rec']:.2f}" in text
    start = scores["start"]["understanding"]
    best = (4 + scores["start"]["rec"]) / 5
    assert f"the gain would be {best / start - 1:.0%}".replace("%", " %") in text
    plain = scores["plain"]["understanding"] / start - 1
    assert f"gains {100 * plain:+.1f} % in understanding" in text
