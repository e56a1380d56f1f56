"""Errors of the operating system in words: which file, what is wrong with it, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RIGHTS = "give yourself the right to it, or name another place"
_SPACE = "free some space, or name a place on another disk"
_PLACE = "name another place, or move away what is there"
ADVICE = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit for the size of a file (ulimit -f), or name a place on another disk",
    errno.EMFILE: "raise the limit for open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: _PLACE,
    errno.ELOOP: _PLACE,
    errno.ENOENT: "check the path",
    errno.EIO: "check the disk",
}


def in_words(error: Exception) -> str:
    """An error as one line for a user. What the package itself says stays as it is."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = str(error.strerror) if _is_ours(error) else _advised(error)  # without "[Errno 28]"
    return " ".join(text.split()) or type(error).__name__


def reason(error: Exception) -> str:
    """What went wrong with which file, without advice: for a message that says more."""
    if isinstance(error, OSError) and isinstance(error.__cause__, OSError):
        return reason(error.__cause__)
    if not isinstance(error, OSError) or error.errno is None or _is_ours(error):
        return str(error)
    if error.filename is None:
        return str(error.strerror)
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else str(error.filename)
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a link to {os.readlink(path)}, which does not exist"
    if error.errno == errno.EEXIST:
        return f"{path} is there already"
    return f"{path}: {error.strerror}"


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Around what writes `path`: an OSError says that this could not be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        if _is_ours(error):
            raise
        raise OSError(error.errno, f"{path} cannot be written: {_advised(error)}") from error


def _advised(error: OSError) -> str:
    advice = ADVICE.get(error.errno or 0)
    if advice is None:
        return reason(error)
    return f"{reason(error)}; {advice}"


def _is_ours(error: OSError) -> bool:
    """Whether the package wrote the message: the system's own are those of `os.strerror`."""
    if error.errno is None:
        return True
    return error.strerror is not None and error.strerror != os.strerror(error.errno)
