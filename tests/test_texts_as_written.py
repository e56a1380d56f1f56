"""Options that people write: texts keep their letters, seeds their digits, the rest is read by the option's kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sync_r1.config import load_config, save_config
from sync_r1.unifybench.protocol import load_protocol

WORDS = [
    "007",
    "0123",
    "1_1_1",
    "0x1F",
    "0b11",
    "1e5",
    "12:30",
    "no",
    "yes",
    "null",
    "~",
    "exp[a]",
    "it's #1",
    "a: b",
    "- x",
    "2026-01-02",
    "猫咪",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_text_option_keeps_its_letters(tmp_path: Path, word: str) -> None:
    config = load_config(None, [f"run.name={word}", f"scorers.fallback.face={word}"])
    assert (config.run.name, config.scorers.fallback["face"]) == (word, word)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("word", ["007", "1_1_1", "no", "null", "1e5"])
def test_texts_in_lists_and_files_keep_their_letters(tmp_path: Path, word: str) -> None:
    assert load_config(None, [f"data.concepts=[{word}]"]).data.concepts == [word]
    (tmp_path / "a.yaml").write_text(f"run: {{name: {word}}}\ndata: {{concepts: [{word}]}}\n")
    config = load_config(tmp_path / "a.yaml")
    assert (config.run.name, config.data.concepts) == (word, [word])


def test_quotes_are_no_part_of_a_text() -> None:
    assert load_config(None, ["run.name='a b'"]).run.name == "a b"
    assert load_config(None, ["scorers.judge.url="]).scorers.judge.url == ""


def test_numbers_switches_and_nothing_are_read_by_the_kind_of_the_option() -> None:
    rl = load_config(None, ["rl.dgs_enabled=yes", "rl.top_k=null", "rl.max_steps=6e1", "rl.learning_rate=.5"]).rl
    assert (rl.dgs_enabled, rl.top_k, rl.max_steps, rl.learning_rate) == (True, None, 60, 0.5)
    assert load_config(None, ["rl.top_k="]).rl.top_k is None
    assert load_protocol("world", ["generation_timesteps=6"]).generation_timesteps == 6


def test_a_seed_is_kept_to_the_last_digit() -> None:
    assert load_config(None, ["run.seed=9007199254740993"]).run.seed == 9007199254740993
    assert load_config(None, [f"run.seed={2**63 - 1}"]).run.seed == 2**63 - 1
    for wrong in (f"{2**64}", "1e30", "0.5", "9007199254740993.5"):
        with pytest.raises(ValueError, match=r"run\.seed is"):
            load_config(None, [f"run.seed={wrong}"])


def test_bytes_that_are_no_utf8_are_named() -> None:
    with pytest.raises(ValueError, match=r"run\.name holds bytes that are no UTF-8"):
        load_config(None, ["run.name=caf\udce9"])


def test_a_saved_name_is_quoted_where_yaml_would_read_it_anew(tmp_path: Path) -> None:
    save_config(load_config(None, ["run.name=007"]), tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["run"]["name"] == "007"
