"""Ways to break a valid file: its values, its bytes, or what lies in its place.

All choices come from one `random.Random`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Random = random.Random

DEEP = 100_000
BOMB = zlib.compress(b"\0" * (80 << 20), 1)
NAMES = (
    "../../escaped", "/etc/passwd", "..", ".", "", " ", "a/b", "a\\b", "..\\..\\x", "zed\0", "CON", "-rf", "~root",
    "$HOME", "%2e%2e/x", "a" * 300, "a/" * 3000, "\u202egnp.exe", "\ud800", "é" * 200, "concept/../../../escaped.png",
    "unictokens_data/../../escaped.png", "random_images/../../../etc/passwd", "file:///etc/passwd", "black_512x512.png",
    "<zed>", "token_0", "\n", "x\r\ny",
)  # fmt: skip


def hostile_value(r: Random) -> Any:
    """Anything that JSON can hold and that no reader expects."""
    plain = (
        None, True, False, 0, -1, 1, 2.5, -0.0, 1e308, 10**30, 10**400, -(10**400), 2**63, 2**31, float("nan"),
        float("inf"), float("-inf"), "0", "1e999", "nan", "NaN", "null", [], {}, [[]], [None], {"": None},
        {"a": {"b": {"c": []}}}, [1, "a", None], "x" * 50_000, "\0", "\x1b[31m", "💥" * 40, "e\u0301" * 400,
        "'\"`{}[]<>%s{0}{name}", [{}] * 300, ["a"] * 3000,
    )  # fmt: skip
    chosen = r.randrange(len(plain) + 10)
    return plain[chosen] if chosen < len(plain) else r.choice(NAMES)


def nodes(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value of a tree of lists and dicts, the tree itself first."""
    found = [path]
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(steps)[:40]:
        found += nodes(value, (*path, key))
    return found


def mutate_tree(r: Random, data: Any) -> Any:
    """The tree with one value replaced, removed, doubled, wrapped, moved or renamed. Changes `data` in place."""
    *parents, last = r.choice([path for path in nodes(data) if path] or [(None,)])
    if last is None:
        return hostile_value(r)
    holder = data
    for step in parents:
        holder = holder[step]
    action = r.randrange(10)
    if action < 5:
        holder[last] = hostile_value(r)
    elif action == 5:
        del holder[last]
    elif action == 6:
        holder[last] = [holder[last]] * r.choice((1, 2, 500))
    elif action == 7:
        holder[last] = {str(last): holder[last]}
    elif action == 8 and isinstance(holder, dict):
        holder[r.choice(NAMES)] = holder.pop(last)
    elif isinstance(holder[last], str):
        text, at = holder[last], r.randrange(len(holder[last]) + 1)
        holder[last] = (
            text[:at]
            + r.choice(("\0", "../", "/", "\ud83d", "}", '"', "\u2028", "é" * 9, ""))
            + text[at + r.randrange(3) :]
        )
    elif isinstance(holder[last], (int, float)):
        holder[last] = r.choice(
            (holder[last] + 1, -holder[last], holder[last] * 10**18, str(holder[last]), float(holder[last]) + 0.5)
        )
    else:
        holder[last] = list(holder[last] or ())
    return data


def to_json(data: Any) -> bytes:
    return json.dumps(data).encode()


