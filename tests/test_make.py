"""`make setup`, with a fake Python whose pip prints two hundred lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = """#!/bin/sh
i=1; while [ $i -le 200 ]; do echo "Collecting package $i"; i=$((i+1)); done
[ -e {broken} ] && {{ echo "ERROR: no space left on device" >&2; exit 1; }}
exit 0
"""
PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit 0
mkdir -p "$3/bin" && cp {pip} "$3/bin/python"
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_setup_is_quiet_and_shows_the_end_of_the_log_when_it_fails(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    pip, python, broken = tmp_path / "pip", tmp_path / "python", tmp_path / "broken"
    pip.write_text(PIP.format(broken=broken), encoding="utf-8")
    python.write_text(PYTHON.format(pip=pip), encoding="utf-8")
    pip.chmod(0o755)
    python.chmod(0o755)

    # `make test` hands its own flags down, and a make below another prints which folder it enters.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def setup() -> tuple[int, list[str]]:
        command = ["make", "setup", f"PYTHON={python}", "VENV=env"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    broken.touch()
    code, lines = setup()
    assert code != 0 and not (tmp_path / "env" / ".stamp-setup").exists()
    assert "ERROR: no space left on device" in lines and "env/setup.log" in lines[-1]
    assert len(lines) <= 25
    broken.unlink()
    code, lines = setup()
    assert code == 0 and len(lines) == 1
    assert "minutes" in lines[0] and "env/setup.log" in lines[0]
    assert (tmp_path / "env" / "setup.log").read_text(encoding="utf-8").count("Collecting") == 400
    assert setup()[0] == 0, "what is there is not installed again"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("python", ["nopython3", "{old}"])
def test_a_python_that_cannot_be_used_is_named(tmp_path: Path, python: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    named = python.format(old=old)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "setup", f"PYTHON={named}", "VENV=env"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stdout == (
        f"{named} is no Python 3.10 or newer, which is needed; name one: make setup PYTHON=python3.12\n"
    )
    assert "not found" not in done.stderr
