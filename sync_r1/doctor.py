"""What is installed here, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from sync_r1.files import manifest_problems, read_manifest
from sync_r1.threads import wait_policy

State = Literal["ok", "note", "missing"]

PROJECT = "sync-r1"
DEVELOPMENT = ("dev", "e2e")  # extras of those who change the project; the doctor leaves them out
PURPOSES = {  # of the extras
    "face": "the reward 'face'",
    "heic": "HEIC photos, as phones take them",
    "serve": "sync-r1 serve",
    "studio": "sync-r1 studio",
}
ENOUGH_MEMORY_GIB = 4.0
ENOUGH_DISK_GIB = 2.0
ASSETS = Path(__file__).parent / "world" / "assets"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's list. `missing` means that something needed is not there; `note` is good to know."""

    name: str
    state: State
    detail: str
    hint: str = ""


def examine(assets: Path = ASSETS, folder: Path = Path(".")) -> list[Check]:
    """All checks: Python, packages, device, memory, disk space below `folder`, and the shipped weights in `assets`."""
    return [
        check_python(),
        *check_packages(),
        *check_device(),
        check_memory(),
        check_disk(folder),
        check_weights(assets),
    ]


def healthy(checks: list[Check]) -> bool:
    """True when nothing needed is missing."""
    return all(check.state != "missing" for check in checks)


def as_rows(checks: list[Check]) -> list[dict[str, Any]]:
    """The checks as plain dicts, for JSON."""
    return [asdict(check) for check in checks]


def installed(name: str) -> str | None:
    """Version of a package, or None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_packages(project: str = PROJECT) -> list[Check]:
    """The packages that an installed project requires, then those of its extras, as its own metadata lists them."""
    try:
        listed = [Requirement(text) for text in importlib.metadata.requires(project) or []]
    except importlib.metadata.PackageNotFoundError:
        hint = "run `make setup`, or `pip install -e .` in the clone"
        return [Check("packages", "note", f"{project} is not installed, so its packages are not known", hint)]
    extras = importlib.metadata.metadata(project).get_all("Provides-Extra") or []
    checks = [check_required(found) for found in listed if needed_for(found, "")]
    for extra in extras:
        if extra not in DEVELOPMENT:
            checks += [check_optional(found, extra) for found in listed if only_for(found, extra)]
    return checks


def needed_for(requirement: Requirement, extra: str) -> bool:
    """Whether this Python on this system needs the package, with an extra or ("") without any."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def only_for(requirement: Requirement, extra: str) -> bool:
    """Whether it is the extra that needs the package."""
    return needed_for(requirement, extra) and not needed_for(requirement, "")


def check_required(requirement: Requirement) -> Check:
    """A package without which the project does not work."""
    name, version = requirement.name, installed(requirement.name)
    hint = f"pip install '{name}{requirement.specifier}', or run `make setup` for everything"
    if version is None:
        return Check(name, "missing", "not installed", hint)
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(name, "missing", f"{version} is installed, {requirement.specifier} is needed", hint)
    return Check(name, "ok", version)


def check_optional(requirement: Requirement, extra: str) -> Check:
    """A package that only one of the extras needs."""
    found, purpose = check_required(requirement), PURPOSES.get(extra, f"the extra {extra!r}")
    if found.state == "missing":
        return Check(found.name, "note", f"{found.detail}, only for {purpose}", f"pip install '{PROJECT}[{extra}]'")
    return Check(found.name, "ok", f"{found.detail}, for {purpose}")


def check_device() -> list[Check]:
    """Where models run and with how many threads. A broken PyTorch is reported, not raised."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [
            Check(
                "device",
                "missing",
                f"PyTorch does not load: {error}",
                "reinstall it: pip install --force-reinstall torch",
            )
        ]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        device = Check("device", "ok", "cuda: " + ", ".join(names))
    elif torch.backends.mps.is_available():
        device = Check("device", "ok", "mps (Apple GPU)")
    else:
        device = Check("device", "ok", "cpu: enough for the demo and the tiny model; full-size models want a GPU")
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    hint = ""
    if threads < cores // 2:
        hint = "unset OMP_NUM_THREADS to use all of them"
    return [device, Check("threads", "note" if hint else "ok", f"{threads} of {cores} cores; {wait_policy()}", hint)]


def check_memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    detail = f"{free:.1f} GiB available of {total:.1f}"
    if free < ENOUGH_MEMORY_GIB:
        return Check(
            "memory", "note", detail, f"the demo wants about {ENOUGH_MEMORY_GIB:.0f} GiB; close other programs"
        )
    return Check("memory", "ok", detail)


def check_disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    if free < ENOUGH_DISK_GIB:
        return Check(
            "disk",
            "note",
            f"{free:.1f} GiB free here",
            f"checkpoints want about {ENOUGH_DISK_GIB:.0f} GiB; delete old runs/",
        )
    return Check("disk", "ok", f"{free:.1f} GiB free here")


def check_weights(assets: Path) -> Check:
    """The weights that come with the package: all there, unchanged, and readable as safetensors."""
    from safetensors import SafetensorError, safe_open

    hint = "reinstall the package, or in a clone: git checkout -- sync_r1/world/assets"
    try:
        files = read_manifest(assets)["files"]
        problems = manifest_problems(assets)
        tensors = 0
        for name in files if not problems else ():
            if name.endswith(".safetensors"):
                with safe_open(assets / name, framework="numpy") as weights:
                    tensors += len(weights.keys())
    except (OSError, ValueError, SafetensorError) as error:
        return Check("weights", "missing", str(error), hint)
    if problems:
        return Check("weights", "missing", "; ".join(problems), hint)
    size = sum(entry["bytes"] for entry in files.values()) / 2**20
    return Check("weights", "ok", f"{len(files)} files, {size:.1f} MiB, {tensors} tensors, hashes right")
