"""A folder, or a repository of the Hugging Face hub: either way a local path."""

from __future__ import annotations

import re
from pathlib import Path

from sync_r1.models.weight_files import pick

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]  # configs, vocabularies, indices of shards


def fetch(source: str | Path, *, weights: bool = True) -> Path:
    """`source` itself if it exists, else a download of the hub repository of that name (or its copy in the hub's
    cache).

    Args:
        source: a path, or a hub id such as "showlab/magvitv2".
        weights: fetch weights as well; only one copy of them where a repository has several formats.
    Raises:
        ValueError: neither a path nor a hub id, or the download failed and nothing is cached.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not HUB_ID.fullmatch(str(source)):
        raise ValueError(f"{source}: no such file or folder; give a folder, or a hub id such as showlab/show-o-512x512")
    try:
        return _download(str(source), weights)
    except (
        Exception
    ) as error:  # the hub's client raises many unrelated kinds: network, authentication, unknown names, offline mode
        try:
            return _cached(str(source))
        except Exception:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise ValueError(
                f"{source} is no folder here and could not be fetched from the hub ({type(error).__name__}: {reason}); "
                "correct the path, or download it elsewhere and pass its folder in place of the id"
            ) from error


def _download(repository: str, weights: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    names = [file.rfilename for file in HfApi().model_info(repository).siblings or [] if "/" not in file.rfilename]
    return Path(snapshot_download(repository, allow_patterns=[*SMALL_FILES, *(pick(names) if weights else [])]))


def _cached(repository: str) -> Path:
    """What an earlier download left; the loader names what it misses there."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=SMALL_FILES, local_files_only=True))
