"""The world's twenty personal concepts: ten people, five animals, five objects, none of which pretraining has seen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sync_r1.world import grammar
from sync_r1.world.render import ANIMALS, ATTRIBUTES, CONTEXT, CONTEXT_VALUES, OBJECTS, PEOPLE, Thing

NAMES: dict[str, tuple[str, ...]] = {
    "person": ("ana", "ben", "cleo", "dev", "elif", "finn", "gus", "hana", "ivo", "june"),
    "animal": ("bo", "miso", "pip", "rex", "tofu"),
    "object": ("beep", "chai", "lumen", "ming", "sparky"),
}
KINDS = {"person": PEOPLE, "animal": ANIMALS, "object": OBJECTS}


@dataclass(frozen=True)
class Persona:
    """Everything true of one concept."""

    name: str
    category: str
    identity: dict[str, str]  # kind, colour, pattern, mark
    facts: dict[str, str]  # hat, item, scene: what it privately wears, carries, and where it lives
    meanings: dict[str, str]  # private word → the fact it means for this concept, for instance {"treasure": "item"}

    @property
    def placeholder(self) -> str:
        return f"<{self.name}>"

    @property
    def info(self) -> str:
        """The one-line description: "<bo> is a red striped dog with a star."."""
        return f"{self.placeholder} is {grammar.describe(self.identity)}."

    @property
    def sentences(self) -> list[str]:
        """The private facts, one sentence each."""
        return [grammar.fact(self.placeholder, attribute, value) for attribute, value in self.facts.items()]

    def thing(self, rng: np.random.Generator, **context: str) -> Thing:
        """The concept somewhere, wearing and holding something or nothing."""
        drawn = {name: ATTRIBUTES[name][int(rng.integers(len(ATTRIBUTES[name])))] for name in CONTEXT}
        return Thing(**self.identity, **{**drawn, **context}, flip=bool(rng.integers(2)), decor=int(rng.integers(3)))


def _persona(category: str, index: int, seed: int, taken: Collection[tuple[str, str]]) -> Persona:
    rng = np.random.default_rng([seed, list(NAMES).index(category), index])
    while True:
        identity = {name: grammar.choose(rng, values) for name, values in ATTRIBUTES.items() if name not in CONTEXT}
        identity["kind"] = KINDS[category][index % len(KINDS[category])]
        unusual = identity["mark"] != "none" and identity["pattern"] != "plain"
        if grammar.held_out(identity) and unusual and (identity["kind"], identity["colour"]) not in taken:
            break
    order = [str(name) for name in rng.permutation(CONTEXT)]
    facts = {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in order}
    words = [str(word) for word in rng.permutation(grammar.PRIVATE_WORDS)[: len(CONTEXT)]]
    return Persona(
        NAMES[category][index],
        category,
        identity,
        facts,
        dict(zip(words, rng.permutation(CONTEXT).tolist(), strict=True)),
    )


@lru_cache(maxsize=4)
def personas(seed: int = 7) -> dict[str, Persona]:
    """name → persona, in the order people, animals, objects; no two share kind and colour.

    Everything follows from `seed`.
    """
    made: dict[str, Persona] = {}
    for category, names in NAMES.items():
        for index, name in enumerate(names):
            taken = {(persona.identity["kind"], persona.identity["colour"]) for persona in made.values()}
            made[name] = _persona(category, index, seed, taken)
    return made
