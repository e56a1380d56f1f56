"""How the package speaks: streams that never fail on a character, and consoles that print text as it is."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

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
    """Let stdout and stderr take any text, closed ones too: called once, where a command starts.

    A sign that the terminal's encoding lacks becomes its ASCII form, any other character a JSON escape such as
    `\\u732b`. Bytes of file names that are no text in the terminal's encoding are written as they are. What goes to a
    stream that was closed before the command began (`>&-`) is lost without a word.
    """
    codecs.register_error(FALLBACK, _fallback)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)


def speaks() -> bool:
    """Whether this process of a launch is the one that prints, before it has met the others."""
    return os.environ.get("RANK", "0") == "0"


def _open_closed_streams() -> None:
    """Connect stdin, stdout and stderr to nothing where they are closed.

    Their numbers too: otherwise the next file that is opened would get the number, and what a library prints.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # until the process ends


def drop_broken_stdout() -> bool:
    """Whether what was printed cannot be written, as on a full disk or with a reader that has gone.

    What is still to be written is then dropped, so that Python does not complain of it once more when it ends.
    """
    try:
        sys.stdout.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        return True
    return False


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Within the block a warning that nothing else collects is one line `note: …`, without the place in the code."""

    def show(message: Warning | str, *_: Any) -> None:
        say(f"note: {' '.join(str(message).split())}", "yellow", err=True)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


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


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a rich table, by default on stdout: fitted to a terminal, at its natural width in a file.

    Its columns are as wide as what is printed, also where the encoding lacks a character and an escape takes its place.
    """
    console = console or open_console()
    table.columns = [
        replace(column, header=_as_written(column.header, console), _cells=[*_all_as_written(column.cells, console)])
        for column in table.columns
    ]
    console.print(table)


def _all_as_written(cells: Iterable[RenderableType], console: Console) -> Iterator[RenderableType]:
    for cell in cells:
        yield _as_written(cell, console)


def _as_written(cell: RenderableType, console: Console) -> RenderableType:
    """A text with the escapes that the console's stream will put in place of characters that its encoding lacks."""
    from rich.text import Text

    plain = cell.plain if isinstance(cell, Text) else cell
    encoding = getattr(console.file, "encoding", None)
    if not isinstance(plain, str) or encoding is None:
        return cell
    written = plain.encode(encoding, FALLBACK).decode(encoding, "surrogateescape")
    if written == plain:
        return cell
    return Text(written, cell.style) if isinstance(cell, Text) else written
