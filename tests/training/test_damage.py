"""What a kill, a dying disk or a full one leaves: the newest good checkpoint is found, the user is told, nothing good
is lost."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from sync_r1.files import MANIFEST
from sync_r1.metrics_file import append_metrics, drop_metrics_after, read_metrics
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.run_folder import checkpoint_to_resume, checkpoints
from sync_r1.training.callbacks import generator_states, set_generator_states
from sync_r1.training.checkpoint import move_newer_aside, rotate
from tests.rl.toys import bright, log_of, same, trainer, weights, wordy
from tests.training.test_checkpoint import fill

ROOT = Path(__file__).parents[2]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a flipped bit": ("weights", flip, "weights has another content"),
    "a cut file": ("weights", cut, "weights has 1 bytes, 2 expected"),
    "a missing file": ("weights", Path.unlink, "weights is missing"),
    "a cut manifest": (
        MANIFEST,
        lambda path: path.write_bytes(path.read_bytes()[:30]),
        "manifest.json is not a manifest",
    ),
    "an empty manifest": (MANIFEST, lambda path: path.write_bytes(b""), "manifest.json is not a manifest"),
    "a binary manifest": (MANIFEST, lambda path: path.write_bytes(b"\xff\xfe\x00"), "manifest.json is not a manifest"),
    "sizes that are no numbers": (
        MANIFEST,
        lambda path: path.write_text('{"files": {"a": {"sha256": "", "bytes": null}}}'),
        "not a manifest",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(damage: str, saves: Path) -> None:
    for step in (10, 20, 30):
        fill(saves, step)
    name, harm, told = DAMAGES[damage]
    harm(saves / "step_00030" / name)
    said: list[str] = []
    assert checkpoint_to_resume("latest", saves.parent, said.append) == saves / "step_00020"
    assert (
        len(said) == 1
        and "step_00030" in said[0]
        and told in said[0]
        and said[0].endswith(f"going on from {saves}/step_00020 instead")
    )
    rotate(fill(saves, 40), 2)  # deletes the oldest, never what was just written
    assert checkpoint_to_resume("latest", saves.parent).name == "step_00040"


def test_only_damaged_checkpoints_are_an_error_that_names_them_all(saves: Path) -> None:
    for step in (10, 20):
        flip(fill(saves, step) / "weights")
    with pytest.raises(
        ValueError,
        match=r"every checkpoint in .* is damaged: .*step_00020.*step_00010.*put one back, or start a new run",
    ):
        checkpoint_to_resume("latest", saves.parent)


def test_rotation_leaves_the_only_good_one(saves: Path) -> None:
    for step in (10, 30):
        flip(fill(saves, step) / "weights")  # 30 is newer by its name, and damaged
    rotate(fill(saves, 20), 1)
    assert [path.name for path in saves.iterdir()] == ["step_00020"]
    assert checkpoint_to_resume("latest", saves.parent).name == "step_00020"


def test_one_that_was_being_replaced_still_counts_and_remains_of_writers_go(saves: Path) -> None:
    fill(saves, 10)
    fill(saves, 20).rename(saves / ".step_00020.old")  # killed between the two renames of a replacement
    (saves / ".step_00020.partial").mkdir()
    (saves / ".step_00005.gone").mkdir()
    assert checkpoint_to_resume("latest", saves.parent).name == ".step_00020.old"
    rotate(saves / "step_00010", 3)
    assert sorted(path.name for path in saves.iterdir()) == [".step_00020.old", "step_00010"]
    fill(saves, 20)
    assert [path.name for path in checkpoints(saves.parent)] == ["step_00010", "step_00020"]
    assert sorted(path.name for path in saves.iterdir()) == ["step_00010", "step_00020"]


def test_later_checkpoints_are_set_aside_under_names_of_their_own(saves: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        fill(saves, 10)
        fill(saves, 20)
        move_newer_aside(saves, 10, said.append)
    assert sorted(path.name for path in saves.iterdir()) == ["aside_step_00020", "aside_step_00020_2", "step_00010"]
    assert "step_00020 is newer than step 10" in said[0] and "kept as aside_step_00020" in said[0]
    assert checkpoint_to_resume("latest", saves.parent).name == "step_00010"


def test_a_run_goes_on_from_before_the_damage_to_the_same_end(tmp_path: Path) -> None:
    """The rewards draw from all global generators, so the result also shows that these are put back."""

    def noisy(*, completions: list[str], **_: Any) -> list[float]:
        return [random.random() + float(np.random.rand()) + float(torch.rand(())) for _ in completions]

    def rewards() -> RewardEnsemble:
        return RewardEnsemble(
            [Reward("wordy", wordy, "text"), Reward("bright", bright, "image"), Reward("noisy", noisy, "text")]
        )

    extra = ["rl.max_steps=3", "run.save_steps=1", "run.save_total_limit=3"]
    whole = trainer(tmp_path, *extra, rewards=rewards())
    whole.train()
    expected, end, folder = log_of(whole), weights(whole.policy), whole.config.run.folder / "checkpoints"
    flip(folder / "step_00003" / "model.safetensors")
    flip(folder / "step_00002" / "optimizer.pt")

    said = io.StringIO()
    resumed = trainer(tmp_path, *extra, rewards=rewards(), console=Console(file=said, width=1000))
    resumed.train(resume_from_checkpoint="latest")
    assert log_of(resumed) == expected and same(end, weights(resumed.policy))
    for part in (
        "model.safetensors has another",
        "optimizer.pt has another",
        "step_00001 instead",
        "kept as aside_step_00003",
    ):
        assert part in said.getvalue(), part
    assert [path.name for path in checkpoints(folder.parent)] == ["step_00001", "step_00002", "step_00003"]


def test_global_generators_are_restored() -> None:
    state = generator_states()
    drawn = random.random(), float(np.random.rand()), float(torch.rand(()))
    set_generator_states(state)
    assert drawn == (random.random(), float(np.random.rand()), float(torch.rand(())))


def test_metrics_survive_a_rewrite_that_fails_and_a_line_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_metrics(path, {"step": step, "loss": float("nan")})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match=r"metrics.jsonl was not written .*--resume latest"),
    ):
        patch.setattr(Path, "write_bytes", full)
        drop_metrics_after(path, 2)
    assert path.read_bytes() == before
    drop_metrics_after(path, 2)
    assert path.read_text().splitlines() == ['{"step": 1, "loss": null}', '{"step": 2, "loss": null}']
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]


SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from sync_r1.training.checkpoint import atomic_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
for step, size in ((1, 10), (2, 100_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    with atomic_checkpoint(folder / f"step_0000{step}") as partial:
        torch.save(torch.zeros(size), partial / "optimizer.pt")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits on file sizes")
def test_a_file_that_really_does_not_fit_leaves_the_earlier_checkpoint(saves: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(saves)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "step_00002 was not saved" in last
        and "last complete checkpoint is" in last
        and "free some space and resume" in last
    )
    assert [path.name for path in saves.iterdir()] == ["step_00001"]
    assert checkpoint_to_resume("latest", saves.parent).name == "step_00001"
