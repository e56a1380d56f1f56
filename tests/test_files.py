"""A manifest says whether a folder is complete and unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.files import manifest_problems, read_manifest, read_tensors, write_manifest, write_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "magvit").mkdir()
    (tmp_path / "model.bin").write_bytes(b"abc")
    (tmp_path / "magvit/model.bin").write_bytes(b"0" * 2_000_000)
    (tmp_path / "half.tmp").write_bytes(b"x")
    write_manifest(tmp_path, steps=7)
    return tmp_path


def test_what_was_written_is_complete(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest["steps"] == 7
    assert list(manifest["files"]) == ["magvit/model.bin", "model.bin"]
    # the published SHA-256 of "abc"
    assert (
        manifest["files"]["model.bin"]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert manifest_problems(folder) == []
    before = (folder / "manifest.json").read_bytes()
    write_manifest(folder, steps=7)
    assert (folder / "manifest.json").read_bytes() == before


def test_differences_are_named(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"abd")
    assert manifest_problems(folder) == ["model.bin has another content than when it was written (SHA-256 differs)"]
    (folder / "model.bin").write_bytes(b"abcd")
    (folder / "magvit/model.bin").unlink()
    assert manifest_problems(folder) == ["magvit/model.bin is missing", "model.bin has 4 bytes, 3 expected"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": {"a": 3}}', '{"files": [1]}'])
def test_not_a_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="is not a manifest"):
        read_manifest(tmp_path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the folder is incomplete"):
        manifest_problems(tmp_path)


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x10" * 40)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_tensors(path)


def test_a_file_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "new/ä.json", "größe\n")
    assert path.read_bytes() == "größe\n".encode()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("sync_r1.files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "other")
    assert path.read_text(encoding="utf-8") == "größe\n" and list(path.parent.iterdir()) == [path]
