"""The one answer to which checkpoints a run has, and which configuration, data and weights belong to them.

A run keeps its checkpoints in `checkpoints/step_N`. They are written under a hidden name, manifest last, and renamed:
only those with a manifest are complete. Hidden names: `.step_N.partial` is being written, `.step_N.old` gives way to a
new one of its step, `.step_N.gone` is being deleted. A process that was killed between the two renames of a replacement
leaves `.step_N.old` alone, so it counts while `step_N` is not there.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sync_r1.config import Config, load_config
from sync_r1.constants import WORLD
from sync_r1.data.json_fields import Fields
from sync_r1.files import MANIFEST, manifest_problems, read_json, read_manifest, write_json

CHECKPOINTS = "checkpoints"
ADAPTER_CONFIG = "adapter_config.json"  # lies in checkpoints that were trained with adapters
AFTER_FILE = "after.safetensors"  # lies in updates from feedback: the tensors that differ from their base
WARM_UP_STATE = "sft_state.json"  # lies in checkpoints of a warm-up: how far it is
DATA_RECORD = "data_root.json"  # lies in the folder of a run on data of its own
FOLDER = re.compile(r"step_(\d+)")
HIDDEN = re.compile(r"\.(step_(\d+))\.(partial|old|gone)")
Say = Callable[[str], None]


# names


def checkpoint_name(step: int) -> str:
    return f"step_{step:05d}"


def hidden(target: Path, role: str) -> Path:
    """`checkpoints/.step_00020.<role>`, a name that never counts as a finished checkpoint of its step."""
    return target.with_name(f".{target.name}.{role}")


def plain(path: Path) -> Path:
    """A checkpoint under its own name, `.step_00020.old` as `step_00020`."""
    waiting = HIDDEN.fullmatch(path.name)
    return path.with_name(waiting[1]) if waiting else path


def step_of(checkpoint: Path) -> int:
    """The number of updates before a checkpoint, by its name; 0 for a folder of another name."""
    named = FOLDER.fullmatch(plain(checkpoint).name)
    return int(named[1]) if named else 0


def run_of(place: Path) -> Path:
    """The run that a checkpoint of it belongs to; any other folder is returned as it is."""
    return place.parent.parent if place.parent.name == CHECKPOINTS else place


def name_of(checkpoint: Path) -> str:
    """`demo/step_00020`: what records say about where weights come from."""
    return f"{_run_around(checkpoint).name}/{plain(checkpoint).name}"


def _run_around(checkpoint: Path) -> Path:
    """The run of a checkpoint, from the root; the folder around one that is kept elsewhere."""
    place = checkpoint.resolve()
    run = run_of(place)
    return run if run != place else place.parent


# checkpoints


def complete_in(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        named, waiting = FOLDER.fullmatch(path.name), HIDDEN.fullmatch(path.name)
        if named and (path / MANIFEST).is_file():
            found[int(named[1])] = path
        elif waiting and waiting[3] == "old" and (path / MANIFEST).is_file():
            found.setdefault(int(waiting[2]), path)
    return [found[step] for step in sorted(found)]


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return complete_in(run / CHECKPOINTS)


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    complete = checkpoints(run)
    return complete[-1] if complete else None


def checkpoint_to_use(place: str | Path) -> Path:
    """The checkpoint that `--run` means: the newest complete one of a run, or `place` itself if it is one.

    ValueError when there is none or files are missing.
    """
    place = Path(place)
    if not place.is_dir():
        raise ValueError(f"{place}: no such run; runs are folders like runs/demo, written by training")
    found = place if (place / MANIFEST).is_file() else newest(place)
    if found is None:
        raise ValueError(
            f"{place} holds no complete checkpoint ({CHECKPOINTS}/step_*/ with {MANIFEST}); "
            "let the training save one first"
        )
    for name, entry in read_manifest(found)["files"].items():
        path = found / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise ValueError(
                f"{path} is missing or has another size than when it was saved; use another checkpoint of the run"
            )
    return found


def checkpoint_to_resume(resume: str | Path, run: Path, say: Say = lambda message: None) -> Path:
    """The checkpoint that `--resume` means: a folder, or "latest" of this run: the newest one whose files match its
    manifest.

    Args:
        say: is given which damaged checkpoints are passed over, and which one is used.
    Raises:
        ValueError: there is none, or a file is missing or damaged (the file, and what to use instead).
    """
    if str(resume) == "latest":
        return _newest_good(run / CHECKPOINTS, say)
    path = Path(resume)
    if not (path / MANIFEST).is_file():
        others = ", ".join(str(other) for other in complete_in(path.parent)) or "none"
        raise ValueError(f"{path} is not a complete checkpoint; complete ones beside it: {others}")
    problems = _problems(path)
    if problems:
        others = ", ".join(str(other) for other in complete_in(path.parent) if other != path) or "none"
        raise ValueError(f"{path} is damaged: {'; '.join(problems)}; other complete checkpoints: {others}")
    return path


def _newest_good(folder: Path, say: Say) -> Path:
    damaged: list[str] = []
    for path in reversed(complete_in(folder)):
        problems = _problems(path)
        if not problems:
            for damage in damaged:
                say(f"{damage}; going on from {path} instead")
            return path
        damaged.append(f"{path} is damaged: {'; '.join(problems)}")
    if damaged:
        raise ValueError(
            f"every checkpoint in {folder} is damaged: {'. '.join(damaged)}; put one back, or start a new run"
        )
    raise ValueError(f"{folder} holds no complete checkpoint to resume from; start without --resume")


def _problems(path: Path) -> list[str]:
    try:
        return manifest_problems(path)
    except (ValueError, OSError) as error:  # the manifest itself is damaged, or gone by now
        return [str(error)]


def run_of_concept(pattern: str, concept: str) -> Path:
    """The run of a concept: `{concept}` stands for its name, and `*` for anything, such as the seed, if one folder
    fits.

    Raises ValueError when none or several fit, or when the one that does holds no complete checkpoint.
    """
    path = pattern.replace("{concept}", concept)
    found = [path] if "*" not in path else [folder for folder in sorted(glob.glob(path)) if Path(folder).is_dir()]
    if len(found) != 1:
        raise ValueError(
            f"--run {path!r} fits {', '.join(found) or 'no folder'}; it must fit one run of {concept!r}; "
            "name the concepts that have one with --concept, or write the pattern out"
        )
    checkpoint_to_use(found[0])
    return Path(found[0])


# what belongs to a checkpoint


def config_of(checkpoint: Path) -> Config:
    """The configuration a checkpoint was trained with; defaults when it keeps none."""
    path = checkpoint / "config.yaml"
    return load_config(path) if path.is_file() else Config()


def weights_of(checkpoint: Path) -> Path | str:
    """The folder with the model's files: `model` in the checkpoint, or the checkpoint itself.

    Of an update from feedback, that of its base, which may be a model's name instead of a folder.
    """
    base = base_of(checkpoint)
    if isinstance(base, str):
        return base
    inner = base / "model"
    return inner if (inner / "config.json").is_file() else base


def base_of(checkpoint: Path) -> Path | str:
    """What an update from feedback began from: a checkpoint, or a model's folder or name. Others are their own base.

    ValueError when the folder that it names is gone.
    """
    if not (checkpoint / AFTER_FILE).is_file():
        return checkpoint
    base = str(read_manifest(checkpoint).get("base", ""))
    if os.path.isabs(base) and not Path(base).is_dir():
        raise ValueError(f"{checkpoint} is an update of {base}, which is gone; put it back there")
    return Path(base) if os.path.isabs(base) else base


def has_adapters(checkpoint: Path) -> bool:
    """Whether a checkpoint, or the one that it is an update of, was trained with adapters."""
    base = base_of(checkpoint)
    return isinstance(base, Path) and (base / ADAPTER_CONFIG).is_file()


def record_data(run: Path, root: Path | str) -> None:
    """Keep in the run's folder where its data are, so that the run can be used from any working directory."""
    places = [os.path.abspath(root)]
    with suppress(ValueError):  # Windows has no relative path from one drive to another
        places.insert(0, os.path.relpath(root, run.resolve()))
    write_json(run / DATA_RECORD, {"places": places}, indent=1)


def data_of(checkpoint: Path) -> str:
    """The data root a checkpoint was trained on; a run on the embedded world keeps its own copy.

    First the place as seen from the run, as both may have been moved together; then the place where the data were; then
    what the configuration says, as seen from the working directory. A warm-up lies one folder deeper than its run.
    """
    root, run = config_of(checkpoint).data.root, _run_around(checkpoint)
    for folder in (run, run.parent):
        record = folder / DATA_RECORD
        if root == WORLD:
            places = [folder / "data"]
        else:
            named = Fields(record, read_json(record)).strings("places") if record.is_file() else []
            places = [Path(os.path.normpath(folder / place)) for place in named]
        found = next((place for place in places if place.is_dir()), None)
        if found is not None:
            return str(found)
    return root
