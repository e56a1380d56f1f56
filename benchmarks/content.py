"""Is what the applications draw and read right? Stories, pictures of lessons, pairs, and facts from pictures.

    python benchmarks/content.py stories --concepts ivo lumen cleo rex --run "runs/{concept}" --out stories.json
    python benchmarks/content.py lessons --concepts ivo lumen cleo rex --run "runs/{concept}" --out lessons.json
    python benchmarks/content.py pairs --concepts ivo lumen cleo rex --run "runs/{concept}" --out pairs.json
    python benchmarks/content.py facts --concepts ivo lumen cleo rex --out facts.json

Pictures are judged by the evaluator's reader, which never rewards. Without --run the shipped model draws, which knows
no concept. Seeds and lines follow from --seed; tune on the validation concepts named above only.

- stories: share of the stories of which all six pages show the right identity, drawn by name and described in words, as
  drawn at first and after the pages with a mistake got two more seeds.
- lessons: share of the pictures for lessons that are wrong as drawn, of those that pass the check, and of those that
  are shown, because the model also reads the thing's own photos right; and how many facts get a drawing at all.
- pairs: share of the pictures of two concepts in which both have the right identity, the first on the left. With --run
  every concept brings the tokens of its own run, and the first run the weights.
- facts: share of the proposed sentences that are true of a rendered picture, by their agreement; and of what there is
  to find, the share that is proposed.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sync_r1.apps.checked import CheckedDrawing, draw_checked, in_words, reads_its_photos
from sync_r1.apps.facts import read_facts, unknown_thing
from sync_r1.apps.learn import facts_of
from sync_r1.apps.story import TRIES, plan
from sync_r1.apps.together import open_together
from sync_r1.files import write_text
from sync_r1.session import Session
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.concepts import personas
from sync_r1.world.readers import AttributeReader, half
from sync_r1.world.render import CONTEXT, CONTEXT_VALUES, random_thing, render_image

LINES = (
    "{name} finds a {item} {place} and takes it home",
    "{name} puts on a {hat}, goes out {place} and finds a {item}",
    "{name} loses a {item} {place} and then finds a {other}",
)


def seen(reader: AttributeReader, images: Sequence[Image.Image]) -> list[dict[str, str]]:
    """What the evaluator reads in pictures of 32 × 32 pixels."""
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    return reader.read(torch.stack(pixels))


def is_right(found: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(found[name] == value for name, value in wanted.items())


def open_sessions(given: argparse.Namespace) -> dict[str, Session]:
    """A session for every concept: of its run, or of the shipped model."""
    opened = {}
    for name in given.concepts:
        run = None if given.run is None else given.run.format(concept=name)
        opened[name] = Session.open(concept=name, checkpoint=run, device=given.device)
    return opened


def story_line(rng: np.random.Generator, name: str) -> str:
    items = [str(item) for item in rng.permutation(CONTEXT_VALUES["item"])[:2]]
    place = grammar.PLACES[grammar.choose(rng, CONTEXT_VALUES["scene"])]
    hat = grammar.choose(rng, CONTEXT_VALUES["hat"])
    return grammar.choose(rng, LINES).format(name=name, item=items[0], other=items[1], hat=hat, place=place)


def stories(given: argparse.Namespace, reader: AttributeReader) -> dict[str, Any]:
    rows: dict[str, list[dict[str, bool]]] = {}
    for name, session in open_sessions(given).items():
        identity = personas()[name].identity
        for number in range(given.count):
            rng = np.random.default_rng([given.seed, number])
            book = plan(session.concept, story_line(rng, name), 6, seed=1000 * number)
            row = {}
            for way in ("by name", "in words"):
                prompts = [page.prompt for page in book.pages]
                if way == "in words":
                    prompts = [in_words(session, prompt) for prompt in prompts]
                first = [session.draw(prompt, 1, page.seed)[0] for prompt, page in zip(prompts, book.pages)]
                row[f"{way}, first"] = all(is_right(found, identity) for found in seen(reader, first))
                checked = [draw_checked(session, prompt, page.seed, TRIES) for prompt, page in zip(prompts, book.pages)]
                found = seen(reader, [page.image for page in checked])
                row[f"{way}, checked"] = all(is_right(one, identity) for one in found)
            rows.setdefault(name, []).append(row)
    return summarised(rows)


def lessons(given: argparse.Namespace, reader: AttributeReader) -> dict[str, Any]:
    rows: dict[str, list[dict[str, bool]]] = {}
    for name, session in open_sessions(given).items():
        identity, trusted = personas()[name].identity, reads_its_photos(session)
        for number in range(given.count):
            for place, fact in enumerate(facts_of(session.concept)):
                wanted = {**identity, fact.attribute: fact.value}
                seed = 10_000 * number + 100 * place
                first = session.draw(fact.prompt, 1, seed)[0]
                checked: CheckedDrawing = draw_checked(session, fact.prompt, seed, 2, also_in_words=True)
                found = seen(reader, [first, checked.image])
                wrong = [not is_right(one, wanted) for one in found]
                row = {"wrong as drawn": wrong[0], "passes the check": checked.right}
                row["shown"] = checked.right and trusted
                if checked.right:
                    row["wrong after the check"] = wrong[1]
                if row["shown"]:
                    row["wrong of the shown"] = wrong[1]
                rows.setdefault(name, []).append(row)
    return summarised(rows)


def pairs(given: argparse.Namespace, reader: AttributeReader) -> dict[str, Any]:
    rows: dict[str, list[dict[str, bool]]] = {}
    for first, second in zip(given.concepts[::2], given.concepts[1::2], strict=True):
        runs = [] if given.run is None else [given.run.format(concept=name) for name in (first, second)]
        session = open_together([first, second], runs, device=given.device)
        for number in range(given.count):
            rng = np.random.default_rng([given.seed, number])
            place = grammar.PLACES[grammar.choose(rng, CONTEXT_VALUES["scene"])]
            image = session.draw(f"a photo of <{first}> and <{second}> {place}", 1, seed=number)[0]
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
            row = {}
            for side, name in (("left", first), ("right", second)):
                found = reader.read(half(pixels, side))[0]
                row[f"{side} right"] = is_right(found, personas()[name].identity)
            row["both right"] = all(row.values())
            rows.setdefault(f"{first} and {second}", []).append(row)
    return summarised(rows)


def facts(given: argparse.Namespace, reader: AttributeReader) -> dict[str, Any]:
    rows: dict[str, list[dict[str, bool]]] = {}
    for name in given.concepts:
        persona, session = personas()[name], unknown_thing(personas()[name].identity["kind"], device=given.device)
        placeholder = session.concept.placeholder
        for number in range(given.count):
            rng = np.random.default_rng([given.seed, number])
            thing = random_thing(rng, **persona.identity)
            true = set()
            for attribute in CONTEXT:
                value = getattr(thing, attribute)
                if value != "none":
                    true.add(grammar.fact(placeholder, attribute, value))
            proposed = read_facts(session, render_image(thing))
            for one in proposed:
                row = {"true": one.sentence in true}
                row["true where all say so" if one.agreement == 1 else "true where not all do"] = row["true"]
                rows.setdefault(name, []).append(row)
            sentences = {one.sentence for one in proposed}
            rows.setdefault(name, []).extend({"of the true ones proposed": sentence in sentences} for sentence in true)
    return summarised(rows)


def summarised(rows: dict[str, list[dict[str, bool]]]) -> dict[str, Any]:
    """Shares by concept and over all, with the numbers of cases."""
    everything = {**rows, "all": [row for part in rows.values() for row in part]}
    result = {}
    for name, part in everything.items():
        values: dict[str, list[bool]] = {}
        for row in part:
            for key, value in row.items():
                values.setdefault(key, []).append(value)
        result[name] = {key: {"share": round(float(np.mean(one)), 4), "n": len(one)} for key, one in values.items()}
    return result


MEASURES: dict[str, Callable[[argparse.Namespace, AttributeReader], dict[str, Any]]] = {
    "stories": stories,
    "lessons": lessons,
    "pairs": pairs,
    "facts": facts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=list(MEASURES))
    parser.add_argument("--concepts", nargs="+", default=["ivo", "lumen", "cleo", "rex"])
    parser.add_argument("--run", help='a run, with {concept} in place of the name: "runs/{concept}"')
    parser.add_argument("--count", type=int, default=20, help="stories, rounds of facts, or pictures per concept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="the prompt does not mention")  # it is described in words
    result = MEASURES[given.measure](given, load_evaluator_reader())
    text = json.dumps({"measure": given.measure, "run": given.run, "seed": given.seed, **result}, indent=2)
    print(text)
    if given.out is not None:
        write_text(given.out, text + "\n")


if __name__ == "__main__":
    main()
