"""Unknown names are answered with near ones, or with all there are."""

from __future__ import annotations

from sync_r1.suggestions import did_you_mean, nearest

REWARDS = ["identity", "alignment", "face"]


def test_near_names_are_suggested_and_else_all() -> None:
    assert did_you_mean("identitty", REWARDS) == "did you mean identity?"
    assert did_you_mean("x", REWARDS) == "there are identity, alignment, face"
    assert did_you_mean("x", []) == "there are none"
    assert did_you_mean(3, {"three": 3}) == "there are three"


def test_options_are_suggested_with_their_section() -> None:
    assert did_you_mean("lora_rang", ["lora_rank", "seed"], prefix="rl.") == "did you mean rl.lora_rank?"
    assert did_you_mean("x", ["lora_rank", "seed"], prefix="rl.") == "there are rl.lora_rank, rl.seed"
    assert did_you_mean("seed", ["beta"], prefix="rl.", elsewhere=["run.seed"]) == "did you mean run.seed?"


def test_the_nearest_name_is_the_first_where_none_is_near() -> None:
    assert nearest("aligment", REWARDS) == "alignment"
    assert nearest("x", REWARDS) == "identity"
