"""Imports point one way, and the report needs no PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.imports import find_circle, import_graph, in_circles, module_name, modules_of

PACKAGE = Path(__file__).parents[1] / "sync_r1"
# A module may import from its own group and from the groups before it.
ORDER = [
    "threads",
    "console",
    "progress",
    "file_errors",
    "held_folders",
    "signals",
    "constants",
    "suggestions",
    "types",
    "files",
    "metrics_file",
    "config_fields",
    "config",
    "recipes",
    "distributed",
    "folder_lock",
    "data",
    "run_folder",
    "models",
    "scorers",
    "world",
    "scorer_networks",
    "scorer_factory",
    "drawings",
    "recognition",
    "asked_texts",
    "opening",
    "session",
    "training",
    "resuming",
    "rl",
    "sft",
    "costs",
    "unifybench",
    "report",
    "study",
    "doctor",
    "open_run",
    "experiment",
    "apps",
    "serve",
    "app",
    "commands",
    "cli",
    "__main__",
]
NEVER = {("unifybench", "rl"), ("unifybench", "sft"), ("sft", "rl")}
MODULES = modules_of(PACKAGE)


def group(module: str) -> str:
    """`sync_r1.models.showo.model` → `models`."""
    return module.split(".")[1]


def imported_groups(path: Path) -> Iterator[tuple[str, int]]:
    """Groups of the package that a module imports anywhere in its text, lazily or not, with the line."""
    name = module_name(path, PACKAGE)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            targets = [f"{source}.{alias.name}" for alias in node.names] if source == "sync_r1" else [source]
        else:
            continue
        yield from (
            (group(target), node.lineno)
            for target in targets
            if target.startswith("sync_r1.") and "__version__" not in target
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path, PACKAGE))
def test_imports_point_one_way(path: Path) -> None:
    own = group(module_name(path, PACKAGE))
    assert own in ORDER, f"{own} has no place in the import order; add it to ORDER in {Path(__file__).name}"
    for other, line in imported_groups(path):
        assert ORDER.index(other) <= ORDER.index(own), f"{path.name}:{line}: {own} must not import {other}"
        assert (own, other) not in NEVER, f"{path.name}:{line}: {own} must never import {other}"


def tree_of_the_architecture() -> list[str]:
    """Names of the first code block under the heading "The tree", in its order, without the line of the package."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```")[1]
    return [line.split()[0] for line in block.splitlines() if line.startswith("  ")]


def test_the_architecture_shows_the_tree_in_this_order() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    shown = [f"{name}/" if name in folders else name for name in ORDER if name != "__main__"]
    assert tree_of_the_architecture() == shown
    assert {module_name(path, PACKAGE).split(".")[1] for path in MODULES} == set(ORDER)


def test_no_modules_import_one_another_in_a_circle() -> None:
    circle = find_circle(import_graph(PACKAGE))
    assert not circle, f"these modules import one another: {' → '.join(circle)}"


def test_a_circle_would_be_found() -> None:
    circle = {"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}
    assert find_circle(circle) == ["b", "d", "b"] and in_circles(circle) == ["b", "d"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "statement", ["import sync_r1.report", "import sync_r1.cli", "import sync_r1.cli, sync_r1.report.before_after"]
)
def test_light_entry_points_load_no_torch(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0


def test_a_wrong_import_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "sync_r1" / "unifybench" / "score.py"
    wrong.parent.mkdir(parents=True)
    wrong.write_text(
        "def f():\n"
        "    from ..rl import loss\n"
        "    from sync_r1 import cli, __version__\n"
        "    import sync_r1.data.prompts\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "sync_r1")
    assert sorted(imported_groups(wrong)) == [("cli", 3), ("data", 4), ("rl", 2)]
