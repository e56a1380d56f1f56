"""How readable the package is, in counts, now and at a commit.

Run: python tools/readability.py --before 424525b
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 120
MAX_LINES = 60
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def parsed(folder: Path) -> dict[Path, ast.Module]:
    """Every Python file below a folder, parsed."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}


def long_functions(tree: ast.Module) -> Iterator[str]:
    """Functions of more than MAX_LINES lines, signature and all, decorators apart."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_LINES:
                yield f"{node.name} ({length} lines)"


def nested_comprehensions(tree: ast.Module) -> int:
    """Comprehensions that hold another one."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            count += any(isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node) if inner is not node)
    return count


def conditional_expressions(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.IfExp) for node in ast.walk(tree))


def lines_of(folder: Path) -> list[str]:
    """Lines of every Python file below a folder."""
    lines = []
    for path in sorted(folder.rglob("*.py")):
        lines += path.read_text(encoding="utf-8").splitlines()
    return lines


def counts(package: Path) -> dict[str, str]:
    """What the table shows of a package's folder."""
    lines, trees = lines_of(package), list(parsed(package).values())
    files = len(trees)
    thousands = len(lines) / 1000
    wide = sum(len(line) > MAX_COLUMNS for line in lines)
    nested = sum(map(nested_comprehensions, trees))
    conditional = sum(map(conditional_expressions, trees))
    comments = sum(line.lstrip().startswith("#") for line in lines)
    return {
        "files": str(files),
        "lines per file": f"{len(lines) / files:.0f}",
        f"functions over {MAX_LINES} lines": str(sum(len(list(long_functions(tree))) for tree in trees)),
        f"lines over {MAX_COLUMNS} characters": f"{100 * wide / len(lines):.1f} %",
        "nested comprehensions per 1,000 lines": f"{nested / thousands:.1f}",
        "conditional expressions per 1,000 lines": f"{conditional / thousands:.0f}",
        "full-line comments per 1,000 lines": f"{comments / thousands:.1f}",
    }


def counts_at(commit: str) -> dict[str, str]:
    """The same of the package as it was at a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "sync_r1"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        return counts(Path(folder) / "sync_r1")


def table(before: dict[str, str], now: dict[str, str]) -> str:
    rows = ["| sync_r1/ | before | now |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {name} | {before[name]} | {now[name]} |" for name in now)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="the commit to compare with")
    print(table(counts_at(parser.parse_args().before), counts(ROOT / "sync_r1")))
