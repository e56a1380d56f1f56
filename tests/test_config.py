"""Precedence, round trip, and errors that name the value, the limit and the fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sync_r1.config import Config, load_config, save_config
from sync_r1.config_fields import describe
from sync_r1.recipes import RECIPES, apply_recipes


def test_precedence_defaults_recipe_file_overrides(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("rl: {num_generations: 6, learning_rate: 2e-5}\nrun: {name: mine}\n")
    config = load_config(file, ["rl.num_generations=12", "run.seed=7"], base=apply_recipes(["demo"]))
    assert (config.rl.num_generations, config.rl.learning_rate, config.run.name, config.run.seed) == (
        12,
        2e-5,
        "mine",
        7,
    )
    assert config.rl.scale_rewards == "batch"  # the recipe's, which neither file nor override touched
    assert Config().rl.scale_rewards == "none"


def test_a_saved_configuration_loads_back_equal(tmp_path: Path) -> None:
    overrides = [
        "rl.custom_rewards.sharp.function=my.sharp",
        "rl.reward_weights.sharp={person: 0.5}",
        "rl.top_k=5",
        "data.concepts=[bo]",
    ]
    config = load_config(None, overrides, base=apply_recipes(["showo-512"]))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_an_override_changes_one_entry_of_a_mapping() -> None:
    weights = load_config(
        None, ["rl.reward_weights.identity=0.9", "rl.reward_weights.alignment.person=0.1"]
    ).rl.reward_weights
    assert weights == {"rewrite": 0.5, "answer": 0.5, "identity": 0.9, "alignment": {"person": 0.1}}


def test_scientific_notation_is_a_number() -> None:
    assert load_config(None, ["rl.learning_rate=1e-5"]).rl.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rl.num_generation=3", ["rl.num_generation", "did you mean rl.num_generations"]),
        ("run.beta=0.1", ["run.beta", "rl.beta"]),
        ("trainer.beta=0.1", ["trainer"]),
        ("rl.num_generations=1", ["rl.num_generations is 1", "at least 2", "set rl.num_generations to 2"]),
        ("rl.num_generations=2.5", ["2.5", "whole number"]),
        ("rl.temperature=0", ["rl.temperature is 0", "above 0"]),
        ("rl.look_fraction=1.5", ["1.5", "at most 1"]),
        ("rl.beta=nan", ["finite"]),
        ("rl.credit=rooted", ["rooted", "use routed"]),
        ("rl.epsilon_high=0.1", ["rl.epsilon_high is 0.1", "rl.epsilon = 0.2"]),
        ("rl.train_timesteps=9", ["rl.train_timesteps is 9", "rl.generation_timesteps = 8"]),
        ("rl.dgs_preview_step=8", ["rl.dgs_preview_step is 8", "below rl.generation_timesteps = 8", "set it to 2"]),
        ("rl.optimise=text", ["previews need images", "rl.dgs_enabled=false"]),
        (
            "rl.num_iterations=7",
            ["run.save_steps is 20", "multiple of rl.num_iterations = 7", "set run.save_steps to 21"],
        ),
        ("rl.warmup_steps=90", ["rl.warmup_steps is 90", "rl.max_steps = 60"]),
        ("rl.reward_weights={}", ["at least one reward"]),
        ("rl.reward_weights.identity={robot: 1}", ["'robot' is no category", "person, animal, object"]),
        ("rl.reward_weights.identity=-1", ["rl.reward_weights.identity is -1", "at least 0"]),
        ("rl.custom_rewards.sharp.function=sharp", ["dotted path"]),
        ("rl.log=true", ["rl.log"]),
        ("run.log_completions=1", ["true or false"]),
        ("data.concepts=bo", ["must be a list", "data.concepts=[bo]"]),
        ("rl=3", ["section.option=value"]),
        ("rl.num_generations", ["section.option=value"]),
        ("rl.beta={", ["quote it"]),
    ],
)
def test_errors_say_value_limit_and_fix(override: str, said: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        load_config(None, [override], base=apply_recipes(["dgs"]))
    for part in said:
        assert part in str(error.value)


def test_nothing_trainable_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would train"):
        load_config(None, ["rl.learning_rate=0", "rl.concept_learning_rate=0"])


def test_a_section_cannot_be_a_value_and_a_file_must_be_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("rl: 3\n")
    with pytest.raises(ValueError, match="it is a section"):
        load_config(file)
    file.write_text("- rl\n")
    with pytest.raises(ValueError, match="it must be a mapping of model, data, scorers, sft, rl, eval, run"):
        load_config(file)


@pytest.mark.parametrize("text", ["rl:\n\tmax_steps: 7\n", "rl:\n  max_steps: 7\n\tbeta: 0\n"])
def test_a_tab_is_not_a_text_to_quote(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="indent with spaces, as YAML takes no tabs there"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rl:\n  max_steps: 7\nrun:\n  name: x\nrl:\n  beta: 0\n", "'rl' is given on line 1 and again on line 5"),
        ("rl:\n  max_steps: 7\n  'max_steps': 8\n", "'max_steps' is given on line 2 and again on line 3"),
        ("rl: {max_steps: 7, max_steps: 7}\n", "'max_steps' is given on line 1 and again on line 1"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_recipe_cannot_invent_an_option() -> None:
    with pytest.raises(AttributeError):
        Config().rl.num_generation = 3  # type: ignore[attr-defined]


def test_a_mutated_configuration_is_checked_again() -> None:
    config = Config()
    config.rl.num_generations = 1
    with pytest.raises(ValueError, match="at least 2"):
        config.validate()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("base", ["demo", "showo-256", "showo-512"])
def test_every_recipe_gives_a_valid_configuration(base: str, name: str) -> None:
    apply_recipes([base, name]).validate()


def test_baselines_differ_in_what_they_optimise() -> None:
    rl = {
        name: apply_recipes(["demo", name]).rl
        for name in ("joint", "understanding-only", "generation-only", "image-credit-only")
    }
    assert {name: (value.optimise, value.credit) for name, value in rl.items()} == {
        "joint": ("both", "routed"),
        "understanding-only": ("text", "routed"),
        "generation-only": ("image", "routed"),
        "image-credit-only": ("image", "shared"),
    }


def test_label_free_scores_nothing_but_what_the_pictures_show() -> None:
    rl = apply_recipes(["demo", "label-free"]).rl
    assert set(rl.reward_weights) == {"faithfulness"} and rl.look_fraction == 0
    assert (rl.optimise, rl.credit, rl.draw_every, rl.dgs_enabled) == ("both", "routed", 1, False)


def test_what_the_image_part_teaches_is_told_by_photos_alone() -> None:
    """Nothing is sampled and no reward is asked; what shows the concept is not read from the data."""
    config = apply_recipes(["demo", "taught-by-drawing"]).validate()
    assert config.sft.stages == ["photos"] and (config.rl.rolls_out, config.rl.draws) == (False, False)
    assert (config.rl.optimise, config.rl.closed_labels, config.rl.closed_loss) == ("decisions", "drawing", "log")
    assert config.rl.closed_own_drawings > 0 and config.rl.prompts_of(3) == (0, 0)


def test_the_demo_is_the_world_after_a_look_at_the_photos() -> None:
    world, demo = apply_recipes(["world", "photos-first"]), apply_recipes(["demo"])
    assert demo.sft.stages == ["photos"] and apply_recipes(["world"]).sft.stages == []
    assert demo.rl.draw_every == 2 * world.rl.draw_every
    world.rl.draw_every = demo.rl.draw_every
    assert demo == world


def test_unknown_recipe_names_its_neighbours() -> None:
    with pytest.raises(ValueError, match="did you mean showo-"):
        apply_recipes(["showo-1024"])


def test_a_starting_point_comes_first() -> None:
    assert apply_recipes(["world", "demo", "label-free"]) == apply_recipes(["demo", "label-free"])
    with pytest.raises(ValueError, match="'demo' is a starting point and would undo 'label-free'; name it first"):
        apply_recipes(["label-free", "demo"])


def test_every_option_is_documented() -> None:
    documented = list(describe(Config()))
    assert len(documented) > 60
    assert all(doc and len(doc) < 140 for _, _, doc in documented)
    assert all(field.default_factory is not dataclasses.MISSING for field in dataclasses.fields(Config))


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".."])
def test_a_run_name_is_one_folder(name: str) -> None:
    with pytest.raises(ValueError, match=r"run\.name .*one folder name"):
        load_config(None, [f"run.name='{name}'"])


@pytest.mark.parametrize("name", ["con", "Aux", "nul.v2", "COM1"])
def test_a_run_name_is_a_folder_on_windows_too(name: str) -> None:
    with pytest.raises(ValueError, match=r"run\.name is .*; it cannot be a folder on Windows; choose another name"):
        load_config(None, [f"run.name={name}"])
    assert load_config(None, [f"run.name=my{name}"]).run.name == f"my{name}"


def test_a_tilde_in_a_path_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yaml").write_text("data: {root: ~/mine}\neval: {judge: {cache: ~/replies}}\n")
    config = load_config(tmp_path / "config.yaml", ["run.output_dir=~/runs", "sft.photo_prompt=~/{name}"])
    assert config.data.root == f"{tmp_path}/mine" and config.run.folder == tmp_path / "runs" / "run"
    assert config.eval.judge.cache == f"{tmp_path}/replies"
    assert config.sft.photo_prompt == "~/{name}"


@pytest.mark.parametrize(("name", "model"), [("showo-256", "showlab/show-o"), ("showo-512", "showlab/show-o-512x512")])
def test_recipes_of_the_real_model_use_nothing_of_the_toy_world(name: str, model: str) -> None:
    config = apply_recipes([name])
    assert config.model.path == model
    assert "world" not in (config.scorers.clip, config.scorers.judge.url, config.eval.clip, config.eval.judge.url)
    assert (config.model.reading_tokens, config.model.num_tokens) == (16, 24 if name == "showo-512" else 16)
