"""The code stays readable: short lines, short functions, few conditional expressions and nested comprehensions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.readability import (
    MAX_COLUMNS,
    MAX_LINES,
    conditional_expressions,
    lines_of,
    long_functions,
    nested_comprehensions,
    parsed,
)

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sync_r1"
FOLDERS = ("sync_r1", "tests", "benchmarks", "tools", "examples")
MAX_LINES_OF_A_FILE = 400
DATA = {"world/sprites.py"}  # tables, which may be longer
CONDITIONALS_PER_1000 = 12
NESTED_PER_1000 = 0.5
PRAGMA = re.compile(r" *# (type: ignore|noqa).*$")  # ruff does not count it either


def per_1000_lines(count: int) -> float:
    return 1000 * count / len(lines_of(PACKAGE))


def test_files_are_short() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES_OF_A_FILE and path.relative_to(PACKAGE).as_posix() not in DATA:
            found.append(f"{path.relative_to(ROOT)} ({lines} lines)")
    assert not found, f"files of more than {MAX_LINES_OF_A_FILE} lines; divide them: {found}"


def test_functions_fit_a_screen() -> None:
    found = []
    for path, tree in parsed(PACKAGE).items():
        found += [f"{path.relative_to(ROOT)}: {name}" for name in long_functions(tree)]
    assert not found, f"functions of more than {MAX_LINES} lines; divide them: {found}"


def test_comprehensions_are_rarely_nested() -> None:
    found = per_1000_lines(sum(map(nested_comprehensions, parsed(PACKAGE).values())))
    assert found < NESTED_PER_1000, "write the outer comprehension of one you added as a loop"


def test_conditional_expressions_are_few() -> None:
    found = per_1000_lines(sum(map(conditional_expressions, parsed(PACKAGE).values())))
    assert found < CONDITIONALS_PER_1000, "write one you added as an if"


@pytest.mark.parametrize("folder", FOLDERS)
def test_lines_fit_the_columns(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if len(PRAGMA.sub("", line)) > MAX_COLUMNS:
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found, f"lines of more than {MAX_COLUMNS} columns: {found}"


def test_what_is_too_long_or_too_dense_would_be_found() -> None:
    body = "\n".join(f"    x = {number}" for number in range(MAX_LINES))
    tree = ast.parse(f"def f():\n{body}\n\ny = [[a for a in b] if b else [] for b in ()]\n")
    assert list(long_functions(tree)) == [f"f ({MAX_LINES + 1} lines)"]
    assert nested_comprehensions(tree) == 1
    assert conditional_expressions(tree) == 1


def test_components_are_called_by_their_names() -> None:
    vague = re.compile(r"(\b|_)(no|some)body(\b|_)|\bstand-?ins?\b", re.IGNORECASE)
    found = []
    for path in sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if vague.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == [], "name the part of the program or the kind of person"
