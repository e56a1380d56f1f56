"""Files that are whole or absent, and a folder's list of files with their hashes: written last, so a listed folder is
complete.

What is read may come from anywhere: a text file must be a file, of a bounded size, and every error names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import uuid
from pathlib import Path
from typing import Any

from sync_r1.file_errors import writing
from sync_r1.held_folders import check_held

MANIFEST = "manifest.json"
MAX_TEXT_MB = 64  # no text file of ours or of a published archive comes near
SKIPPED = {MANIFEST, "__pycache__", "__init__.py", ".DS_Store"}


def is_device_name(name: str) -> bool:
    """Whether Windows keeps the name for a device, with or without an ending, so that no file or folder can have it."""
    return re.fullmatch(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", name.strip(), re.IGNORECASE) is not None


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, and its folder where it is missing.

    It appears under its name only when complete; until then the old one stays. OSError says why it cannot be written.
    """
    check_held()
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # several processes may write the same file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` of UTF-8."""
    return write_bytes(path, text.encode())


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark.

    ValueError when there is none, it is something else, too long or not UTF-8.
    """
    path = Path(path)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError(f"{path}: must be a file, not a folder, pipe or device")
        if facts.st_size > MAX_TEXT_MB << 20:
            raise ValueError(f"{path}: {facts.st_size >> 20} MiB are too many; the limit is {MAX_TEXT_MB} MiB")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: cannot be read as UTF-8 text (byte {error.start} is {error.object[error.start]:#x}); save it as "
            "UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def write_json(path: Path, value: Any, indent: int = 2, *, finite: bool = False) -> Path:
    """Write `value` as JSON, whole or not at all; return the path.

    With `finite`, a number that is not finite raises ValueError instead of becoming NaN, which is no JSON.
    """
    return write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=not finite) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. ValueError as for `read_text`, and with line and column of a mistake."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not valid JSON: lists or objects are nested too deeply") from error
    except ValueError as error:  # whole numbers of thousands of digits
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when the file is missing, cut off or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(value, dict):
        return value
    return None


def sync_folder(folder: Path, deep: bool = True) -> None:
    """Wait until a folder's entries, and with `deep` all files and folders below, are on the disk: a power cut then
    takes nothing away."""
    paths = [*(path for path in Path(folder).rglob("*") if deep and not path.is_symlink()), Path(folder)]
    for path in paths:
        if path.is_dir() and os.name == "nt":
            continue  # Windows cannot open folders
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def write_manifest(folder: Path, **facts: Any) -> Path:
    """Write `<folder>/manifest.json`: bytes and SHA-256 of every file below, and whatever else (`facts`) belongs to
    them.

    The file appears under its name only when complete.
    """
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not SKIPPED.intersection(path.relative_to(folder).parts)
        and not path.name.endswith(".tmp")
    }
    return write_text(folder / MANIFEST, json.dumps({**facts, "files": files}, indent=1) + "\n")


def read_tensors(path: Path) -> dict[str, Any]:
    """Tensors of a .safetensors file by name. ValueError names a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch or write it again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. FileNotFoundError when there is none, ValueError when it is not one."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the folder is incomplete; write it again or fetch it again")
    try:
        manifest = read_json(path)
        files = manifest["files"]
        assert all(isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int) for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(
            f"{path} is not a manifest: it must be a JSON object with files → {{bytes, sha256}}"
        ) from error
    return dict(manifest)


def manifest_problems(folder: Path) -> list[str]:
    """What differs from the manifest, one line per file; empty when every file is there with the right content."""
    folder = Path(folder)
    problems = []
    for name, entry in read_manifest(folder)["files"].items():
        path = folder / name
        name = name.encode("utf-8", "backslashreplace").decode()  # half a character cannot be printed
        if os.path.isabs(name) or ".." in Path(name).parts:
            problems.append(f"{name!r:.80} lies outside the folder")
        elif not os.path.isfile(path):
            problems.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"]:
            problems.append(f"{name} has {path.stat().st_size} bytes, {entry['bytes']} expected")
        else:
            try:
                same = sha256(path) == entry["sha256"]
            except OSError as error:  # what a dying disk says
                problems.append(f"{name} cannot be read ({error.strerror})")
                continue
            if not same:
                problems.append(f"{name} has another content than when it was written (SHA-256 differs)")
    return problems
