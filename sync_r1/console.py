"""How the package speaks: streams that never fail on a character, and consoles that print text as it is."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# What our own messages use beyond ASCII, as a terminal without these signs gets it.
IN_ASCII = {
    "✓": "+",
    "·": "-",
    "✗": "x",
    "×": "x",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "ε": "epsilon",
    "β": "beta",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
FALLBACK = "sync_r1_fallback"  # the name of the error handler below
FILE_WIDTH = 10_000  # of tables in a file or pipe, where nothing is to be folded


def set_up_streams() -> None:
    """Let stdout and stderr take any text: called once, where a command starts.

    A sign that the terminal's encoding lacks becomes its ASCII form, any other character a JSON escape such as
    `\\u732b`. Bytes of file names that are no text in the terminal's encoding are written as they are.
    """
    codecs.register_error(FALLBACK, _fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)


def _fallback(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of `codecs`: what to write in place of the first character that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    after = error.start + 1
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), after  # a byte that Python could not decode, as `ls` prints it
    return IN_ASCII.get(character, json.dumps(character)[1:-1]), after


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A rich console for text that people wrote: brackets and colons are text, not markup, and no line is broken.

    A terminal breaks long lines by itself, so that a path can still be copied; tables fit its width.
    """
    from rich.console import Console

    in_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        quiet=quiet,
        width=None if in_terminal else FILE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )


def say(message: str, style: str = "", *, err: bool = False, console: Console | None = None) -> None:
    """Print a message as it is, whatever console it goes to: no markup, no line breaks of ours.

    Args:
        style: rich's word for how it looks in a terminal with colours, such as "yellow" or "bold".
        err: print on stderr. console: print there; by default on stdout.
    """
    from rich.text import Text

    (console or open_console(stderr=err)).print(Text(message, style), soft_wrap=True)


def say_json(value: Any) -> None:
    """Print JSON that is exact in every encoding: characters that stdout lacks are escaped by JSON's own rule."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    readable = codecs.lookup(encoding).name.startswith("utf")
    print(json.dumps(value, indent=2, ensure_ascii=not readable), flush=True)


def show_table(table: RenderableType) -> None:
    """Print a rich table on stdout: fitted to a terminal, at its natural width in a file."""
    open_console().print(table)
