"""Which files of a folder are read, and how much memory that takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sync_r1.models.weight_files import WeightFiles, pick


@pytest.mark.parametrize(
    ("names", "picked"),
    [
        (["config.json", "pytorch_model.bin", "model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.safetensors", "model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["tuned.safetensors", "old.pt"], ["tuned.safetensors"]),
        (["README.md"], []),
    ],
)
def test_one_copy_is_picked(names: list[str], picked: list[str]) -> None:
    assert pick(names) == picked


def test_files_that_could_all_be_meant_are_listed() -> None:
    with pytest.raises(
        ValueError, match=r"several weight files: model_epoch2\.pt, model_epoch4\.pt; give the path of one"
    ):
        pick(["model_epoch2.pt", "model_epoch4.pt"])


def test_shards_with_the_same_tensor_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({"weight": torch.zeros(1)}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"model-00002-of-00002\.safetensors has tensors of another file .*weight"):
        WeightFiles(tmp_path)


def test_a_file_of_something_else_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt holds a dict of epoch, lr; expected tensors by name"):
        WeightFiles(tmp_path / "state.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut\.pt is damaged"):
        WeightFiles(tmp_path / "cut.pt")


PEAK = """
import resource, sys, torch
from sync_r1.models import weight_files
from sync_r1.models.weight_files import WeightFiles, fill
weight_files.PIECE = 1 << 20
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
kept = []
for path in sys.argv[1:]:
    files, before = WeightFiles(path), peak()
    kept.append(torch.nn.ParameterDict({name: torch.empty(shape) for name, shape in files.shapes.items()}))
    fill(kept[-1], files.stream())
    assert all(float(value[-1]) == int(name[1:]) for name, value in kept[-1].items())
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident pages")
def test_loading_holds_one_copy(tmp_path: Path) -> None:
    weights = {f"w{i}": torch.full((2_500_000,), float(i)) for i in range(10)}
    files = [str(tmp_path / "model.safetensors"), str(tmp_path / "model.pt")]
    save_file(weights, files[0])
    torch.save(weights, files[1])
    output = subprocess.run([sys.executable, "-c", PEAK, *files], capture_output=True, text=True, check=True).stdout
    assert all(float(megabytes) < 1.4 * 100 for megabytes in output.split()), output  # two copies would be 200
