"""Which modules of a package import which as soon as they are loaded, and whether they do so in a circle."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from pathlib import Path


def module_name(path: Path, package: Path) -> str:
    """`…/sync_r1/rl/loss.py` → `sync_r1.rl.loss`."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(package: Path) -> list[Path]:
    """Every file of a package but its first."""
    return sorted(path for path in package.rglob("*.py") if path != package / "__init__.py")


def imports_when_loaded(path: Path, known: Collection[str]) -> set[str]:
    """Those of the modules `known` that the module in `path` imports as soon as it is imported itself."""
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
    return found & set(known)


def import_graph(package: Path) -> dict[str, set[str]]:
    """Every module of a package → the modules that it imports when it is loaded."""
    names = {path: module_name(path, package) for path in modules_of(package)}
    return {name: imports_when_loaded(path, names.values()) for path, name in names.items()}


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


def in_circles(imports: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import themselves, by way of others."""
    found = []
    for name in sorted(imports):
        reached: set[str] = set()
        pending = list(imports[name])
        while pending:
            other = pending.pop()
            if other not in reached:
                reached.add(other)
                pending += imports.get(other, ())
        if name in reached:
            found.append(name)
    return found
