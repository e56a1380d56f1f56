"""Write the world's concepts in the UniCTokens / UnifyBench++ layout, which the demo reads back."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from sync_r1.constants import WORLD
from sync_r1.data.concepts import QA, Concept, Conditions, Layout, TestItem
from sync_r1.data.prompts import RECOGNITION_QUESTION
from sync_r1.data.write import Picture, write_concept, write_root
from sync_r1.files import write_json
from sync_r1.world import grammar
from sync_r1.world.card import write_card
from sync_r1.world.concepts import Persona, personas
from sync_r1.world.readings import impostor
from sync_r1.world.render import ATTRIBUTES, CONTEXT, CONTEXT_VALUES, IDENTITY, Thing, random_thing, render_image
from sync_r1.world.tasks import implicit_pair

TRAIN_PICTURES, TEST_PICTURES = 10, 5
TEMPORARY = "sync-r1-world-"  # how folders begin that are removed at exit
NEGATIVES = 10  # for testing; as many more, numbered after them, are for training
SAME_PICTURES, OTHER_PICTURES = 40, 60  # of the concept and of look-alikes, for testing alone
TRAIN_PROMPTS, TEST_PROMPTS, DENSE_PROMPTS, PLAIN_PROMPTS = 27, 27, 24, 25


def export_world(
    root: Path | str,
    names: Sequence[str] | None = None,
    seed: int = 7,
    overwrite: bool = False,
    lookalikes: bool = False,
) -> list[str]:
    """Write `names` (default: all twenty) below `root` and return them; with `lookalikes` also the pictures that the
    tasks of look-alikes ask about. ValueError for an unknown name."""
    known = personas(seed)
    if names:
        names = list(names)
    else:
        names = list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"the world has no concept {name!r}; it has {', '.join(known)}")
    rng = np.random.default_rng([seed, 1000])
    root = Path(root)
    write_root(root, [render_image(random_thing(rng)) for _ in range(20)])
    write_json(root / "template.json", {"pure_gen": plain_prompts(np.random.default_rng([seed, 1001]))})
    for name in names:
        index = list(known).index(name)
        streams = [np.random.default_rng([seed, index, *more]) for more in ((), (1,), (2,))]
        concept, pictures = build_concept(root, known[name], *streams)
        write_concept(root, concept, pictures, overwrite=overwrite)
        if lookalikes:
            shown = {picture.tobytes() for picture in pictures.values() if isinstance(picture, Image.Image)}
            write_lookalikes(root, known[name], np.random.default_rng([seed, index, 2]), shown)
    write_card(root)
    return names


def write_lookalikes(root: Path, persona: Persona, rng: np.random.Generator, known: set[bytes]) -> None:
    """Pictures of the concept somewhere new, none of them `known`, and of others in such a place that differ in one
    attribute, each attribute as often."""
    same, other = Layout(root).lookalikes(persona.name)
    shown: list[Image.Image] = []
    while len(shown) < SAME_PICTURES:
        picture = render_image(persona.thing(rng))
        if picture.tobytes() not in known:
            known.add(picture.tobytes())
            shown.append(picture)
    others = []
    for number in range(OTHER_PICTURES):
        attribute = IDENTITY[number % len(IDENTITY)]
        others.append(render_image(impostor(rng, persona.thing(rng), [attribute])))
    for folder, pictures in ((same, shown), (other, others)):
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            picture.save(folder / f"{number}.png")


def data_folder(root: str | Path, names: Sequence[str] | None = None) -> Path:
    """The data root as a folder. "world" writes the embedded world's concepts (`names`, or all) to a temporary folder,
    removed at exit.
    """
    if str(root) != WORLD:
        return Path(root)
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    export_world(folder, names)
    return folder


def plain_prompts(rng: np.random.Generator) -> list[str]:
    """Templates with `{name}` for pure_gen, which take the place of the DreamBooth list: one or two explicit parts
    each."""
    prompts: list[str] = []
    while len(prompts) < PLAIN_PROMPTS:
        context = _context(rng, int(rng.integers(1, 3)))
        prompt = grammar.scene_prompt(grammar.choose(rng, grammar.OPENINGS), "{name}", context)
        if prompt not in prompts:
            prompts.append(prompt)
    return prompts


def build_concept(
    root: Path, persona: Persona, rng: np.random.Generator, more: np.random.Generator, asks: np.random.Generator
) -> tuple[Concept, dict[Path, Picture]]:
    """The concept and its pixels by path: photos in random places, questions about them, drawing prompts, negatives.

    Args:
        rng: draws everything but the negatives for training, which `more` draws, and which values yes-or-no questions
            name, which `asks` draws.
    """
    train, test = Layout(root).train(persona.name), Layout(root).test(persona.name)
    things = _distinct(persona, rng, TRAIN_PICTURES + TEST_PICTURES)
    shots = {train / f"{i}.png": thing for i, thing in enumerate(things[:TRAIN_PICTURES])}
    held = {test / f"{i}.png": thing for i, thing in enumerate(things[TRAIN_PICTURES:])}
    others = {
        train / "negative_example" / f"{i}.png": impostor(rng, persona.thing(rng)) if i % 2 else random_thing(rng)
        for i in range(NEGATIVES)
    }
    spare = {
        train / "negative_example" / f"{NEGATIVES + i}.png": impostor(more, persona.thing(more))
        if i % 2
        else random_thing(more)
        for i in range(NEGATIVES)
    }
    concept = Concept(
        name=persona.name,
        class_noun=persona.identity["kind"],
        category=persona.category,  # type: ignore[arg-type]
        info=persona.info,
        facts=persona.sentences,
        conversation_type="human" if persona.category == "person" else persona.category,
        generation_type="object" if persona.category == "object" else "live_subject",
        num_testing_info=TEST_PROMPTS,
        train_images=list(shots),
        test_images=list(held),
        conversations={path.name: _questions(persona.placeholder, thing, asks) for path, thing in shots.items()},
        items=_items(persona, held, others, asks),
        conditions=_conditions(persona, rng),
    )
    return concept, {path: render_image(thing) for path, thing in {**shots, **held, **others, **spare}.items()}


def _distinct(persona: Persona, rng: np.random.Generator, count: int) -> list[Thing]:
    """No picture twice: one that is in the test was never seen in training."""
    things: dict[bytes, Thing] = {}
    while len(things) < count:
        thing = persona.thing(rng)
        things.setdefault(render_image(thing).tobytes(), thing)
    return list(things.values())


def _questions(placeholder: str, thing: Thing, asks: np.random.Generator) -> list[QA]:
    """To describe it, every attribute, one that yes answers and one that no answers, and how much it holds."""
    asked = [
        QA(grammar.QUESTIONS[name].format(name=placeholder), grammar.answer(name, getattr(thing, name)))
        for name in grammar.QUESTIONS
    ]
    true, false = (str(name) for name in asks.permutation(list(ATTRIBUTES))[:2])
    value = getattr(thing, true)
    other = grammar.choose(asks, [one for one in ATTRIBUTES[false] if one != getattr(thing, false)])
    held = (thing.item != "none") + (thing.spare != "none")
    return [
        QA(grammar.DESCRIBE_QUESTION.format(name=placeholder), grammar.describe(grammar.identity_of(thing))),
        *asked,
        QA(grammar.check_question(placeholder, true, value), "yes"),
        QA(grammar.check_question(placeholder, false, other), "no"),
        QA(grammar.HELD_QUESTION.format(name=placeholder), grammar.NUMBERS[held]),
    ]


def _items(
    persona: Persona, held: dict[Path, Thing], others: dict[Path, Thing], asks: np.random.Generator
) -> list[TestItem]:
    question = RECOGNITION_QUESTION.format(name=persona.placeholder)
    items = [TestItem("rec", path, question, "Yes.") for path in held]
    items += [TestItem("rec", path, question, "No.") for path in others]
    items += [
        TestItem("vqa", path, qa.question, qa.answer)
        for path, thing in held.items()
        for qa in _questions(persona.placeholder, thing, asks)[1:]
    ]
    items += [
        TestItem(
            "text_only",
            None,
            grammar.QUESTIONS[name].format(name=persona.placeholder),
            grammar.answer(name, persona.identity[name]),
        )
        for name in IDENTITY
    ]
    return items


def _context(rng: np.random.Generator, count: int) -> dict[str, str]:
    chosen = [str(name) for name in rng.permutation(CONTEXT)[:count]]
    return {name: grammar.choose(rng, CONTEXT_VALUES[name]) for name in CONTEXT if name in chosen}


# (attribute meant, words used) of every reference, and what is spelled out
Form = tuple[list[tuple[str, str]], str | None]


def _forms(persona: Persona, word: str, dense: bool) -> list[Form]:
    """The ways a private word appears: alone, or beside one spelled-out part; in dense prompts beside another private
    word, a plain reference or a spelled-out part. Never more than one, so that nothing but knowing the concept tells
    which fact is meant."""
    meant = persona.meanings[word]
    first = (meant, grammar.private_reference(word))
    forms: list[Form] = [] if dense else [([first], None)]
    for second, other in persona.meanings.items():
        if other != meant and dense:
            forms.append(([first, (other, grammar.private_reference(second))], None))
            forms.append(([first, (other, grammar.PLAIN_REFERENCES[other])], None))
        if other != meant:
            forms.append(([first], other))
    return forms


def _pairs(persona: Persona, rng: np.random.Generator, count: int, dense: bool) -> list[tuple[str, str]]:
    """Distinct (implicit, explicit) prompts in which words and forms take turns, so that any stretch of the list covers
    them all.
    """
    pools = []
    for word_forms in zip(*(_forms(persona, word, dense) for word in persona.meanings), strict=True):
        for references, spelled in word_forms:
            if spelled:
                extras = [{spelled: value} for value in CONTEXT_VALUES[spelled]]
            else:
                extras = [{}]
            prompts = [(opening, extra) for opening in grammar.OPENINGS for extra in extras]
            order = rng.permutation(len(prompts))
            pools.append(
                [
                    implicit_pair(prompts[i][0], persona.placeholder, persona.facts, references, prompts[i][1], dense)
                    for i in order
                ]
            )
    return [pair for row in zip_longest(*pools) for pair in row if pair is not None][:count]


def _conditions(persona: Persona, rng: np.random.Generator) -> Conditions:
    single = _pairs(persona, rng, TRAIN_PROMPTS + TEST_PROMPTS, dense=False)
    both = _pairs(persona, rng, DENSE_PROMPTS, dense=True)
    dense = [
        grammar.scene_prompt(
            grammar.choose(rng, grammar.OPENINGS), persona.placeholder, _context(rng, 2 + i % 2), dense=True
        )
        for i in range(DENSE_PROMPTS)
    ]
    return Conditions(
        dense=dense,
        implicit=[implicit for implicit, _ in single],
        explicit=[explicit for _, explicit in single],
        dense_implicit=[implicit for implicit, _ in both],
        dense_explicit=[explicit for _, explicit in both],
    )
