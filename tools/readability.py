"""How readable the package is, in counts, now and at a commit.

Run: python tools/readability.py --before 424525b
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tools.imports import import_graph, in_circles

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 120
MAX_LINES = 60
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What one reads from the entry point to the loss, at commit 424525b and now.
PATH_BEFORE = ("cli.py", "commands/run.py", "experiment.py", "rl/trainer.py", "rl/replay.py", "rl/loss.py")
PATH_NOW = ("cli.py", "commands/train.py", "experiment.py", "rl/trainer.py", "rl/replay.py", "rl/loss.py")
MERGES = {
    "ZeRO-1 by torch's ZeroRedundancyOptimizer, not by DeepSpeed's private fields": "bb3e7bb4",
    "requests to judges by the official openai client": "49e6ae6c",
    "throughput by torch.utils.benchmark, stems by nltk": "bb2a264e",
    "the doctor's list by importlib.metadata": "945d0e28",
    "which checkpoints a run has: run_folder.py": "40f8f9ae",
    "one predict and one score for benchmark and evaluation": "b90ef4f6",
    "one paired hierarchical bootstrap": "3f20a8c3",
    "who evaluates: scorer_factory.py": "10c01ec1",
}


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


def counts(package: Path, path_to_the_loss: Sequence[str]) -> dict[str, str]:
    """What the table shows of a package's folder.

    Args:
        path_to_the_loss: the files, within the package, that one reads from the entry point to the loss.
    """
    lines, trees = lines_of(package), list(parsed(package).values())
    files = len(trees)
    thousands = len(lines) / 1000
    wide = sum(len(line) > MAX_COLUMNS for line in lines)
    nested = sum(map(nested_comprehensions, trees))
    conditional = sum(map(conditional_expressions, trees))
    comments = sum(line.lstrip().startswith("#") for line in lines)
    texts = [(package / name).read_text(encoding="utf-8") for name in path_to_the_loss]
    read, words = sum(len(text.splitlines()) for text in texts), sum(len(text.split()) for text in texts)
    return {
        "files": str(files),
        "lines per file": f"{len(lines) / files:.0f}",
        f"functions over {MAX_LINES} lines": str(sum(len(list(long_functions(tree))) for tree in trees)),
        f"lines over {MAX_COLUMNS} characters": f"{100 * wide / len(lines):.1f} %",
        "nested comprehensions per 1,000 lines": f"{nested / thousands:.1f}",
        "conditional expressions per 1,000 lines": f"{conditional / thousands:.0f}",
        "full-line comments per 1,000 lines": f"{comments / thousands:.1f}",
        "modules that import one another in a circle": str(len(in_circles(import_graph(package)))),
        "from the entry point to the loss": f"{len(texts)} files, {read:,} lines, {words:,} words",
    }


def counts_at(commit: str) -> dict[str, str]:
    """The same of the package as it was at a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "sync_r1"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        return counts(Path(folder) / "sync_r1", PATH_BEFORE)


def table(before: dict[str, str], now: dict[str, str]) -> str:
    rows = ["| sync_r1/ | before | now |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {name} | {before[name]} | {now[name]} |" for name in now)])


def lines_changed(commit: str) -> tuple[int, int]:
    """Lines that a commit added to sync_r1/ and removed from it."""
    command = ["git", "show", "--numstat", "--format=", commit, "--", "sync_r1"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in shown.splitlines()]
    return sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows)


def table_of_merges() -> str:
    """What became of each of MERGES in lines."""
    rows = ["| one in the place of several, or a library in the place of our own code | commit | added | removed |"]
    rows.append("|---|---|---|---|")
    total = [0, 0]
    for name, commit in MERGES.items():
        added, removed = lines_changed(commit)
        total = [total[0] + added, total[1] + removed]
        rows.append(f"| {name} | {commit} | {added:,} | {removed:,} |")
    return "\n".join([*rows, f"| together | | {total[0]:,} | {total[1]:,} |"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="the commit to compare with, 424525b")
    print(
        table(counts_at(parser.parse_args().before), counts(ROOT / "sync_r1", PATH_NOW)), table_of_merges(), sep="\n\n"
    )
