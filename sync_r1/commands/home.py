"""Let every command take `~` for the home folder, also where the shell leaves it alone, as in `--data='~/mine'`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

TEXT_PATHS = {"data", "model", "run", "resume", "clip", "chat_cache", "region"}  # a folder, or a word such as "world"


def expand_home(app: typer.Typer) -> None:
    """Let every command of `app` take `~` in its paths."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _expanding(command.callback)


def _expanding(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(**given: Any) -> Any:
        return command(**{name: _expanded(name, value) for name, value in given.items()})

    return run


def _expanded(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(name, entry) for entry in value]
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    if isinstance(value, str) and name in TEXT_PATHS:
        return os.path.expanduser(value)
    return value
