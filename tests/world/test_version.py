"""Weights of an earlier version of the embedded world are told apart and refused where they cannot do what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_r1.asked_texts import asked_prompt
from sync_r1.models.showo.model import Showo
from sync_r1.world import grammar
from sync_r1.world.assets import load_world_model
from sync_r1.world.pretrain.recipe import TOKENIZER
from sync_r1.world.pretrain.unified import Magvit, world_config, world_tokenizer
from sync_r1.world.version import check_version, world_version
from tests.helpers import tiny_model


def small_world_model() -> Showo:
    tokenizer, magvit = world_tokenizer(), Magvit(TOKENIZER)
    return Showo.from_config(world_config(tokenizer, magvit, 32, 1), tokenizer, magvit)


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> Showo:
    """A model whose text tokenizer never saw the sentences about two."""
    lines = [line for line in grammar.vocabulary() if "friend" not in line]
    monkeypatch.setattr(grammar, "vocabulary", lambda: lines)
    return small_world_model()


def test_versions_are_told_apart(earlier: Showo) -> None:
    assert world_version(earlier) == 1
    assert world_version(tiny_model(name_pool=[])) is None
    assert world_version(load_world_model()) == 2


def test_this_version_may_do_everything() -> None:
    check_version(small_world_model(), "draw")
    check_version(tiny_model(name_pool=[]), "draw")


def test_an_earlier_version_draws_one_and_is_refused_two(earlier: Showo) -> None:
    assert asked_prompt(earlier, "a red dog at the beach", []) == "a red dog at the beach"
    with pytest.raises(ValueError, match=r"version 1 of the embedded world and cannot draw two characters .*version 2"):
        asked_prompt(earlier, "a red dog and a blue cat at the beach", [])


def test_weights_of_an_earlier_version_are_no_assets(earlier: Showo, tmp_path: Path) -> None:
    earlier.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"version 1 of the embedded world .*sync-r1 world pretrain"):
        load_world_model(tmp_path)
