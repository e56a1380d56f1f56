"""Configurations that used to end in another error than a ValueError, in endless work, or in an endless message."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.config import load_config

LAUGHS = "\n".join([f"    x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else '1'] * 9)}]" for i in range(12)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rl:\n  reward_weights:\n" + LAUGHS, "an alias .* is not allowed"),
        ("rl: &a\n  reward_weights: *a", "an alias .* is not allowed"),
        ("a: [", "cannot be read as YAML"),
        ("[" * 50_000, "nested too deeply"),
        ("rl: {max_steps: 2026-99-99}", "rl.max_steps is '2026-99-99'; it must be a number"),
        ("rl: {max_steps: " + "9" * 5000 + "}", "it must be finite"),
        ("rl: {max_steps: 0x" + "f" * 5000 + "}", "rl.max_steps is '0xf.*it must be a number"),
        ("rl: {max_steps: .inf}", "rl.max_steps is .*inf.*; it must be finite"),
        ("rl: {max_steps: .nan}", "rl.max_steps is .*nan.*; it must be finite"),
    ],
)
def test_the_file_or_the_option_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert "run.yaml" in str(caught.value) or "rl.max_steps" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_folder_or_other_bytes_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"rl: \xff")
    for path, message in (
        (tmp_path, "must be a file"),
        (tmp_path / "bytes.yaml", r"bytes\.yaml: cannot be read as UTF-8"),
    ):
        with pytest.raises(ValueError, match=message):
            load_config(path)