def mutate_bytes(r: Random, content: bytes) -> bytes:
    """Cut, flipped, filled, repeated, or with something put in."""
    at = r.randrange(len(content) + 1)
    action = r.randrange(9)
    if action == 0:
        return content[:at]
    if action == 1:
        return bytes(
            byte ^ (1 << r.randrange(8)) if i in {at, at // 2, at // 3} else byte for i, byte in enumerate(content)
        )
    if action == 2:
        inserted = (
            b"\xff\xfe",
            b"\0" * 8,
            b"[" * DEEP,
            b'{"a":' * DEEP,
            b"9" * 5000,
            b"\xc3\x28",
            b"NaN",
            b"\xed\xa0\x80",
            b"-",
            b",,",
        )
        return content[:at] + r.choice(inserted) + content[at:]
    if action == 3:
        return r.choice(
            (
                b"",
                b"\xef\xbb\xbf" + content,
                content.decode("utf-8", "replace").encode("utf-16"),
                b"\0" * len(content),
                b" ",
            )
        )
    if action == 4:
        return content[:at] + bytes(r.randrange(256) for _ in range(r.randrange(1, 40))) + content[at:]
    if action == 5:
        return content + content
    if action == 6:
        return content[at:]
    if action == 7:
        return r.choice(
            (
                b"[" * DEEP,
                b'{"a":' * DEEP,
                b"[" * DEEP + b"]" * DEEP,
                b"1" * 5000,
                b"null",
                b'"text"',
                b"<html>no</html>",
            )
        )
    return content[: at // 2] + content[at:]


def mutate_json_file(r: Random, path: Path) -> None:
    """Its values, or its bytes."""
    content = path.read_bytes()
    try:
        tree = json.loads(content) if r.random() < 0.7 else None
    except (ValueError, RecursionError):  # broken before
        tree = None
    path.write_bytes(mutate_bytes(r, content) if tree is None else to_json(mutate_tree(r, tree)))


def displace(r: Random, path: Path, outside: Path) -> None:
    """Something that is no such file in its place: nothing, a folder, a link to elsewhere, itself or a device, a pipe,
    a vast hole."""
    action = r.randrange(11)
    content = path.read_bytes()
    path.unlink()
    if action == 1:
        path.mkdir()
    elif action == 2:
        path.mkdir()
        (path / path.name).write_bytes(content)
    elif action == 3:
        path.symlink_to(outside / "secret.txt")
    elif action == 4:
        path.symlink_to(path)
    elif action == 5:
        path.symlink_to(outside / "absent")
    elif action == 6:
        path.symlink_to("/dev/zero")
    elif action == 7:
        os.mkfifo(path)
    elif action == 8:
        path.write_bytes(content)
        os.truncate(path, 1 << 40)
    elif action == 9:
        path.symlink_to(outside)
    elif action == 10:
        path.touch()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def mutate_picture(r: Random, path: Path) -> None:
    """Its bytes; or a PNG with lies in its header, too much in its text, or chunks that do not belong there."""
    content = path.read_bytes()
    action = r.randrange(8)
    if action < 3 or not content.startswith(b"\x89PNG"):
        path.write_bytes(mutate_bytes(r, content))
        return
    size = r.choice(
        (
            (0, 0),
            (1, 1),
            (15, 17),
            (50_000, 1000),
            (2**31 - 1, 2**31 - 1),
            (2**32 - 1, 1),
            (16, 3_000_000),
            (7000, 7000),
        )
    )
    inserted = {
        3: chunk(b"zTXt", b"a\0\0" + BOMB) + chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
        4: chunk(b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 2000)) + chunk(b"eXIf", r.randbytes(40)),
        5: chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", bytes(26)),
        6: chunk(b"pHYs", b"") + chunk(b"PLTE", b"ab") + chunk(b"tRNS", b"") + chunk(b"gAMA", b"1"),
    }.get(action)
    if inserted is not None:
        path.write_bytes(content[:33] + inserted + content[33:])
    else:
        header = struct.pack(">II", *size) + bytes(
            (r.choice((1, 2, 8, 16, 99)), r.choice((0, 2, 3, 4, 6, 7)), 0, 0, r.choice((0, 1)))
        )
        path.write_bytes(content[:8] + chunk(b"IHDR", header) + content[33:])


def mutate_safetensors(r: Random, path: Path) -> None:
    """Entries of its header, the header's length, or its numbers."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    entry = header[r.choice(names)]
    action = r.randrange(11)
    if action == 0:
        entry["dtype"] = r.choice(
            ("F64", "F16", "BF16", "I64", "I32", "BOOL", "U8", "C64", "F8_E4M3", "F4", "X", "", 3, None)
        )
    elif action == 1:
        entry["shape"] = r.choice(
            ([], [-1], [2**63], [2**40, 2**40], [0], ["1"], [1.5], None, entry["shape"][::-1], [1, *entry["shape"]])
        )
    elif action == 2:
        start, end = entry["data_offsets"]
        entry["data_offsets"] = r.choice(
            ([end, start], [start, end + 1], [start, 2**63], [-1, end], [0, len(body)], [start], None, [0, 0])
        )
    elif action == 3:
        name = r.choice(names)
        header[r.choice((*NAMES, "__metadata__", names[0]))] = header.pop(name)
    elif action == 4:
        header["__metadata__"] = mutate_tree(r, {"format": "pt", **header.get("__metadata__", {})})
    elif action == 5:
        start, end = entry["data_offsets"]
        body[start:end] = (struct.pack("<f", r.choice((float("nan"), float("inf"), -float("inf")))) * (end - start))[
            : end - start
        ]
    elif action == 6:
        mutate_tree(r, header)
    packed = to_json(header)
    said = len(packed)
    if action == 7:
        said = r.choice((0, 1, said - 1, said + 1, 2**31, 2**63, 2**64 - 1, 100_000_001))
    elif action == 8:
        packed = mutate_bytes(r, packed)
        said = len(packed)
    elif action == 9:
        body = body[: r.randrange(len(body))]
    elif action == 10:
        body += r.randbytes(7)
    path.write_bytes(struct.pack("<Q", said) + packed + bytes(body))


def fresh_copy(base: Path, target: Path) -> Path:
    """`base` again, whatever was done to the last copy."""
    for leftover in (target,):
        if leftover.is_symlink() or leftover.is_file():
            leftover.unlink()
        elif leftover.is_dir():
            shutil.rmtree(leftover)
    shutil.copytree(base, target)
    return target


def files_of(folder: Path, *suffixes: str) -> Sequence[Path]:
    """Ordinary files of some kinds below a folder, without those that only claim to be large."""
    found = (path for path in folder.rglob("*") if path.suffix in suffixes and not path.is_symlink() and path.is_file())
    return sorted(path for path in found if path.stat().st_size < 1 << 28)
