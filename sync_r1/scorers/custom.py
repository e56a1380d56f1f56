"""Reward functions of your own: a dotted path becomes a function, checked before anything runs."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any, cast

from sync_r1.scorers.base import RewardFunction

# Keyword arguments of every call: prompt, written text and composed drawing prompt; pictures uint8 [B, 3, H, W] or None
# for text rewards; the Concept; "reason", "look" or "recognize"; the true rewrite or answer.
COLUMNS = ("prompts", "completions", "drawing_prompts", "images", "concept", "kind", "answer")


def load_function(path: str) -> RewardFunction:
    """The function at a dotted path like `my_rewards.sharpness`; modules in the current directory are found.

    Raises:
        ValueError: the module cannot be imported (its own error is named), has no such function, or the function lacks
            `**columns`.
    """
    module, _, name = path.rpartition(".")
    function = getattr(_import(module, path), name, None)
    if function is None:
        raise ValueError(
            f"reward function {path!r}: module {module!r} has no {name!r}; name a function that it defines"
        )
    if not callable(function):
        raise ValueError(f"{path!r} is a {type(function).__name__}; a reward must be callable")
    _check_signature(function, path)
    return cast(RewardFunction, function)


def _import(module: str, path: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # last, so that a file named like a library does not hide it
    try:
        return importlib.import_module(module)
    except Exception as error:  # it is the user's file, so anything can be wrong with it
        reason = f"{type(error).__name__}: {error}"
        fix = f"write module.function; modules are looked for in {here} and among installed packages"
        raise ValueError(f"reward function {path!r} cannot be imported ({reason}); {fix}") from error


def _check_signature(function: Any, path: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some compiled functions do not tell
        return
    try:
        signature.bind(**dict.fromkeys(COLUMNS))
    except TypeError as error:
        given = ", ".join(COLUMNS)
        raise ValueError(
            f"reward function {path!r} has the signature {signature} ({error}); it is called with the keywords "
            f"{given}: take those you need and end with **columns"
        ) from error
