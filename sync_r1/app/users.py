"""Who may open a studio that other machines reach: names and scrypt hashes in a file that only its owner reads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from pathlib import Path

from sync_r1.files import read_json

NAME = re.compile(r"[a-zA-Z0-9._-]{1,40}")
SHORTEST = 10  # letters of a password
COST = {"n": 2**14, "r": 8, "p": 1}
LENGTH = 32


class Users:
    """The users of a file.

    Raises:
        ValueError: a file that is missing, that others may read, or that holds something else.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such file; make it with: sync-r1 studio --auth-file {path} --add-user NAME")
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(f"{path} can be read by others; close it with: chmod 600 {path}")
        self.hashes = _read(path)
        if not self.hashes:
            raise ValueError(f"{path} holds no user; add one with --add-user NAME")
        self._seen: set[bytes] = set()  # digests of headers that were right, as scrypt is slow on purpose
        self._salt = secrets.token_bytes(16)

    def knows(self, header: str) -> bool:
        """Whether an Authorization header holds the name and the password of a user."""
        digest = hashlib.blake2b(header.encode("utf-8", "replace"), key=self._salt).digest()
        if digest in self._seen:
            return True
        kind, _, given = header.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return False
        stored = self.hashes.get(name)
        known = _hash(password, bytes.fromhex(stored["salt"])) if stored else _hash(password, self._salt)
        if stored is None or not hmac.compare_digest(known, bytes.fromhex(stored["hash"])):
            return False
        self._seen.add(digest)
        return True


def add_user(path: Path, name: str, password: str) -> None:
    """Write a user into a file that only its owner reads. ValueError for a name or a password that is not allowed."""
    if not NAME.fullmatch(name):
        raise ValueError(f"the user name is {name!r}; use letters, digits, ., _ and -, at most 40")
    if len(password) < SHORTEST:
        raise ValueError(f"the password has {len(password)} letters; use at least {SHORTEST}")
    users = _read(path) if path.exists() else {}
    salt = secrets.token_bytes(16)
    users[name] = {"salt": salt.hex(), "hash": _hash(password, salt).hex()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(users, file, indent=1)
    os.chmod(partial, 0o600)
    os.replace(partial, path)


def _read(path: Path) -> dict[str, dict[str, str]]:
    users = read_json(path)
    try:
        return {
            str(name): {"salt": bytes.fromhex(one["salt"]).hex(), "hash": str(one["hash"])}
            for name, one in users.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of users; make one with --add-user NAME") from error


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=LENGTH, maxmem=64 << 20, **COST)
