"""What an error message about an unknown name suggests."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence


def did_you_mean(name: object, known: Collection[str], *, prefix: str = "", elsewhere: Sequence[str] = ()) -> str:
    """The end of an error message about an unknown name: the two nearest names, or all that there are.

    `did_you_mean("identitty", ["identity", "face"])` → "did you mean identity?"; nothing near → "there are identity,
    face".

    Args:
        prefix: stands before every known name, as a section does before its options.
        elsewhere: whole names that are right in another place; they are suggested instead of near ones.
    """
    near = list(elsewhere) or [prefix + match for match in _near(name, known, 2)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    listed = ", ".join(prefix + one for one in known)
    return f"there are {listed or 'none'}"


def nearest(name: object, known: Sequence[str]) -> str:
    """The nearest known name; the first one where none is near."""
    return next(iter(_near(name, known, 1)), known[0])


def _near(name: object, known: Collection[str], count: int) -> list[str]:
    return difflib.get_close_matches(str(name), list(known), n=count)
