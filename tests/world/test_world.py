"""The world says what it draws, and concepts stay out of pretraining."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sync_r1.data.concepts import load_concept
from sync_r1.world import grammar, tasks
from sync_r1.world.concepts import personas
from sync_r1.world.export import export_world
from sync_r1.world.render import (
    ANIMALS,
    ATTRIBUTES,
    IDENTITY,
    OBJECTS,
    PEOPLE,
    Pair,
    Still,
    Thing,
    make_pair,
    random_pair,
    random_picture,
    random_still,
    random_thing,
    render,
    render_image,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def vary(thing: Thing, **changes: Any) -> Thing:
    return replace(thing, **changes)


def test_the_world_is_rich_enough() -> None:
    assert len(PEOPLE + ANIMALS + OBJECTS) >= 10
    assert len(ATTRIBUTES["colour"]) >= 8
    assert len(ATTRIBUTES["scene"]) >= 6
    assert [sum(p.category == c for p in personas().values()) for c in ("person", "animal", "object")] == [10, 5, 5]


def test_rendering_is_deterministic_and_every_attribute_shows() -> None:
    thing = Thing(kind="dog", colour="red", pattern="striped", mark="star", hat="cap", item="kite", scene="beach")
    assert render(thing).shape == (32, 32, 3)
    assert render(thing).dtype == np.uint8
    np.testing.assert_array_equal(render(thing), render(thing))
    for name, values in ATTRIBUTES.items():
        pictures = [render(vary(thing, **{name: value})).tobytes() for value in values]
        assert len(set(pictures)) == len(values), name
    for variant in (vary(thing, flip=True), vary(thing, decor=1), vary(thing, decor=2)):
        assert (render(variant) != render(thing)).any()


def test_pixels_are_those_the_shipped_weights_learned() -> None:
    """Any change to sprites or layers needs new weights, and then a new hash here."""
    digest = hashlib.sha256()
    thing = Thing(kind="dog", colour="red", pattern="striped", mark="star", hat="cap", item="kite", scene="beach")
    for flip, decor in ((False, 0), (True, 1), (False, 2)):
        for name, values in ATTRIBUTES.items():
            for value in values:
                digest.update(render(vary(thing, **{name: value}, flip=flip, decor=decor)).tobytes())
    assert digest.hexdigest()[:16] == "fe14ec9f06d73173"


def test_layers_are_where_the_tokens_are() -> None:
    """Each attribute repaints its own cells only; a hat never hides the mark."""
    thing = Thing(kind="robot", colour="blue")
    where = {"mark": ("star", 16, 24, 12, 20), "hat": ("crown", 0, 8, 8, 24), "item": ("kite", 12, 20, 24, 32)}
    for name, (value, top, bottom, left, right) in where.items():
        changed = (render(vary(thing, **{name: value})) != render(thing)).any(-1)
        assert changed[top:bottom, left:right].any(), name
        changed[top:bottom, left:right] = False
        assert not changed.any(), name
    held = vary(thing, item="kite")
    left = render(vary(held, flip=True)) != render(thing)
    np.testing.assert_array_equal(left[:, :8], (render(held) != render(thing))[:, :23:-1])
    assert render_image(thing).mode == "RGB" and (np.asarray(render_image(thing)) == render(thing)).all()


def test_pixels_of_pairs_and_stills_are_those_the_shipped_weights_learned() -> None:
    digest = hashlib.sha256()
    for seed in range(60):
        digest.update(render(random_pair(rng(seed))).tobytes())
        digest.update(render(random_still(rng(seed))).tobytes())
        digest.update(render(random_picture(rng(seed))).tobytes())
    assert digest.hexdigest()[:16] == "ea3502e15b8719bc"


def test_two_characters_are_the_single_ones_moved_aside() -> None:
    left = Thing(kind="robot", colour="blue", mark="star", scene="snow")
    right = Thing(kind="dog", colour="red", hat="crown", scene="snow")
    both = render(Pair(left=left, right=right))
    for thing, columns in ((left, slice(0, 16)), (right, slice(16, 32))):
        alone = render(thing)[:, 8:24]
        body = (alone != render(vary(thing, scene="night"))[:, 8:24]).any(-1)  # what is not background
        np.testing.assert_array_equal(both[:, columns][~body], alone[~body])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"scene": "room"}, "in one place"), ({"item": "kite"}, "right holds 'kite'")],
)
def test_a_pair_is_in_one_place_and_holds_nothing(changes: dict[str, str], message: str) -> None:
    thing = Thing(kind="dog", colour="red", scene="snow")
    with pytest.raises(ValueError, match=message):
        Pair(left=thing, right=vary(thing, **changes))
    assert make_pair(thing, vary(thing, **changes)).right == thing


def test_a_still_shows_its_thing_twice_as_large() -> None:
    with pytest.raises(ValueError, match="what is 'dog'; the world knows cap"):
        Still(what="dog")
    kite = render(Still(what="kite", scene="snow")) != render(Still(what="fish", scene="snow"))
    assert kite[8:24, 8:24].any() and not kite[:8].any() and not kite[:, :8].any()
    assert [Still(what=what).attribute for what in ("crown", "kite")] == ["hat", "item"]


def test_a_second_held_thing_is_in_the_other_hand() -> None:
    held = Thing(kind="dog", colour="red", item="kite", spare="fish")
    kite, fish = Thing(kind="dog", colour="red", item="kite", flip=True), Thing(kind="dog", colour="red", item="fish")
    np.testing.assert_array_equal(render(held)[:, :8], render(kite)[:, :8])
    np.testing.assert_array_equal(render(held)[:, 24:], render(fish)[:, 24:])
    with pytest.raises(ValueError, match="spare is 'fish' where nothing is held"):
        Thing(kind="dog", colour="red", spare="fish")


def test_random_pictures_are_of_every_sort() -> None:
    pictures = [random_picture(rng(seed)) for seed in range(400)]
    singles = [picture for picture in pictures if isinstance(picture, Thing)]
    assert 0.5 < len(singles) / 400 < 0.7 and sum(isinstance(picture, Still) for picture in pictures) > 20
    assert 0.05 < np.mean([thing.spare != "none" for thing in singles]) < 0.3


def test_random_things_cover_every_value_and_keep_what_is_fixed() -> None:
    things = [random_thing(rng(seed), kind="cat", hat="none") for seed in range(200)]
    for name, values in ATTRIBUTES.items():
        allowed = {"kind": {"cat"}, "hat": {"none"}}.get(name, set(values))
        assert {getattr(thing, name) for thing in things} == allowed
    assert {(thing.flip, thing.decor) for thing in things} == {
        (flip, decor) for flip in (False, True) for decor in range(3)
    }


def test_unknown_attribute_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"hat is 'sombrero'; the world knows none, cap"):
        Thing(kind="dog", colour="red", hat="sombrero")


def test_parse_inverts_the_grammar() -> None:
    for seed in range(200):
        thing = random_thing(rng(seed))
        caption = grammar.scene_prompt(
            "a photo of", grammar.describe(grammar.identity_of(thing)), grammar.context_of(thing), dense=seed % 2 == 0
        )
        spoken = {
            name: value
            for name, value in vars(thing).items()
            if name in ATTRIBUTES and (value != "none" or name == "mark")
        }
        assert grammar.parse(caption) == spoken


def test_parse_reads_whole_words_only() -> None:
    assert grammar.parse("a womanly bored capsule in a starry bookshop") == {}
    assert grammar.parse("a cap, and a bow") == {"hat": "cap"}


def test_sentences_by_hand() -> None:
    assert (
        grammar.describe({"kind": "vase", "colour": "orange", "pattern": "plain", "mark": "none"})
        == "an orange plain vase with no mark"
    )
    assert grammar.describe({"kind": "dog", "mark": "star"}) == "a dog with a star"
    assert grammar.phrase("item", "none") == ""
    facts = [grammar.fact("<bo>", *pair) for pair in (("hat", "crown"), ("item", "apple"), ("scene", "night"))]
    assert facts == ["<bo> wears a crown.", "<bo> carries an apple.", "<bo> lives under the night sky."]
    assert grammar.private_reference("joy") == "with its joy"
    said = [
        ("kind", "dog"),
        ("colour", "red"),
        ("mark", "none"),
        ("mark", "star"),
        ("hat", "none"),
        ("item", "kite"),
        ("scene", "snow"),
    ]
    assert [grammar.answer(*pair) for pair in said] == [
        "a dog",
        "red",
        "no mark",
        "a star",
        "nothing",
        "a kite",
        "in the snow",
    ]


def test_pretraining_never_sees_a_concept() -> None:
    identities = [persona.identity for persona in personas().values()]
    assert len({(identity["kind"], identity["colour"]) for identity in identities}) == 20
    assert all(grammar.held_out(identity) for identity in identities)
    for seed in range(300):
        assert not grammar.held_out(grammar.identity_of(tasks.training_thing(rng(seed))))
    everyone = [dict(zip(IDENTITY, values)) for values in product(*(ATTRIBUTES[name] for name in IDENTITY))]
    assert sum(map(grammar.held_out, everyone)) == len(everyone) / 8
    first = {name: ATTRIBUTES[name][0] for name in IDENTITY}
    assert grammar.held_out(first)
    assert not any(grammar.held_out({**first, name: ATTRIBUTES[name][1]}) for name in IDENTITY)


def test_export_reads_back_without_leaks(tmp_path: Path) -> None:
    assert export_world(tmp_path, ["bo", "ana"]) == ["bo", "ana"]
    persona, concept = personas()["bo"], load_concept(tmp_path, "bo")
    assert concept.facts == persona.sentences
    assert concept.category == "animal"
    assert load_concept(tmp_path, "ana").category == "person"
    conditions = concept.conditions
    assert set(concept.rl_indices).isdisjoint(concept.test_indices)
    assert len(set(conditions.implicit + conditions.dense_implicit)) == len(conditions.implicit) + len(
        conditions.dense_implicit
    )
    for implicit, explicit in zip(conditions.implicit, conditions.explicit):
        word = implicit.split("with its ")[1].split()[0].strip(",")
        attribute = persona.meanings[word]
        assert grammar.parse(explicit)[attribute] == persona.facts[attribute]
        assert attribute not in grammar.parse(implicit)
    seen = {path.read_bytes() for path in concept.train_images}
    assert seen.isdisjoint(path.read_bytes() for path in concept.test_images)


def test_export_twice_is_equal_and_refuses_to_overwrite(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        export_world(tmp_path / folder, ["pip"])
    files = [
        sorted(path.relative_to(tmp_path / f) for path in (tmp_path / f).rglob("*") if path.is_file())
        for f in ("one", "two")
    ]
    assert files[0] == files[1]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files[0])
    with pytest.raises(ValueError, match="is taken by 'pip' in"):
        export_world(tmp_path / "one", ["pip"])
    with pytest.raises(ValueError, match=r"no concept 'zed'; it has ana"):
        export_world(tmp_path / "three", ["zed"])


def test_keywords_always_name_the_kind() -> None:
    identity = {"kind": "dog", "colour": "red", "pattern": "plain", "mark": "none"}
    drawn = [grammar.keywords(rng(seed), identity, 4) for seed in range(50)]
    assert all(len(words) == 4 and "dog" in words and "none" not in words for words in drawn)
    assert set(IDENTITY) == set(identity)
