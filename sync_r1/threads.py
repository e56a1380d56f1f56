"""How PyTorch's CPU threads wait for each other, decided before torch is imported, so nothing here imports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping

# GOMP_SPINCOUNT is what GNU's OpenMP (PyTorch's on Linux) reads, KMP_BLOCKTIME what LLVM's and Intel's do.
WAITING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}
USERS = ("OMP_WAIT_POLICY", *WAITING)  # whoever sets one of these has decided


def set_wait_policy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads spin only briefly before they sleep, unless the user has set one of `USERS`.

    Threads meet after every operation. By default the one that comes first spins for about a millisecond, and so takes
    the core that the other one needs as soon as another program runs: a training step then takes ten times as long and
    more (docs/busy_machine.json). Two thousand turns are enough for threads that really run side by side. The variables
    are read once, when torch is loaded, so the package sets them when it is imported; where torch came first they are
    left alone, because they would have no effect.
    """
    if "torch" not in sys.modules and not any(name in environment for name in USERS):
        environment.update(WAITING)


def wait_policy(environment: Mapping[str, str] = os.environ) -> str:
    """What is in force, for people: "GOMP_SPINCOUNT=2000, KMP_BLOCKTIME=0", or "PyTorch's default"."""
    return ", ".join(f"{name}={environment[name]}" for name in USERS if name in environment) or "PyTorch's default"
