"""The package decides how threads wait before torch is loaded, for every way in, and what the user set stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_r1.doctor import check_device
from sync_r1.threads import USERS, WAITING, set_wait_policy, wait_policy

ROOT = Path(__file__).parents[1]
SHOW = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


def run(*command: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in USERS}
    environment = {**kept, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


UNTIL_TORCH = """
import os, sys

class UntilTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, UntilTorch())
"""


@pytest.mark.parametrize("first", ["import sync_r1", "import sync_r1.cli"])
def test_every_light_way_in_sets_the_policy(first: str) -> None:
    assert run("-c", f"{first}; {SHOW}").split() == ["2000", "False"]


@pytest.mark.parametrize("first", ["import sync_r1.rl.trainer", "from sync_r1.session import Session"])
def test_it_is_set_before_torch_is_loaded(first: str) -> None:
    assert run("-c", UNTIL_TORCH + first).split() == ["2000"]


def test_module_and_doctor_say_what_is_in_force() -> None:
    assert "GOMP_SPINCOUNT=2000, KMP_BLOCKTIME=0" in " ".join(run("-m", "sync_r1", "doctor", "--json").split())


def test_the_doctor_says_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    (threads,) = [check for check in check_device() if check.name == "threads"]
    assert "OMP_WAIT_POLICY=ACTIVE" in threads.detail and "GOMP_SPINCOUNT" not in threads.detail


@pytest.mark.parametrize("name", USERS)
def test_what_the_user_sets_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    chosen = {name: "7"}
    set_wait_policy(chosen)
    assert chosen == {name: "7"} and wait_policy(chosen) == f"{name}=7"
    chosen = {}
    set_wait_policy(chosen)
    assert chosen == WAITING


def test_too_late_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())  # type: ignore[arg-type]
    chosen: dict[str, str] = {}
    set_wait_policy(chosen)
    assert chosen == {} and wait_policy(chosen) == "PyTorch's default"
