"""Imports point one way, and the report needs no PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sync_r1"
# A module may import from its own group and from the groups before it.
ORDER = [
    "threads",
    "console",
    "progress",
    "file_errors",
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
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def group(module: str) -> str:
    """`sync_r1.models.showo.model` → `models`."""
    return module.split(".")[1]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_groups(path: Path) -> Iterator[tuple[str, int]]:
    """Groups of the package that a module imports anywhere in its text, lazily or not, with the line."""
    name = module_name(path)
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path))
def test_imports_point_one_way(path: Path) -> None:
    own = group(module_name(path))
    assert own in ORDER, f"{own} has no place in the import order; add it to ORDER in {Path(__file__).name}"
    for other, line in imported_groups(path):
        assert ORDER.index(other) <= ORDER.index(own), f"{path.name}:{line}: {own} must not import {other}"
        assert (own, other) not in NEVER, f"{path.name}:{line}: {own} must never import {other}"


def imports_when_loaded(path: Path) -> set[str]:
    """Modules of the package that a module imports as soon as it is imported itself."""
    known = {module_name(other) for other in MODULES}
    found: set[str] = set()
    pending: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module or "")
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found & known


def tree_of_the_architecture() -> list[str]:
    """Names of the first code block under the heading "The tree", in its order, without the line of the package."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```")[1]
    return [line.split()[0] for line in block.splitlines() if line.startswith("  ")]


def test_the_architecture_shows_the_tree_in_this_order() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    shown = [f"{name}/" if name in folders else name for name in ORDER if name != "__main__"]
    assert tree_of_the_architecture() == shown
    assert {module_name(path).split(".")[1] for path in MODULES} == set(ORDER)


def find_circle(imports: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import one another in a circle, the first one again at the end; [] without a circle."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(imports.get(name, ())):
            if circle := visit(other, [*trail, name]):
                return circle
        done.add(name)
        return []

    for name in sorted(imports):
        if circle := visit(name, []):
            return circle
    return []


def test_no_modules_import_one_another_in_a_circle() -> None:
    circle = find_circle({module_name(path): imports_when_loaded(path) for path in MODULES})
    assert not circle, f"these modules import one another: {' → '.join(circle)}"


def test_a_circle_would_be_found() -> None:
    assert find_circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
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
