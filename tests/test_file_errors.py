"""What cannot be written is said in words: which file, why, and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sync_r1 import cli
from sync_r1.file_errors import in_words, writing
from sync_r1.files import write_text
from sync_r1.folder_lock import hold

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="errors as Unix words them")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def adding(photos: Path, data: str) -> list[str]:
    """The words of a command that adds a concept."""
    given = {"pictures": str(photos), "class": "dog", "info": "grey", "fact": "it has a bowl.", "data": data}
    return ["concept", "add", "momo", *(word for name, value in given.items() for word in (f"--{name}", value))]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("dangling", "dangling cannot be written: dangling is a link to nowhere, which does not exist; name another"),
        ("file", "file cannot be written: file is there already; name another place, or move away what is there"),
        ("/proc/d", "/proc/d cannot be written: /proc/d: No such file or directory; check the path"),
    ],
)
def test_a_place_that_cannot_be_a_folder(
    photos: Path, data: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if data.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("no /proc")
    monkeypatch.chdir(photos.parent)
    Path("dangling").symlink_to("nowhere")
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["sync-r1", *adding(photos, data)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and said in line and "Errno" not in line, line


def test_a_file_larger_than_the_limit_is_named(photos: Path, tmp_path: Path) -> None:
    words = adding(photos, str(tmp_path / "data"))
    command = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-m", "sync_r1.cli", *words]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "/0.png cannot be written: File too large; raise the limit for the size of a file" in done.stderr
    assert done.stderr.count("\n") == 1 and "Errno" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_what_the_package_says_of_an_error_stays_as_it_is(tmp_path: Path) -> None:
    ours = OSError(errno.ENOSPC, "metrics.jsonl was not written; free some space")
    assert in_words(ours) == "metrics.jsonl was not written; free some space"
    with pytest.raises(OSError) as again, writing("outer"):
        raise ours
    assert again.value is ours
    assert in_words(ValueError("two\nlines")) == "two lines" and in_words(OSError()) == "OSError"
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file is there already"):
        write_text(tmp_path / "file" / "below", "text")
    with pytest.raises(FileExistsError), hold(tmp_path / "file"):
        pass
